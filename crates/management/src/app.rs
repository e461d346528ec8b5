//! What all requests share, and the table of paths.
//!
//! Owns the bounds: requests that wait, bytes of bodies under way. Blocking work (the ledger's disk) goes to threads of its own, never onto the runtime's.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger::{IdHash, OutcomeQuery, OutcomesPage};
use node::Node;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth;
use crate::extract::Id;
use crate::follow::Follower;
use crate::problem::{Answer, Kind, Problem};
use crate::stopping::Stopping;
use crate::v1::{events, messages, outcomes, publish, webhooks};
use crate::view::{Seen, Sight};
use crate::webhooks::Webhooks;

/// Bytes of bodies that may be under way at once, over those of single requests.
const BODY_ROOM_BYTES: usize = 256 << 20;
/// What a request has around its payload: other fields, JSON's escapes of a few of them.
const ENVELOPE_BYTES: usize = 256 << 10;
/// The description of everything below.
const OPENAPI: &str = include_str!("../openapi.json");

/// See the module's documentation. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    webhooks: Webhooks,
    waiting: Arc<Semaphore>,
    body_room: Arc<Semaphore>,
    stopping: Stopping,
}

impl App {
    pub(crate) fn new(
        node: Arc<Node>,
        webhooks: Webhooks,
        waiting_count_max: usize,
        stopping: Stopping,
    ) -> Self {
        Self(Arc::new(Inner {
            node,
            webhooks,
            waiting: Arc::new(Semaphore::new(waiting_count_max)),
            body_room: Arc::new(Semaphore::new(BODY_ROOM_BYTES)),
            stopping,
        }))
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.0.webhooks
    }

    /// The largest body of a request: the largest message, in base64, and what is around it.
    pub(crate) fn body_bytes_max(&self) -> usize {
        let message = usize::try_from(self.node().message_bytes_max()).unwrap_or(usize::MAX / 4);
        message / 3 * 4 + ENVELOPE_BYTES
    }

    /// Room for the body of one request; given back when dropped.
    pub(crate) fn room_for_body(&self, bytes: usize) -> Answer<OwnedSemaphorePermit> {
        // One body of any allowed size always fits.
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

    /// Does what may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Answer<T> {
        tokio::task::spawn_blocking(work).await.map_err(Problem::store)
    }

    /// What may be seen of a message at this moment, also what the ledger has not followed yet.
    /// Costs a commit of the store.
    pub(crate) async fn look_now(&self, sight: &Sight, id: &str) -> Answer<Seen> {
        let of = (sight.vhost().to_owned(), id.to_owned());
        let node = Arc::clone(self.node());
        let events = self.blocking(move || node.events_now(&of.0, &of.1)).await?;
        Ok(sight.look(id, events.map_err(messages::problem)?))
    }

    /// What may be seen of a message, but perhaps for the last moment. Who was just told that a
    /// message is published finds it, though.
    pub(crate) async fn look_for_known(&self, sight: &Sight, id: &str) -> Answer<Seen> {
        let seen = self.look(sight, id).await?;
        if seen.newest().is_none() { self.look_now(sight, id).await } else { Ok(seen) }
    }

    /// What may be seen of a message as far as the ledger has followed.
    pub(crate) async fn look(&self, sight: &Sight, id: &str) -> Answer<Seen> {
        let (node, hash) = (Arc::clone(self.node()), IdHash::new(sight.vhost(), id));
        let events = self.blocking(move || node.ledger().events(hash)).await?;
        Ok(sight.look(id, events.map_err(Problem::store)?))
    }

    /// A page of outcomes.
    pub(crate) async fn outcomes(&self, query: OutcomeQuery) -> Answer<OutcomesPage> {
        let node = Arc::clone(self.node());
        self.blocking(move || node.ledger().outcomes(&query)).await?.map_err(Problem::store)
    }

    /// Follows outcomes until the server stops.
    pub(crate) fn follower(&self, query: OutcomeQuery) -> Follower {
        Follower::new(Arc::clone(self.node()), self.0.stopping.clone(), query)
    }

    /// The paths, and what serves them.
    pub(crate) fn router(self) -> Router {
        let guarded = Router::new()
            .route("/v1/messages", post(publish::publish))
            .route("/v1/messages/{id}", get(messages::show).delete(messages::cancel))
            .route("/v1/messages/{id}/outcome", get(messages::wait_for_outcome))
            .route("/v1/messages/{id}/retry", post(messages::retry))
            .route("/v1/outcomes", get(outcomes::list))
            .route("/v1/events", get(events::serve))
            .route("/v1/webhooks", get(webhooks::list).post(webhooks::add))
            .route(
                "/v1/webhooks/{id}",
                get(webhooks::show).patch(webhooks::change).delete(webhooks::delete),
            )
            .route("/v1/webhooks/{id}/test", post(webhooks::test))
            .method_not_allowed_fallback(method_not_allowed)
            .route_layer(middleware::from_fn_with_state(self.clone(), auth::authenticate));
        let open = Router::new()
            .route("/v1/openapi.json", get(openapi))
            .route("/problems/{name}", get(problem_page))
            .method_not_allowed_fallback(method_not_allowed);
        guarded.merge(open).fallback(unknown_path).with_state(self)
    }
}

fn busy(detail: &str) -> Problem {
    Problem::new(Kind::Busy, detail)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn problem_page(State(_): State<App>, Id(name): Id) -> Answer {
    let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
    let Some(kind) = kind else { return Err(unknown_path().await) };
    let text = format!("{} ({})\n\n{}\n", kind.title(), kind.status(), kind.page());
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((StatusCode::OK, headers, text).into_response())
}

async fn unknown_path() -> Problem {
    Problem::new(Kind::UnknownPath, "GET /v1/openapi.json lists the paths there are")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "use one of the methods in the header Allow")
}
