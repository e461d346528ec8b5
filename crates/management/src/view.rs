//! The JSON shapes of messages and outcomes, as `openapi.json` describes them.
//!
//! Owns names and forms only; what a message's story is, `ledger::Timeline` says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger::{Cursor, Entry, Publication, QueueStory, Settled, Timeline, What};
use serde::Serialize;

use crate::time::rfc3339;

/// A message: its newest publication, and those before.
#[derive(Serialize)]
pub(crate) struct MessageView {
    id: String,
    vhost: String,
    #[serde(flatten)]
    newest: PublicationView,
    /// The newest first.
    earlier: Vec<PublicationView>,
}

/// One time a message was published.
#[derive(Serialize)]
pub(crate) struct PublicationView {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_at: Option<String>,
    queues: Vec<QueueView>,
    copies: Vec<CopyView>,
    timeline: Vec<EntryView>,
}

/// A dead-letter copy of a message.
#[derive(Serialize)]
struct CopyView {
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<String>,
    queues: Vec<QueueView>,
}

/// A message in a queue.
#[derive(Serialize)]
struct QueueView {
    queue: String,
    state: &'static str,
    attempts: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<String>,
    #[serde(flatten)]
    verdict: Option<VerdictView>,
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
}

/// What an outcome says of itself, wherever it is shown.
#[derive(Serialize)]
struct VerdictView {
    outcome: &'static str,
    reason: String,
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

/// An outcome by itself: in the list, in the feed, in a webhook.
#[derive(Serialize)]
pub(crate) struct OutcomeView {
    cursor: String,
    settled_at: String,
    published_at: String,
    vhost: String,
    message_id: String,
    queue: String,
    attempts: u16,
    queue_count: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker: String,
    #[serde(flatten)]
    verdict: VerdictView,
}

/// One line of a timeline.
#[derive(Serialize)]
struct EntryView {
    cursor: String,
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    copy: bool,
}

impl MessageView {
    /// What is shown of a message to somebody who may see these queues; `None` if that is nothing.
    pub(crate) fn new(
        vhost: &str,
        id: &str,
        timeline: &Timeline,
        may_see: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let visible = |publication: &&Publication| {
            // Published, and no queue known yet: as if it had none.
            publication.queues.is_empty() && may_see("")
                || publication.all_queues().any(|queue| may_see(&queue.name))
        };
        let publications = timeline.publications.iter().filter(visible);
        let mut views = publications.map(|it| PublicationView::new(it, &may_see));
        let newest = views.next()?;
        Some(Self { id: id.to_owned(), vhost: vhost.to_owned(), newest, earlier: views.collect() })
    }
}

impl PublicationView {
    fn new(publication: &Publication, may_see: &impl Fn(&str) -> bool) -> Self {
        let copy = |copy: &Publication| CopyView {
            exchange: copy.published.as_ref().map(|it| it.exchange.clone().into_owned()),
            routing_key: copy.published.as_ref().map(|it| it.routing_key.clone().into_owned()),
            queues: queues(copy, may_see),
        };
        let published = publication.published.as_ref();
        let copies = publication.copies.iter().map(copy);
        let entries = publication.entries.iter().map(EntryView::new);
        Self {
            state: publication.state().name(),
            outcome: publication.outcome().map(ledger::Outcome::name),
            recovered: publication.is_recovered(),
            exchange: published.map(|it| it.exchange.clone().into_owned()),
            routing_key: published.map(|it| it.routing_key.clone().into_owned()),
            body_bytes: published.map(|it| it.body_bytes),
            published_at: time(publication.published_at_ms),
            deadline_at: published.and_then(|it| time(it.deadline_at_ms)),
            queues: queues(publication, may_see),
            copies: copies.filter(|copy| !copy.queues.is_empty()).collect(),
            timeline: entries.filter(|entry| entry.queue.as_deref().is_none_or(may_see)).collect(),
        }
    }
}

fn queues(publication: &Publication, may_see: &impl Fn(&str) -> bool) -> Vec<QueueView> {
    let queues = publication.queues.iter().filter(|queue| may_see(&queue.name));
    queues.map(QueueView::new).collect()
}

impl QueueView {
    fn new(story: &QueueStory) -> Self {
        let settled = story.settled.as_ref();
        Self {
            queue: story.name.clone(),
            state: story.state.name(),
            attempts: story.attempts,
            worker: story.worker.clone(),
            retry_at: time(story.retry_at_ms),
            settled_at: settled.map(|(_, time_ms, _)| rfc3339(*time_ms)),
            verdict: settled.map(|(_, _, settled)| VerdictView::new(settled)),
            recovered: story.is_recovered,
            received_at: story.received_at_ms.map(rfc3339),
        }
    }
}

impl VerdictView {
    fn new(settled: &Settled<'_>) -> Self {
        let content_type = settled.content_type.as_deref();
        let (result, result_base64) = match settled.result.as_deref() {
            None => (None, None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if is_text(content_type) => (Some(text.to_owned()), None),
                _ => (None, Some(STANDARD.encode(bytes))),
            },
        };
        Self {
            outcome: settled.outcome.name(),
            reason: settled.reason.clone().into_owned(),
            error: settled.error.as_deref().map(str::to_owned),
            content_type: content_type.map(str::to_owned),
            result,
            result_base64,
            unverified: settled.is_unverified,
            late: settled.is_late,
            copy: settled.is_copy,
            notified: settled.is_notified,
            dead_letter_exchange: settled.dead_letter_exchange.as_deref().map(str::to_owned),
        }
    }
}

impl OutcomeView {
    /// An outcome that stands there in the log.
    pub(crate) fn new(at: Cursor, time_ms: u64, settled: &Settled<'_>) -> Self {
        Self {
            cursor: at.to_string(),
            settled_at: rfc3339(time_ms),
            published_at: rfc3339(settled.published_at_ms),
            vhost: settled.vhost.clone().into_owned(),
            message_id: settled.message_id.clone().into_owned(),
            queue: settled.queue.clone().into_owned(),
            attempts: settled.attempts,
            queue_count: settled.queue_count,
            worker: settled.worker.clone().into_owned(),
            verdict: VerdictView::new(settled),
        }
    }
}

impl EntryView {
    fn new(entry: &Entry) -> Self {
        let mut view = Self {
            cursor: entry.at.to_string(),
            time: rfc3339(entry.time_ms),
            event: "other",
            queue: None,
            worker: None,
            attempt: None,
            retry_at: None,
            outcome: None,
            reason: None,
            copy: entry.is_copy,
        };
        match &entry.what {
            What::Published(_) => view.event = "published",
            What::Delivered { queue, worker, attempt } => {
                view.event = "delivered";
                view.queue = Some(queue.clone().into_owned());
                view.worker = Some(worker.clone().into_owned());
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
                view.outcome = Some(settled.outcome.name());
                view.reason = Some(settled.reason.clone().into_owned());
            }
            What::Received { queue } => {
                view.event = "received";
                view.queue = Some(queue.clone().into_owned());
            }
            _ => {}
        }
        view
    }
}

/// A time; 0 is none.
fn time(ms: u64) -> Option<String> {
    (ms != 0).then(|| rfc3339(ms))
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
    use ledger::{Event, IdHash, Outcome, Published, PublishedQueue};

    use super::*;

    fn events() -> Vec<Event<'static>> {
        let queue = |id, name: &'static str| PublishedQueue { id, name: name.into() };
        let published = Published {
            vhost: "/".into(),
            id: "m".into(),
            routing_key: "key".into(),
            queues: vec![queue(1, "open"), queue(2, "secret")],
            body_bytes: 3,
            deadline_at_ms: 5000,
            ..Published::default()
        };
        let settled = Settled {
            vhost: "/".into(),
            message_id: "m".into(),
            queue: "open".into(),
            outcome: Outcome::Failed,
            reason: "rejected".into(),
            attempts: 2,
            queue_count: 2,
            worker: "w".into(),
            error: Some("no".into()),
            content_type: Some("image/png".into()),
            result: Some(vec![1, 2, 3].into()),
            is_unverified: false,
            is_late: false,
            is_copy: false,
            is_notified: true,
            dead_letter_exchange: None,
            published_at_ms: 1000,
            message: None,
        };
        let delivered = What::Delivered { queue: "secret".into(), worker: "s".into(), attempt: 1 };
        let whats = [What::Published(published), delivered, What::Settled(Box::new(settled))];
        let event = |(number, what)| Event {
            at: Cursor { position: number as u64, nth: 0 },
            id: IdHash(1),
            time_ms: 1000 * (number as u64 + 1),
            what,
        };
        whats.into_iter().enumerate().map(event).collect()
    }

