//! What there is to tell of one message: as a record of the log, and as a message.

use std::sync::Arc;

use broker::{Message, Tracking};
use outcome::{DEADLINE, NO_ROUTE, Notify, Outcome, OutcomeMessage, Reason, SettledBy};

use crate::store::outcome_records::OutcomeEntry;

/// The outcome of one message.
pub(super) struct Told {
    pub message: Message,
    pub tracking: Tracking,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub position: u64,
    pub settles: bool,
    pub attempts: u16,
    pub by: Option<Arc<SettledBy>>,
    pub is_late: bool,
    pub is_notified: bool,
    pub dead_letter_exchange: Option<String>,
    /// Head and content, of what may be tried again.
    pub content: Option<Vec<u8>>,
}

/// A worker's report on a message.
#[derive(Default)]
struct Said<'a> {
    error: Option<&'a str>,
    content_type: Option<&'a str>,
    result: Option<&'a [u8]>,
    /// The size of what was published, where only the beginning is kept.
    cut_from_bytes: Option<u64>,
}

impl Told {
    /// What became of a message that leaves no queue by this: it reached none, or stays in it.
    pub(super) fn without_settling(
        outcome: Outcome,
        message: Message,
        tracking: Tracking,
        position: u64,
        attempts: u16,
    ) -> Self {
        Self {
            message,
            tracking,
            outcome,
            reason: None,
            position,
            settles: false,
            attempts,
            by: None,
            is_late: false,
            is_notified: false,
            dead_letter_exchange: None,
            content: None,
        }
    }

    fn is_unverified(&self) -> bool {
        self.reason == Some(Reason::AutoAcked)
    }

    fn reason_name(&self) -> &'static str {
        match (self.reason, self.outcome) {
            (Some(reason), _) => reason.name(),
            (None, Outcome::Unroutable) => NO_ROUTE,
            (None, _) => DEADLINE,
        }
    }

    fn worker(&self) -> &str {
        self.by.as_ref().map_or("", |by| &by.worker)
    }

    /// What the worker said.
    fn said(&self) -> Said<'_> {
        let Some(report) = self.by.as_ref().and_then(|by| by.report.as_ref()) else {
            return Said::default();
        };
        let is_cut = report.bytes_published > report.body.len() as u64;
        let cut_from_bytes = is_cut.then_some(report.bytes_published);
        if report.is_error {
            let text = match std::str::from_utf8(&report.body) {
                Ok(text) => text,
                // Cut in the middle of a character, or no text after all: what there is of it.
                Err(error) => {
                    std::str::from_utf8(&report.body[..error.valid_up_to()]).unwrap_or_default()
                }
            };
            return Said { error: Some(text), cut_from_bytes, ..Said::default() };
        }
        let (content_type, result) = (report.content_type.as_deref(), Some(&*report.body));
        Said { error: None, content_type, result, cut_from_bytes }
    }

    pub(super) fn entry(&self) -> OutcomeEntry<'_> {
        let properties = self.message.properties().unwrap_or_default();
        let Said { error, content_type, result, .. } = self.said();
        OutcomeEntry {
            outcome: self.outcome,
            reason: self.reason,
            position: self.position,
            settles: self.settles,
            attempts: self.attempts,
            queue_count: self.tracking.queue_count,
            published_at_ms: self.message.head().published_at_ms,
            message_id: properties.message_id.unwrap_or_default(),
            worker: self.worker(),
            error,
            content_type,
            result,
            dead_letter_exchange: self.dead_letter_exchange.as_deref(),
            message: self.content.as_deref(),
            is_unverified: self.is_unverified(),
            is_late: self.is_late,
            is_copy: self.tracking.is_copy,
            is_notified: self.is_notified,
        }
    }

    pub(super) fn outcome_message<'a>(
        &'a self,
        queue: &'a str,
        now_ms: u64,
        correlation_id: Option<&'a str>,
    ) -> OutcomeMessage<'a> {
        let Said { error, content_type, result, cut_from_bytes } = self.said();
        let properties = self.message.properties().unwrap_or_default();
        OutcomeMessage {
            outcome: self.outcome,
            message_id: properties.message_id.unwrap_or_default(),
            correlation_id,
            queue,
            // What reached no queue has one outcome, too.
            queue_count: match self.outcome {
                Outcome::Unroutable => 1,
                _ => self.tracking.queue_count,
            },
            reason: self.reason_name(),
            attempts: self.attempts,
            published_at_ms: self.message.head().published_at_ms,
            settled_at_ms: now_ms,
            worker: self.worker(),
            error,
            content_type,
            result: result.unwrap_or_default(),
            result_bytes: cut_from_bytes,
            is_unverified: self.is_unverified(),
            is_late: self.is_late,
            is_duplicate: false,
            is_copy: self.tracking.is_copy,
            dead_letter_exchange: self.dead_letter_exchange.as_deref(),
        }
    }
}

/// The message that tells an outcome.
pub(super) fn encode(
    outcome: &OutcomeMessage<'_>,
    (exchange, routing_key): (&str, &str),
    tracking: Option<&Tracking>,
    now_ms: u64,
) -> Message {
    thread_local! {
        static BUFFERS: std::cell::RefCell<[Vec<u8>; 3]> = Default::default();
    }
    BUFFERS.with_borrow_mut(|[headers, properties, content]| {
        properties.clear();
        outcome.encode_properties(headers, properties);
        let parts = (exchange, routing_key, properties.as_slice(), outcome.body());
        let kept = OutcomeMessage::kept_properties();
        Message::tracked(now_ms, &kept, parts, tracking, content)
    })
}

/// Whether a producer who asked so is told of this outcome.
pub(super) fn wants(notify: Option<Notify>, outcome: Outcome) -> bool {
    notify.is_some_and(|notify| notify.wants(outcome))
}
