//! Calls for one message: look it up, wait for its outcome, cancel it, have it tried again.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::parameters;
use super::waiting::{is_settled, settled_or_not, watch};
use crate::answer::json;
use crate::app::App;
use crate::caller::Caller;
use crate::extract::{Id, Params};
use crate::ports::{Access, Freshness, Outcome, Publication, QueueStory};
use crate::problem::{Answer, Kind, Problem};
use crate::view::{MessageView, Sight};

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
    let sight = app.sight(&caller, params.vhost)?;
    let seen = sight.find(&id).await?;
    Ok(json(&MessageView::new(&seen).ok_or_else(|| unknown(&id))?))
}

/// Answers when the message is settled in all queues, or when time is up.
pub(crate) async fn wait_for_outcome(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Answer {
    let sight = app.sight(&caller, params.vhost)?;
    let wait = parameters::wait(params.wait)?;
    // What may not be seen is not waited for: it is as unknown as an id that was never used.
    if sight.find(&id).await?.newest().is_none() {
        return Err(unknown(&id));
    }
    let seen = watch(&app, &sight, &id, wait, None, |seen| is_settled(seen.newest())).await?;
    let view = MessageView::new(&seen).ok_or_else(|| unknown(&id))?;
    Ok(settled_or_not(seen.newest(), json(&view)))
}

pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<QueueParams>,
) -> Answer {
    let fits = |queue: &QueueStory| queue.outcome().is_none();
    let (sight, queue) = queue_to_change(&app, &caller, &id, params, fits).await?;
    app.ports().messages.cancel(sight.vhost(), &queue, &id).await?;
    changed(&sight, &id).await
}

pub(crate) async fn retry(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<QueueParams>,
) -> Answer {
    let failed = |outcome| !matches!(outcome, Outcome::Processed | Outcome::Unroutable);
    let fits = |queue: &QueueStory| queue.outcome().is_some_and(failed);
    let (sight, queue) = queue_to_change(&app, &caller, &id, params, fits).await?;
    let vhost = sight.vhost();
    if !caller.may(app.ports(), vhost, Access::Write, "") {
        let user = caller.name();
        let detail = format!("user '{user}' may not publish to the default exchange of '{vhost}'");
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    app.ports().messages.retry(caller.user(), vhost, &queue, &id).await?;
    changed(&sight, &id).await
}

/// What the caller sees, and the queue that is meant: the one that was named, or else the only one
/// that fits. Checks that the caller may read the message and change the queue.
async fn queue_to_change(
    app: &App,
    caller: &Caller,
    id: &str,
    params: QueueParams,
    fits: impl Fn(&QueueStory) -> bool,
) -> Answer<(Sight, String)> {
    let sight = app.sight(caller, params.vhost)?;
    let seen = sight.look(id, Freshness::Now).await?;
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
    caller.check_change(app.ports(), sight.vhost(), &queue)?;
    Ok((sight, queue))
}

/// The answer to a change of the message, given once everybody who looks can see the change.
async fn changed(sight: &Sight, id: &str) -> Answer {
    sight.look(id, Freshness::Now).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The queue that is meant when none is named, among those that are seen.
fn only_queue(newest: &Publication, fits: impl Fn(&QueueStory) -> bool) -> Answer<String> {
    let all: Vec<&QueueStory> =
        newest.all_queues().filter(|queue| !queue.name.is_empty()).collect();
    let fitting: Vec<&QueueStory> = all.iter().copied().filter(|queue| fits(queue)).collect();
    // If none fits, the port says why, provided that there is just one to ask about.
    let chosen = if fitting.is_empty() { all } else { fitting };
    match chosen.as_slice() {
        [queue] => Ok(queue.name.clone()),
        [] => Err(Problem::new(Kind::NotFailed, "the message reached no queue; publish it again")),
        several => {
            let names: Vec<&str> = several.iter().map(|queue| queue.name.as_str()).collect();
            let names = names.join("', '");
            let detail = format!("say which queue is meant, one of '{names}'");
            Err(Problem::new(Kind::AmbiguousQueue, detail))
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
    use super::*;
    use crate::ports::Stage;

    #[test]
    fn the_only_queue_that_fits_is_meant() {
        let check = |queues: &[(&str, Stage)], expected: Result<&str, Kind>| {
            let story = |(name, stage): &(&str, Stage)| QueueStory {
                name: (*name).to_owned(),
                stage: *stage,
                ..QueueStory::default()
            };
            let queues = queues.iter().map(story).collect();
            let publication = Publication { queues, ..Publication::default() };
            let fits = |queue: &QueueStory| queue.stage == Stage::Queued;
            let found = only_queue(&publication, fits);
            let found = found.as_deref().map_err(Problem::kind);
            assert_eq!(found, expected);
        };
        use Stage::{Queued, Settled};
        check(&[("a", Queued)], Ok("a"));
        check(&[("a", Settled)], Ok("a"));
        check(&[("a", Settled), ("b", Queued)], Ok("b"));
        check(&[("a", Queued), ("b", Queued)], Err(Kind::AmbiguousQueue));
        check(&[("a", Settled), ("b", Settled)], Err(Kind::AmbiguousQueue));
        check(&[], Err(Kind::NotFailed));
    }
}