    #[test]
    fn what_may_not_be_read_is_left_out() {
        let timeline = Timeline::new(events());
        let view = |may_see: fn(&str) -> bool| {
            let view = MessageView::new("/", "m", &timeline, may_see);
            view.map(|view| serde_json::to_value(view).expect("JSON"))
        };
        assert_eq!(view(|_| false), None);
        let open = view(|queue| queue == "open").expect("a view");
        assert_eq!(open["queues"].as_array().map(Vec::len), Some(1));
        assert_eq!(open["timeline"].as_array().map(Vec::len), Some(2));
        assert!(!open.to_string().contains("secret"));
        assert_eq!(view(|_| true).expect("a view")["queues"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_message_is_shown_with_all_that_is_known() {
        let timeline = Timeline::new(events());
        let view = MessageView::new("/", "m", &timeline, |_| true).expect("a view");
        let view = serde_json::to_value(view).expect("JSON");
        assert_eq!(view["id"], "m");
        assert_eq!(view["state"], "delivered");
        assert_eq!(view.get("outcome"), None);
        assert_eq!(view["published_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(view["deadline_at"], "1970-01-01T00:00:05.000Z");
        let queue = &view["queues"][0];
        assert_eq!(queue["outcome"], "failed");
        assert_eq!(queue["error"], "no");
        assert_eq!(queue["result_base64"], "AQID");
        assert_eq!(queue["notified"], true);
        assert_eq!(queue["settled_at"], "1970-01-01T00:00:03.000Z");
        assert_eq!(view["timeline"][1]["event"], "delivered");
    }

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
