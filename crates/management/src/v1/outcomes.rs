//! The list of outcomes: `GET /v1/outcomes`.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::parameters;
use crate::answer::json;
use crate::app::App;
use crate::caller::Caller;
use crate::extract::Params;
use crate::ports::{Cursor, OutcomeQuery};
use crate::problem::{Answer, Problem};
use crate::view::{OutcomeView, Sight};

/// Outcomes per page, unless the client asks for another number.
const LIMIT: usize = 100;
/// The most outcomes per page.
const LIMIT_MAX: usize = 1000;
/// Bytes of error texts and results after which a page ends.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// The most reads for a page; each covers [`LIMIT_MAX`] outcomes or a bounded stretch.
const PIECES_MAX: usize = 8;

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
    let sight = app.sight(&caller, params.vhost)?;
    let limit = params.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad(format!("query: limit is a number from 1 to {LIMIT_MAX}")));
    }
    let cursor = |name, text| parameters::cursor(app.ports(), name, text);
    let query = OutcomeQuery {
        after: params.after.as_deref().map(|text| cursor("after", text)).transpose()?,
        limit: LIMIT_MAX,
        vhost: Some(sight.vhost().to_owned()),
        queue: params.queue,
        outcome: params.outcome.as_deref().map(parameters::outcome).transpose()?,
        since_ms: params
            .since
            .as_deref()
            .map(|text| parameters::time("since", text))
            .transpose()?,
        until_ms: params
            .until
            .as_deref()
            .map(|text| parameters::time("until", text))
            .transpose()?,
    };
    Ok(json(&page(&app, &sight, query, limit).await?))
}

/// A page of the outcomes that are seen. They are read in large pieces whatever the limit, so that
/// how often a page is short or empty does not reveal what is hidden in between.
async fn page(app: &App, sight: &Sight, mut query: OutcomeQuery, limit: usize) -> Answer<Page> {
    let is_hidden = query.queue.as_ref().is_some_and(|queue| !sight.sees(queue));
    if is_hidden {
        // Answers as for a queue that does not exist, without looking.
        let next = query.after.map(text);
        return Ok(Page { outcomes: Vec::new(), next, has_more: false });
    }
    let mut outcomes = Vec::new();
    let mut text_bytes = 0;
    for _ in 0..PIECES_MAX {
        let piece = app.ports().messages.outcomes(query.clone()).await?;
        for event in piece.events {
            let Some(outcome) = OutcomeView::new(sight, &event) else { continue };
            if outcomes.len() == limit || text_bytes >= TEXT_BYTES_MAX {
                return Ok(Page { outcomes, next: query.after.map(text), has_more: true });
            }
            outcomes.push(outcome);
            let details = &event.settled.details;
            text_bytes += details.error.as_ref().map_or(0, |error| error.len());
            text_bytes += details.result.as_ref().map_or(0, |result| result.len());
            query.after = Some(event.cursor);
        }
        query.after = piece.next;
        if !piece.has_more {
            return Ok(Page { outcomes, next: query.after.map(text), has_more: false });
        }
    }
    Ok(Page { outcomes, next: query.after.map(text), has_more: true })
}

fn text(cursor: Cursor) -> String {
    cursor.to_string()
}
