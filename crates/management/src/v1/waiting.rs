//! Waiting for the outcome of a message: long polls. Each has a place among those that wait.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::app::App;
use crate::pool::Share;
use crate::ports::{Freshness, Publication};
use crate::problem::{Answer, Kind, Problem};
use crate::view::{Seen, Sight};

/// How long to wait between two looks, however much happens to other messages.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks at a message until what is seen of it is as wanted, nothing is seen of it any more, time
/// is up, or the server is stopping. `place` is one to wait at, if the caller has taken it already.
pub(super) async fn watch(
    app: &App,
    sight: &Sight,
    id: &str,
    wait: Duration,
    mut place: Option<Share>,
    is_enough: impl Fn(&Seen) -> bool,
) -> Answer<Seen> {
    let deadline = Instant::now() + wait;
    loop {
        // Asked for before looking, so that no change in between is missed.
        let (changed, may_close) = (app.ports().messages.changed(), sight.may_close());
        let looked_at = Instant::now();
        if !sight.is_open() {
            let detail = "the user was deleted, or may not enter the virtual host any more";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        let seen = sight.look(id, Freshness::Told).await?;
        if seen.newest().is_none() || is_enough(&seen) || looked_at >= deadline {
            return Ok(seen);
        }
        // It may be large, and many may wait.
        drop(seen);
        if place.is_none() {
            place = Some(app.place_to_wait(sight.caller())?);
        }
        tokio::select! {
            // Time is up or something has changed: either way, look once more.
            _ = timeout_at(deadline, changed) => {}
            () = may_close => {}
            () = app.stopping() => return Ok(sight.look(id, Freshness::Told).await?),
        }
        sleep_until((looked_at + LOOK_AGAIN).min(deadline)).await;
    }
}

/// Whether there is an outcome in all queues that are seen.
pub(super) fn is_settled(publication: Option<&Publication>) -> bool {
    publication.is_some_and(|publication| publication.outcome().is_some())
}

/// 200 for a message that is settled, 202 for one that is not.
pub(super) fn settled_or_not(of: Option<&Publication>, mut response: Response) -> Response {
    if !is_settled(of) && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}
