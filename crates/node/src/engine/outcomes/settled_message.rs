//! One message with its outcome, as a record of the log and as an outcome message.

use std::sync::Arc;

use amqp::{BStr, Properties};
use broker::{Message, Position, Tracking};
use outcome::{Details, Notify, Outcome, OutcomeMessage, Report, SettledBy, Verdict, traceparent};

use crate::store::outcome_records::OutcomeEntry;

/// The outcome of one message.
pub(super) struct SettledMessage {
    pub message: Message,
    pub tracking: Tracking,
    pub verdict: Verdict,
    pub position: Option<Position>,
    /// Whether it leaves its queue with this outcome.
    pub settles: bool,
    pub by: Option<Arc<SettledBy>>,
    pub dead_letter_exchange: Option<String>,
    /// Head and content of a message that may be tried again.
    pub content: Option<Vec<u8>>,
}

impl SettledMessage {
    /// A message with its verdict. It stays in its queue unless the caller sets `settles`.
    pub(super) fn new(
        verdict: Verdict,
        message: Message,
        tracking: Tracking,
        position: Option<Position>,
    ) -> Self {
        Self {
            message,
            tracking,
            verdict,
            position,
            settles: false,
            by: None,
            dead_letter_exchange: None,
            content: None,
        }
    }

    fn report(&self) -> Option<&Report> {
        self.by.as_ref()?.report.as_ref()
    }

    fn details<'a>(&'a self, properties: &Properties<'a>) -> Details<'a> {
        let report = self.report();
        Details {
            message_id: properties.message_id.unwrap_or_default().into(),
            worker: self.by.as_ref().map_or("", |by| &by.worker).into(),
            error: report.and_then(Report::error).map(Into::into),
            content_type: report.and_then(Report::content_type).map(Into::into),
            result: report.and_then(Report::result).map(Into::into),
            dead_letter_exchange: self.dead_letter_exchange.as_deref().map(Into::into),
        }
    }

    pub(super) fn entry(&self) -> OutcomeEntry<'_> {
        OutcomeEntry {
            position: self.position,
            settles: self.settles,
            verdict: self.verdict,
            details: self.details(&self.message.properties().unwrap_or_default()),
            message: self.content.as_deref(),
        }
    }

    pub(super) fn outcome_message<'a>(
        &'a self,
        queue: &'a str,
        now_ms: u64,
        correlation_id: Option<&'a BStr>,
    ) -> OutcomeMessage<'a> {
        let mut verdict = self.verdict;
        if verdict.outcome == Outcome::Unroutable {
            // A message that reached no queue has one outcome, too.
            verdict.queue_count = 1;
        }
        let properties = self.message.properties().unwrap_or_default();
        OutcomeMessage {
            verdict,
            details: self.details(&properties),
            correlation_id: correlation_id.map(Into::into),
            queue: queue.into(),
            settled_at_ms: now_ms,
            result_bytes: self.report().and_then(Report::cut_from_bytes),
            traceparent: traceparent(&properties).map(Into::into),
        }
    }
}

/// The message that reports an outcome.
pub(super) fn encode(
    outcome: &OutcomeMessage<'_>,
    (exchange, routing_key): (&str, &BStr),
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

/// Whether a producer with this request is told of this outcome.
pub(super) fn wants(notify: Option<Notify>, outcome: Outcome) -> bool {
    notify.is_some_and(|notify| notify.wants(outcome))
}
