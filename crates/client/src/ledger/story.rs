//! What is known of an id, in the words in which a wilco server tells it.

use ::outcome::{Outcome as Kind, Reason};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// A message in a queue.
#[derive(Debug)]
pub(crate) struct InQueue {
    pub(crate) queue: String,
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "a database has it in each row"))]
    pub(crate) id: String,
    pub(crate) published_at_ms: u64,
    pub(crate) attempts: u16,
    pub(crate) worker: String,
    pub(crate) is_claimed: bool,
    pub(crate) settled: Option<Settled>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Kind,
    pub(crate) reason: Option<Reason>,
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) content_type: Option<String>,
    pub(crate) result: Option<Vec<u8>>,
    pub(crate) is_late: bool,
    pub(crate) settled_at_ms: u64,
}

/// `None`: nothing is known.
pub(crate) fn of(id: &str, rows: &[InQueue]) -> Option<Value> {
    let published_at_ms = rows.iter().map(|row| row.published_at_ms).min()?;
    let is_settled = rows.iter().all(|row| row.settled.is_some());
    let is_delivered = rows.iter().any(|row| row.settled.is_none() && row.is_claimed);
    let state = match (is_settled, is_delivered) {
        (true, _) => "settled",
        (false, true) => "delivered",
        (false, false) => "queued",
    };
    let mut story = json!({
        "id": id,
        "state": state,
        "published_at": time(published_at_ms),
        "queues": rows.iter().map(queue).collect::<Vec<_>>(),
    });
    let outcomes = rows.iter().filter_map(|row| Some(row.settled.as_ref()?.outcome));
    if let Some(worst) = outcomes.max().filter(|_| is_settled) {
        story["outcome"] = json!(worst.name());
    }
    Some(story)
}

fn queue(row: &InQueue) -> Value {
    let state = match (&row.settled, row.is_claimed) {
        (Some(_), _) => "settled",
        (None, true) => "delivered",
        (None, false) => "queued",
    };
    let mut view = Map::new();
    view.insert("queue".into(), json!(row.queue));
    view.insert("state".into(), json!(state));
    view.insert("attempts".into(), json!(row.attempts));
    if !row.worker.is_empty() {
        view.insert("worker".into(), json!(row.worker));
    }
    if let Some(settled) = &row.settled {
        tell(settled, &mut view);
    }
    Value::Object(view)
}

fn tell(settled: &Settled, view: &mut Map<String, Value>) {
    let mut say = |name: &str, value: Value| drop(view.insert(name.to_owned(), value));
    say("settled_at", json!(time(settled.settled_at_ms)));
    say("outcome", json!(Kind::name(settled.outcome)));
    if let Some(reason) = settled.reason {
        say("reason", json!(reason.name()));
    }
    if let Some(error) = &settled.error {
        say("error", json!(String::from_utf8_lossy(error)));
    }
    if let Some(content_type) = &settled.content_type {
        say("content_type", json!(content_type));
    }
    match settled.result.as_deref().map(|result| (std::str::from_utf8(result), result)) {
        Some((Ok(text), _)) => say("result", json!(text)),
        Some((Err(_), bytes)) => say("result_base64", json!(STANDARD.encode(bytes))),
        None => {}
    }
    if settled.is_late {
        say("late", json!(true));
    }
}

fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}
