//! The JSON shape of an outcome, on its own or within a message.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Sight;
use crate::ports::{BStr, OutcomeEvent, Settled, Worker};
use crate::time::rfc3339;

/// The fields of an outcome wherever it is shown.
#[derive(Serialize)]
pub(super) struct VerdictView {
    outcome: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_base64: Option<String>,
    unverified: bool,
    late: bool,
    copy: bool,
    notified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_exchange: Option<String>,
}

/// An outcome on its own: in the list, in the feed, in a webhook's call.
#[derive(Serialize)]
pub(crate) struct OutcomeView {
    cursor: String,
    settled_at: String,
    published_at: String,
    vhost: String,
    message_id: String,
    queue: String,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_count: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker_user: String,
    #[serde(flatten)]
    verdict: VerdictView,
}

impl VerdictView {
    pub(super) fn new(settled: &Settled<'_>) -> Self {
        let Settled { verdict, details, .. } = settled;
        // JSON is UTF-8: other bytes are replaced by U+FFFD.
        let text = |text: &Option<Cow<'_, BStr>>| text.as_deref().map(BStr::to_string);
        let content_type = details.content_type.as_deref();
        let (result, result_base64) = match details.result.as_deref() {
            None => (None, None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if is_text(content_type.map(BStr::to_string).as_deref()) => {
                    (Some(text.to_owned()), None)
                }
                _ => (None, Some(STANDARD.encode(bytes))),
            },
        };
        Self {
            outcome: verdict.outcome.name(),
            reason: verdict.reason_name(),
            error: text(&details.error),
            content_type: text(&details.content_type),
            result,
            result_base64,
            unverified: verdict.is_unverified(),
            late: verdict.is_late(),
            copy: verdict.is_copy(),
            notified: verdict.is_notified(),
            dead_letter_exchange: details.dead_letter_exchange.as_deref().map(str::to_owned),
        }
    }
}

impl OutcomeView {
    /// An outcome; `None` if the caller does not see it.
    pub(crate) fn new(sight: &Sight, event: &OutcomeEvent) -> Option<Self> {
        let settled = sight.outcome(event)?;
        let Settled { verdict, details, .. } = settled;
        let worker = Worker::parse(&details.worker);
        Some(Self {
            cursor: event.cursor.to_string(),
            settled_at: rfc3339(event.time_ms),
            published_at: rfc3339(verdict.published_at_ms),
            vhost: settled.vhost.clone().into_owned(),
            message_id: details.message_id.to_string(),
            queue: settled.queue.clone().into_owned(),
            attempts: verdict.attempts,
            queue_count: sight.oversees().then_some(verdict.queue_count),
            worker: worker.name.to_owned(),
            worker_user: worker.user.to_owned(),
            verdict: VerdictView::new(settled),
        })
    }
}

/// Whether bytes of this type are shown as text.
fn is_text(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.starts_with("text/")
        || ["application/json", "application/xml", ""].contains(&media_type)
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_text_where_their_type_says_so() {
        for (content_type, expected) in [
            (None, true),
            (Some("text/plain; charset=utf-8"), true),
            (Some("application/json"), true),
            (Some("application/problem+json"), true),
            (Some("application/octet-stream"), false),
        ] {
            assert_eq!(is_text(content_type), expected, "{content_type:?}");
        }
    }
}
