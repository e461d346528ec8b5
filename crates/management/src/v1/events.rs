//! Outcomes as they happen: `GET /v1/events`, server-sent events (HTML standard, section 9.2).
//!
//! Every event is read by its cursor, which is the event's id: a reader that comes back with the
//! last id it saw (`Last-Event-ID`) misses nothing and gets nothing twice. Nothing is kept per
//! reader but the cursor and one page: a slow reader just reads later.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::parameters;
use crate::app::App;
use crate::caller::Caller;
use crate::extract::Params;
use crate::follow::Follower;
use crate::pool::Share;
use crate::ports::{Cursor, OutcomeQuery};
use crate::problem::Answer;
use crate::time::now_ms;
use crate::view::{OutcomeView, Sight};

/// How many outcomes are read at once.
const PAGE: usize = 100;
/// How often a feed without events says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a reader should wait before it reconnects, ms.
const RECONNECT_MS: u64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedParams {
    vhost: Option<String>,
    queue: Option<String>,
    outcome: Option<String>,
    after: Option<String>,
}

pub(crate) async fn serve(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Params(params): Params<FeedParams>,
) -> Answer {
    let sight = app.sight(&caller, params.vhost)?;
    let cursor = |name, text| parameters::cursor(app.ports(), name, text);
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = match last_id.filter(|id| !id.is_empty()) {
        Some(id) => Some(cursor("Last-Event-ID", id)?),
        None => params.after.as_deref().map(|text| cursor("after", text)).transpose()?,
    };
    // A reader that has no cursor yet starts with what is settled from now on.
    let since_ms = after.is_none().then(now_ms);
    let query = OutcomeQuery {
        after,
        limit: PAGE,
        vhost: Some(sight.vhost().to_owned()),
        queue: params.queue,
        outcome: params.outcome.as_deref().map(parameters::outcome).transpose()?,
        since_ms,
        until_ms: None,
    };
    let place = app.place_to_wait(&caller)?;
    let follower = app.follower(query);
    let beginning = app.ports().messages.beginning();
    let feed = Feed { follower, sight, beginning, is_new: true, _place: place };
    let body = Body::from_stream(stream::unfold(feed, Feed::next));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let response: Response = (headers, body).into_response();
    Ok(response)
}

/// A feed that is being read.
struct Feed {
    follower: Follower,
    sight: Sight,
    /// The cursor of a reader that has seen nothing yet.
    beginning: Cursor,
    is_new: bool,
    _place: Share,
}

impl Feed {
    /// The next piece of the body; `None` when the server stops, outcomes cannot be read, or the reader
    /// is no longer let in.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let mut text = String::new();
        if std::mem::take(&mut self.is_new) {
            text = format!("retry: {RECONNECT_MS}\n\n");
            // Writes what is there already, or the place after which new events will come.
            if let Ok(true) = self.follower.look().await {
                self.write_events(&mut text);
            }
            self.write_place(&mut text);
            return Some((Ok(text.into()), self));
        }
        // Events hidden from this reader pass without a trace; they do not even change when the
        // reader is told that the feed is alive.
        let quiet_until = Instant::now() + KEEP_ALIVE;
        while text.is_empty() {
            let may_close = self.sight.may_close();
            if !self.sight.is_open() {
                return None;
            }
            let found = tokio::select! {
                found = timeout_at(quiet_until, self.follower.wait()) => found,
                () = may_close => continue,
            };
            match found {
                Ok(Some(())) => self.write_events(&mut text),
                Ok(None) => return None,
                Err(_) => {
                    text.push_str(": still here\n\n");
                    self.write_place(&mut text);
                }
            }
        }
        Some((Ok(text.into()), self))
    }

    fn write_events(&mut self, text: &mut String) {
        for event in self.follower.take() {
            let Some(view) = OutcomeView::new(&self.sight, &event) else { continue };
            let (id, name) = (&event.cursor, event.settled.verdict.outcome.name());
            // JSON on one line: the encoder writes no line breaks.
            let data = serde_json::to_string(&view).unwrap_or_default();
            text.push_str(&format!("id: {id}\nevent: {name}\ndata: {data}\n\n"));
        }
    }

    /// Writes an id without an event: the reader remembers it and raises no event.
    fn write_place(&mut self, text: &mut String) {
        // Without a cursor nothing has happened yet: everything comes after the beginning.
        let after = self.follower.cursor().unwrap_or(&self.beginning);
        text.push_str(&format!("id: {after}\n\n"));
    }
}
