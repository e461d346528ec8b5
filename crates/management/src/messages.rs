//! One message: look it up, wait for its outcome, cancel it, have it tried again.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger::{Outcome, QueueStory, Timeline};
use node::ByIdError;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Id, Params};
use crate::outcomes::json;
use crate::problem::{Answer, Kind, Problem};
use crate::view::MessageView;

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
    let vhost = vhost(&app, &caller, params.vhost)?;
    let timeline = Timeline::new(app.events_of_known(&vhost, &id).await?);
    Ok(json(&visible(&app, &caller, &vhost, &id, &timeline)?))
}

/// Answers when the message is settled everywhere, or time is up.
pub(crate) async fn wait_for_outcome(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Answer {
    let vhost = vhost(&app, &caller, params.vhost)?;
    let wait = wait(params.wait)?;
    let is_settled =
        |timeline: &Timeline| timeline.newest().is_some_and(|newest| newest.outcome().is_some());
    if app.events_of_known(&vhost, &id).await?.is_empty() {
        return Err(unknown(&id));
    }
    let timeline = watch(&app, &vhost, &id, wait, is_settled).await?;
    let view = visible(&app, &caller, &vhost, &id, &timeline)?;
    Ok(settled_or_not(&timeline, json(&view)))
}

/// Looks at a message until it is as it should be, time is up or the server stops.
pub(crate) async fn watch(
    app: &App,
    vhost: &str,
    id: &str,
    wait: Duration,
    is_enough: impl Fn(&Timeline) -> bool,
) -> Answer<Timeline> {
    let deadline = Instant::now() + wait;
    let mut place = None;
    loop {
        // Before looking, so that nothing is missed between.
        let changed = app.node().ledger_changed();
        let looked_at = Instant::now();
        let timeline = Timeline::new(app.events(vhost, id).await?);
        if is_enough(&timeline) || looked_at >= deadline {
            return Ok(timeline);
        }
        if place.is_none() {
            place = Some(app.place_to_wait()?);
        }
        tokio::select! {
            // Elapsed or changed: either way look once more.
            _ = timeout_at(deadline, changed) => {}
            () = app.stopping() => return Ok(timeline),
        }
        sleep_until((looked_at + LOOK_AGAIN).min(deadline)).await;
    }
}

/// 200 for a message that is settled, 202 for one that is not.
pub(crate) fn settled_or_not(timeline: &Timeline, mut response: Response) -> Response {
    let is_settled = timeline.newest().is_some_and(|newest| newest.outcome().is_some());
    if !is_settled && response.status() == StatusCode::OK {
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
    let (vhost, queue) = target(&app, &caller, &id, params, fits).await?;
    let seen = (vhost.clone(), id.clone());
    let (node, for_node) = (app.node().clone(), (vhost, queue, id));
    let cancelled = app.blocking(move || {
        let (vhost, queue, id) = &for_node;
        node.cancel_message(vhost, queue, id)
    });
    cancelled.await?.map_err(problem)?;
    // Who looks now sees it.
    app.events_now(&seen.0, &seen.1).await?;
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
    let (vhost, queue) = target(&app, &caller, &id, params, fits).await?;
    if !app.node().may(&vhost, &caller.name, node::auth::Access::Write, "") {
        let user = &caller.name;
        let detail = format!("user '{user}' may not publish to the default exchange of '{vhost}'");
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let seen = (vhost.clone(), id.clone());
    let (node, for_node) = (app.node().clone(), (vhost, queue, id));
    let retried = app.blocking(move || {
        let (vhost, queue, id) = &for_node;
        node.retry_message(vhost, queue, id)
    });
    retried.await?.map_err(problem)?;
    // Who looks now sees it.
    app.events_now(&seen.0, &seen.1).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The virtual host and the queue that are meant: the one that was named, or the only one that
/// fits. Checks that the caller may read the message and change the queue.
async fn target(
    app: &App,
    caller: &Caller,
    id: &str,
    params: QueueParams,
    fits: impl Fn(&QueueStory) -> bool,
) -> Answer<(String, String)> {
    let vhost = vhost(app, caller, params.vhost)?;
    let timeline = Timeline::new(app.events_now(&vhost, id).await?);
    visible(app, caller, &vhost, id, &timeline)?;
    let queue = match params.queue {
        Some(queue) if queue.is_empty() => {
            let detail = "query: queue is empty; name a queue, or leave it out";
            return Err(Problem::bad(detail));
        }
        Some(queue) => queue,
        None => only_queue(&timeline, |name| caller.may_read(app, &vhost, name), fits)?,
    };
    if !caller.may_read(app, &vhost, &queue) {
        return Err(unknown(id));
    }
    caller.check_change(app, &vhost, &queue)?;
    Ok((vhost, queue))
}

/// The queue that is meant when none is named.
fn only_queue(
    timeline: &Timeline,
    may_see: impl Fn(&str) -> bool,
    fits: impl Fn(&QueueStory) -> bool,
) -> Answer<String> {
    let queues = timeline.newest().into_iter().flat_map(|newest| newest.all_queues());
    let named = |queue: &&QueueStory| !queue.name.is_empty() && may_see(&queue.name);
    let all: Vec<&QueueStory> = queues.filter(named).collect();
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

/// The virtual host that is asked about, which the caller may enter.
pub(crate) fn vhost(app: &App, caller: &Caller, vhost: Option<String>) -> Answer<String> {
    let vhost = vhost.unwrap_or_else(|| "/".to_owned());
    caller.check_vhost(app, &vhost)?;
    Ok(vhost)
}

pub(crate) fn wait(seconds: Option<u64>) -> Answer<Duration> {
    match seconds.unwrap_or(0) {
        seconds @ 0..=WAIT_S_MAX => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(Problem::bad(format!("query: wait is a number of seconds from 0 to {WAIT_S_MAX}")))
        }
    }
}

fn visible(
    app: &App,
    caller: &Caller,
    vhost: &str,
    id: &str,
    timeline: &Timeline,
) -> Answer<MessageView> {
    let may_see = |queue: &str| caller.may_read(app, vhost, queue);
    MessageView::new(vhost, id, timeline, may_see).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    let detail = format!(
        "no message with the id '{id}' is known in this virtual host that this user may read"
    );
    Problem::new(Kind::UnknownMessage, detail)
}

#[cfg(test)]
mod tests {
    use ledger::{Publication, State};

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
            let timeline = Timeline { publications: vec![publication] };
            let fits = |queue: &QueueStory| queue.state == State::Queued;
            let found = only_queue(&timeline, |name| name != "secret", fits);
            let found = found.as_deref().map_err(Problem::kind);
            assert_eq!(found, expected);
        };
        use State::{Queued, Settled};
        check(&[("a", Queued)], Ok("a"));
        check(&[("a", Settled)], Ok("a"));
        check(&[("a", Settled), ("b", Queued)], Ok("b"));
        check(&[("a", Queued), ("secret", Queued)], Ok("a"));
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
