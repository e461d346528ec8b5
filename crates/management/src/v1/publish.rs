//! Publishing: `POST /v1/messages`.
//!
//! Owns the form of the call. *Never here:* permissions and limits of messages, which the port
//! checks.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::outgoing::Request;
use super::parameters;
use super::waiting::{is_settled, settled_or_not, watch};
use crate::answer::json;
use crate::app::App;
use crate::caller::Caller;
use crate::extract::{Json, Params};
use crate::pool::Share;
use crate::ports::{Freshness, Placed};
use crate::problem::Answer;
use crate::view::{MessageView, Sight};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishParams {
    vhost: Option<String>,
    wait: Option<u64>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    message_id: &'a str,
    routed: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

#[derive(Serialize)]
struct Published {
    message_id: String,
    routed: bool,
    duplicate: bool,
    #[serde(flatten)]
    message: MessageView,
}

pub(crate) async fn publish(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<PublishParams>,
    Json(request): Json<Request>,
) -> Answer {
    let sight = app.sight(&caller, params.vhost)?;
    let patience = parameters::wait(params.wait)?;
    let outgoing = request.checked()?;
    // Taken before: what is published must not be answered with "try again".
    let waits = patience > Duration::ZERO;
    let place = waits.then(|| app.place_to_wait(&caller)).transpose()?;
    let id = outgoing.message_id.clone();
    let placed = app.ports().messages.publish(caller.user(), sight.vhost(), outgoing).await?;
    if params.wait.is_some()
        && let Some(response) = follow(&app, &sight, &id, (patience, place), &placed).await?
    {
        return Ok(response);
    }
    let (state, outcome) =
        if placed.routed { ("queued", None) } else { ("settled", Some("unroutable")) };
    // Whether it is a duplicate is not said here: somebody else may have used its id, where this user
    // may not look.
    let accepted = Accepted { message_id: &id, routed: placed.routed, state, outcome };
    Ok((StatusCode::ACCEPTED, json(&accepted)).into_response())
}

/// Waits for the outcome of what was just published, which its publisher may know whatever queues
/// it went to; or, for a duplicate, of its original, if the publisher sees that. `None`: there is
/// nothing to show except that it was taken. Nothing is revealed about other publications.
async fn follow(
    app: &App,
    sight: &Sight,
    id: &str,
    (patience, place): (Duration, Option<Share>),
    placed: &Placed,
) -> Answer<Option<Response>> {
    let (sight, duplicate) = match placed.receipt.clone() {
        Some(own) => (sight.of_own(own), false),
        None if placed.is_duplicate => (sight.clone(), true),
        None => return Ok(None),
    };
    // The original is the publication that is newest now, whatever is published meanwhile.
    // A message that reached no queue has its outcome a moment after its confirm.
    let seen = sight.look(id, Freshness::Now).await?;
    let Some(at) = seen.newest_at().cloned() else { return Ok(None) };
    let seen = watch(app, &sight, id, patience, place, |seen| is_settled(seen.at(&at))).await?;
    let seen = seen.only(&at);
    let Some(message) = MessageView::new(&seen) else { return Ok(None) };
    let (message_id, routed) = (id.to_owned(), placed.routed);
    let published = Published { message_id, routed, duplicate, message };
    Ok(Some(settled_or_not(seen.newest(), json(&published))))
}
