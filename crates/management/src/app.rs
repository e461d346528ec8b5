//! What all requests share. Module `router` says which path leads where.
//!
//! Owns the bounds: how many requests may wait, how many bytes of bodies may be under way.

use std::sync::Arc;

use crate::caller::Caller;
use crate::follow::Follower;
use crate::names::Names;
use crate::pool::{Exhausted, Pool, Share};
use crate::ports::{OutcomeQuery, Ports};
use crate::problem::{Answer, Kind, Problem};
use crate::stopping::Stopping;
use crate::view::Sight;
use crate::webhooks::Webhooks;

/// Bytes of larger request bodies that may be under way at once.
const BODY_ROOM_BYTES: usize = 256 << 20;
/// Bytes of larger answers that may be under way at once.
const ANSWER_ROOM_BYTES: usize = 256 << 20;
/// What a request has around its payload: its other fields, and the escapes JSON needs in a few of
/// them.
const ENVELOPE_BYTES: usize = 256 << 10;

/// See the module's documentation. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    ports: Ports,
    /// None if there is no HTTP server.
    webhooks: Option<Webhooks>,
    waiting: Arc<Pool>,
    body_room: Arc<Pool>,
    answer_room: Arc<Pool>,
    names: Names,
    stopping: Stopping,
}

impl App {
    pub(crate) fn new(
        ports: Ports,
        webhooks: Option<Webhooks>,
        waiting_count_max: usize,
        names: Names,
        stopping: Stopping,
    ) -> Self {
        Self(Arc::new(Inner {
            ports,
            webhooks,
            waiting: Pool::new(waiting_count_max),
            body_room: Pool::new(BODY_ROOM_BYTES),
            answer_room: Pool::new(ANSWER_ROOM_BYTES),
            names,
            stopping,
        }))
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.0.ports
    }

    /// What a caller sees in a virtual host (`/` if none is named) that exists and that it may
    /// enter.
    pub(crate) fn sight(&self, caller: &Caller, vhost: Option<String>) -> Answer<Sight> {
        let vhost = vhost.unwrap_or_else(|| "/".to_owned());
        if caller.may_enter(self.ports(), &vhost) {
            return Ok(Sight::new(self.ports(), caller, &vhost));
        }
        let user = caller.name();
        let detail = format!("there is no virtual host '{vhost}' that user '{user}' may enter");
        Err(Problem::new(Kind::UnknownVhost, detail))
    }

    /// The webhooks.
    pub(crate) fn webhooks(&self) -> Answer<&Webhooks> {
        let none = || Problem::new(Kind::UnknownPath, "this server has no HTTP, so no webhooks");
        self.0.webhooks.as_ref().ok_or_else(none)
    }

    /// The largest body of a request: the largest message in base64, and what is around it.
    pub(crate) fn body_bytes_max(&self) -> usize {
        let message =
            usize::try_from(self.ports().messages.message_bytes_max()).unwrap_or(usize::MAX / 4);
        message / 3 * 4 + ENVELOPE_BYTES
    }

    /// The names under which this server is known.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    /// Room for the body of one request; given back when dropped.
    pub(crate) fn room_for_body(&self, caller: &Caller, bytes: usize) -> Answer<Share> {
        // A single body of any allowed size always fits.
        let room = self.0.body_room.take(caller.name(), bytes.min(BODY_ROOM_BYTES));
        room.map_err(|exhausted| {
            busy(caller, exhausted, "large requests are under way; try again in a second")
        })
    }

    /// Room for one large answer; given back when dropped.
    pub(crate) fn room_for_answer(&self, caller: &Caller, bytes: usize) -> Answer<Share> {
        let room = self.0.answer_room.take(caller.name(), bytes.min(ANSWER_ROOM_BYTES));
        room.map_err(|exhausted| {
            busy(caller, exhausted, "large answers are being read; read them, or ask for less")
        })
    }

    /// A place among the requests that wait; given back when dropped.
    pub(crate) fn place_to_wait(&self, caller: &Caller) -> Answer<Share> {
        self.0.waiting.take(caller.name(), 1).map_err(|exhausted| {
            let what = "requests wait already; try again in a second, or ask without waiting";
            busy(caller, exhausted, what)
        })
    }

    /// Returns when the server stops.
    pub(crate) async fn stopping(&self) {
        self.0.stopping.clone().stopped().await;
    }

    /// Follows outcomes until the server stops.
    pub(crate) fn follower(&self, query: OutcomeQuery) -> Follower {
        Follower::new(Arc::clone(&self.ports().messages), self.0.stopping.clone(), query)
    }
}

fn busy(caller: &Caller, exhausted: Exhausted, what: &str) -> Problem {
    let detail = match exhausted {
        Exhausted::ByAll => format!("too many {what}"),
        Exhausted::ByUser => format!("too many of user '{}'s {what}", caller.name()),
    };
    Problem::new(Kind::Busy, detail)
}
