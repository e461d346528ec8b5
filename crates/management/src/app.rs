//! What all requests share. Module `router` says which path leads where.
//!
//! Owns the bounds: how many requests may wait, how many bytes of bodies may be under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::Caller;
use crate::follow::Follower;
use crate::ports::{OutcomeQuery, Ports};
use crate::problem::{Answer, Kind, Problem};
use crate::stopping::Stopping;
use crate::view::Sight;
use crate::webhooks::Webhooks;

/// Bytes of larger request bodies that may be under way at once.
const BODY_ROOM_BYTES: usize = 256 << 20;
/// What a request has around its payload: its other fields, and the escapes JSON needs in a few of
/// them.
const ENVELOPE_BYTES: usize = 256 << 10;

/// See the module's documentation. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    ports: Ports,
    webhooks: Webhooks,
    waiting: Arc<Semaphore>,
    body_room: Arc<Semaphore>,
    stopping: Stopping,
}

impl App {
    pub(crate) fn new(
        ports: Ports,
        webhooks: Webhooks,
        waiting_count_max: usize,
        stopping: Stopping,
    ) -> Self {
        Self(Arc::new(Inner {
            ports,
            webhooks,
            waiting: Arc::new(Semaphore::new(waiting_count_max)),
            body_room: Arc::new(Semaphore::new(BODY_ROOM_BYTES)),
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

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.0.webhooks
    }

    /// The largest body of a request: the largest message in base64, and what is around it.
    pub(crate) fn body_bytes_max(&self) -> usize {
        let message =
            usize::try_from(self.ports().messages.message_bytes_max()).unwrap_or(usize::MAX / 4);
        message / 3 * 4 + ENVELOPE_BYTES
    }

    /// Room for the body of one request; given back when dropped.
    pub(crate) fn room_for_body(&self, bytes: usize) -> Answer<OwnedSemaphorePermit> {
        // A single body of any allowed size always fits.
        let bytes = u32::try_from(bytes.min(BODY_ROOM_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.body_room).try_acquire_many_owned(bytes);
        room.map_err(|_| busy("too many large requests are under way; try again in a second"))
    }

    /// A place among the requests that wait; given back when dropped.
    pub(crate) fn place_to_wait(&self) -> Answer<OwnedSemaphorePermit> {
        Arc::clone(&self.0.waiting).try_acquire_owned().map_err(|_| {
            busy("too many requests wait already; try again in a second, or ask without waiting")
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

fn busy(detail: &str) -> Problem {
    Problem::new(Kind::Busy, detail)
}
