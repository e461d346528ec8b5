//! The list of outcomes: `GET /v1/outcomes`.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ledger::{Cursor, Event, Outcome, OutcomeQuery, What};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::extract::Params;
use crate::problem::{Answer, Problem};
use crate::time;
use crate::view::OutcomeView;

/// Outcomes in a page, unless asked for otherwise.
const LIMIT: usize = 100;
/// Outcomes in a page, at most.
const LIMIT_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    vhost: Option<String>,
    queue: Option<String>,
    outcome: Option<String>,
    since: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Page {
    outcomes: Vec<OutcomeView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    has_more: bool,
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ListParams>,
) -> Answer {
    let vhost = params.vhost.unwrap_or_else(|| "/".to_owned());
    caller.check_vhost(&app, &vhost)?;
    let limit = params.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad(format!("query: limit is a number from 1 to {LIMIT_MAX}")));
    }
    let query = OutcomeQuery {
        after: params.after.as_deref().map(|text| parse_cursor("after", text)).transpose()?,
        limit,
        vhost: Some(vhost),
        queue: params.queue,
        outcome: params.outcome.as_deref().map(parse_outcome).transpose()?,
        since_ms: params.since.as_deref().map(|text| parse_time("since", text)).transpose()?,
        until_ms: params.until.as_deref().map(|text| parse_time("until", text)).transpose()?,
    };
    let page = app.outcomes(query).await?;
    let readable = page.events.iter().filter_map(|event| readable(&app, &caller, event));
    let outcomes = readable.collect();
    let next = page.next.map(|next| next.to_string());
    let page = Page { outcomes, next, has_more: page.has_more };
    Ok(json(&page))
}

/// An outcome as it is shown to a caller; `None` if it may not read it.
pub(crate) fn readable(app: &App, caller: &Caller, event: &Event<'_>) -> Option<OutcomeView> {
    let What::Settled(settled) = &event.what else { return None };
    let may_read = caller.may_read(app, &settled.vhost, &settled.queue);
    may_read.then(|| OutcomeView::new(event.at, event.time_ms, settled))
}

/// 200 with a body that can be encoded.
pub(crate) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let headers = [(axum::http::header::CONTENT_TYPE, "application/json")];
            (headers, bytes).into_response()
        }
        Err(error) => Problem::store(error).into_response(),
    }
}

pub(crate) fn parse_outcome(name: &str) -> Answer<Outcome> {
    Outcome::parse(name).ok_or_else(|| {
        let names = Outcome::ALL.map(Outcome::name).join(", ");
        Problem::bad(format!("'{name}' is no outcome; there are {names}"))
    })
}

pub(crate) fn parse_cursor(name: &str, text: &str) -> Answer<Cursor> {
    text.parse().map_err(|error| Problem::bad(format!("{name}: {error}; take one that you got")))
}

fn parse_time(name: &str, text: &str) -> Answer<u64> {
    time::parse(text).ok_or_else(|| {
        let forms = "a time like 2026-11-22T12:00:00Z, or milliseconds since 1970";
        Problem::bad(format!("query: {name} is {forms}"))
    })
}
