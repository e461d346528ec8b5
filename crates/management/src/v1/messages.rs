//! One message: look it up, wait for its outcome, cancel it, have it tried again.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger::{Outcome, Publication, QueueStory};
use node::ByIdError;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Id, Params};
use crate::problem::{Answer, Kind, Problem};
use crate::v1::outcomes::json;
use crate::view::{MessageView, Seen, Sight};

/// How long a request may wait.
pub(crate) const WAIT_S_MAX: u64 = 60;
/// Who waits looks no more often than this, however much happens to other messages.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowParams {
    vhost: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitParams {
    vhost: Option<String>,
    wait: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueParams {
    vhost: Option<String>,
    queue: Option<String>,
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<ShowParams>,
) -> Answer {
    let sight = caller.sight(&app, params.vhost)?;
    let seen = app.look_for_known(&sight, &id).await?;
    Ok(json(&MessageView::new(&seen).ok_or_else(|| unknown(&id))?))
}

/// Answers when the message is settled everywhere, or time is up.
pub(crate) async fn wait_for_outcome(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Answer {
    let sight = caller.sight(&app, params.vhost)?;
    let wait = wait(params.wait)?;
    // What may not be seen is not waited for: it is as unknown as what nobody has heard of.
    if app.look_for_known(&sight, &id).await?.newest().is_none() {
        return Err(unknown(&id));
    }
    let seen = watch(&app, &sight, &id, wait, |seen| is_settled(seen.newest())).await?;
    let view = MessageView::new(&seen).ok_or_else(|| unknown(&id))?;
    Ok(settled_or_not(seen.newest(), json(&view)))
}

/// Looks at a message until what is seen of it is as it should be, nothing is seen of it any more,
/// time is up or the server stops.
pub(crate) async fn watch(
    app: &App,
    sight: &Sight,
    id: &str,
    wait: Duration,
    is_enough: impl Fn(&Seen) -> bool,
) -> Answer<Seen> {
    let deadline = Instant::now() + wait;
    let mut place = None;
    loop {
        // Before looking, so that nothing is missed between.
        let changed = app.node().ledger_changed();
        let looked_at = Instant::now();
        let seen = app.look(sight, id).await?;
        if seen.newest().is_none() || is_enough(&seen) || looked_at >= deadline {
            return Ok(seen);
        }
        if place.is_none() {
            place = Some(app.place_to_wait()?);
        }
        tokio::select! {
            // Elapsed or changed: either way look once more.
            _ = timeout_at(deadline, changed) => {}
            () = app.stopping() => return Ok(seen),
        }
        sleep_until((looked_at + LOOK_AGAIN).min(deadline)).await;
    }
}

/// Whether there is an outcome in all queues that are seen.
pub(crate) fn is_settled(publication: Option<&Publication>) -> bool {
    publication.is_some_and(|publication| publication.outcome().is_some())
}

/// 200 for a message that is settled, 202 for one that is not.
pub(crate) fn settled_or_not(of: Option<&Publication>, mut response: Response) -> Response {
    if !is_settled(of) && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<QueueParams>,
) -> Answer {
    let fits = |queue: &QueueStory| queue.outcome().is_none();
    let (sight, queue) = target(&app, &caller, &id, params, fits).await?;
    let (node, for_node) = (app.node().clone(), (sight.vhost().to_owned(), queue, id.clone()));
    let cancelled = app.blocking(move || {
        let (vhost, queue, id) = &for_node;
        node.cancel_message(vhost, queue, id)
    });
    cancelled.await?.map_err(problem)?;
    // Who looks now sees it.
    app.look_now(&sight, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn retry(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<QueueParams>,
) -> Answer {
    let failed = |outcome| !matches!(outcome, Outcome::Processed | Outcome::Unroutable);
    let fits = |queue: &QueueStory| queue.outcome().is_some_and(failed);
    let (sight, queue) = target(&app, &caller, &id, params, fits).await?;
    let vhost = sight.vhost();
    if !app.node().may(vhost, caller.name(), node::auth::Access::Write, "") {
        let user = caller.name();
        let detail = format!("user '{user}' may not publish to the default exchange of '{vhost}'");
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let (node, for_node) = (app.node().clone(), (vhost.to_owned(), queue, id.clone()));
    let retried = app.blocking(move || {
        let (vhost, queue, id) = &for_node;
        node.retry_message(vhost, queue, id)
    });
    retried.await?.map_err(problem)?;
    // Who looks now sees it.
    app.look_now(&sight, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What the caller sees, and the queue that is meant: the one that was named, or the only one that
/// fits. Checks that the caller may read the message and change the queue.
async fn target(
    app: &App,
    caller: &Caller,
    id: &str,
    params: QueueParams,
    fits: impl Fn(&QueueStory) -> bool,
) -> Answer<(Sight, String)> {
    let sight = caller.sight(app, params.vhost)?;
    let seen = app.look_now(&sight, id).await?;
    let newest = seen.newest().ok_or_else(|| unknown(id))?;
    let queue = match params.queue {
        Some(queue) if queue.is_empty() => {
            let detail = "query: queue is empty; name a queue, or leave it out";
            return Err(Problem::bad(detail));
        }
        Some(queue) => queue,
        None => only_queue(newest, fits)?,
    };
    if !sight.sees(&queue) {
        return Err(unknown(id));
    }
    caller.check_change(app, sight.vhost(), &queue)?;
    Ok((sight, queue))
}

/// The queue that is meant when none is named, of those that are seen.
fn only_queue(newest: &Publication, fits: impl Fn(&QueueStory) -> bool) -> Answer<String> {
    let all: Vec<&QueueStory> =
        newest.all_queues().filter(|queue| !queue.name.is_empty()).collect();
    let fitting: Vec<&QueueStory> = all.iter().copied().filter(|queue| fits(queue)).collect();
    // Where none fits the node says why, if there is just one that could be asked about.
    let chosen = if fitting.is_empty() { all } else { fitting };
    match chosen.as_slice() {
        [queue] => Ok(queue.name.clone()),
        [] => Err(Problem::new(Kind::NotFailed, "the message reached no queue; publish it again")),
        several => {
            let names: Vec<&str> = several.iter().map(|queue| queue.name.as_str()).collect();
            let names = names.join("', '");
            let detail = format!("name one of '{names}' with the query parameter queue");
            Err(Problem::new(Kind::AmbiguousQueue, detail))
        }
    }
}

pub(crate) fn problem(error: ByIdError) -> Problem {
    let kind = match &error {
        ByIdError::Unknown => Kind::UnknownMessage,
        ByIdError::Delivered => Kind::BeingWorkedOn,
        ByIdError::Settled => Kind::AlreadySettled,
        ByIdError::NotFailed => Kind::NotFailed,
        ByIdError::ContentGone => Kind::ContentGone,
        ByIdError::QueueGone(_) => Kind::QueueGone,
        _ => return Problem::store(error),
    };
    Problem::new(kind, error.to_string())
}

pub(crate) fn wait(seconds: Option<u64>) -> Answer<Duration> {
    match seconds.unwrap_or(0) {
        seconds @ 0..=WAIT_S_MAX => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(Problem::bad(format!("query: wait is a number of seconds from 0 to {WAIT_S_MAX}")))
        }
    }
}

fn unknown(id: &str) -> Problem {
    let detail = format!(
        "no message with the id '{id}' is known in this virtual host that this user may read"
    );
    Problem::new(Kind::UnknownMessage, detail)
}

#[cfg(test)]
mod tests {
    use ledger::State;

    use super::*;

    #[test]
    fn the_only_queue_that_fits_is_meant() {
        let check = |queues: &[(&str, State)], expected: Result<&str, Kind>| {
            let story = |(name, state): &(&str, State)| QueueStory {
                name: (*name).to_owned(),
                state: *state,
                ..QueueStory::default()
            };
            let queues = queues.iter().map(story).collect();
            let publication = Publication { queues, ..Publication::default() };
            let fits = |queue: &QueueStory| queue.state == State::Queued;
            let found = only_queue(&publication, fits);
            let found = found.as_deref().map_err(Problem::kind);
            assert_eq!(found, expected);
        };
        use State::{Queued, Settled};
        check(&[("a", Queued)], Ok("a"));
        check(&[("a", Settled)], Ok("a"));
        check(&[("a", Settled), ("b", Queued)], Ok("b"));
        check(&[("a", Queued), ("b", Queued)], Err(Kind::AmbiguousQueue));
        check(&[("a", Settled), ("b", Settled)], Err(Kind::AmbiguousQueue));
        check(&[], Err(Kind::NotFailed));
    }

    #[test]
    fn each_refusal_has_its_status() {
        let check = |error: ByIdError, status: u16| {
            assert_eq!(problem(error).kind().status().as_u16(), status);
        };
        check(ByIdError::Unknown, 404);
        check(ByIdError::Delivered, 409);
        check(ByIdError::Settled, 409);
        check(ByIdError::NotFailed, 409);
        check(ByIdError::ContentGone, 410);
        check(ByIdError::QueueGone("q".to_owned()), 410);
        check(ByIdError::Store("x".to_owned()), 500);
    }

    #[test]
    fn waiting_is_bounded() {
        assert_eq!(wait(None).ok(), Some(Duration::ZERO));
        assert_eq!(wait(Some(60)).ok(), Some(Duration::from_secs(60)));
        assert!(wait(Some(61)).is_err());
    }
}
