//! The JSON shape of one line of a timeline.

use serde::Serialize;

use super::{Seen, time};
use crate::ports::{Entry, What, Worker};
use crate::time::rfc3339;

/// One line of a timeline.
#[derive(Serialize)]
pub(super) struct EntryView {
    cursor: String,
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    copy: bool,
}

impl EntryView {
    pub(super) fn new(seen: &Seen, entry: &Entry) -> Self {
        let mut view = Self {
            cursor: seen.cursor_of(entry),
            time: rfc3339(entry.time_ms),
            event: "other",
            queue: None,
            worker: None,
            worker_user: None,
            attempt: None,
            retry_at: None,
            outcome: None,
            reason: None,
            progress: None,
            text: None,
            copy: entry.is_copy,
        };
        match &entry.what {
            What::Published(_) => view.event = "published",
            What::Delivered { queue, worker, attempt } => {
                view.event = "delivered";
                view.queue = Some(queue.clone().into_owned());
                let worker = Worker::parse(worker);
                view.worker = Some(worker.name.to_owned());
                view.worker_user = Some(worker.user.to_owned()).filter(|user| !user.is_empty());
                view.attempt = Some(*attempt);
            }
            What::Requeued { queue, attempt, retry_at_ms } => {
                view.event = "requeued";
                view.queue = Some(queue.clone().into_owned());
                view.attempt = Some(*attempt);
                view.retry_at = time(*retry_at_ms);
            }
            What::Settled(settled) => {
                view.event = "settled";
                view.queue = Some(settled.queue.clone().into_owned());
                view.outcome = Some(settled.verdict.outcome.name());
                view.reason = Some(settled.verdict.reason_name());
            }
            What::Progress { queue, permille, text } => {
                view.event = "progress";
                view.queue = Some(queue.clone().into_owned());
                view.progress = Some(f64::from(*permille) / 1000.0);
                view.text = Some(text.clone().into_owned());
            }
            What::Received { queue } => {
                view.event = "received";
                view.queue = Some(queue.clone().into_owned());
            }
            What::Moved { .. } => {}
        }
        view
    }
}
