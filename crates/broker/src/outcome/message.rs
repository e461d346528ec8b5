//! The outcome message: properties and headers, one for one as `docs/outcomes.md` lists them.

use amqp::{FieldTable, FieldValue, OwnedProperties, Properties};

use super::Outcome;

/// Everything an outcome message says.
#[derive(Debug, Clone)]
pub struct OutcomeMessage<'a> {
    /// `x-outcome`.
    pub outcome: Outcome,
    /// `x-message-id`.
    pub message_id: &'a str,
    /// The original's `correlation_id`; the message's id stands in for one that is not there.
    pub correlation_id: Option<&'a str>,
    /// `x-queue`: whose outcome it is; empty when the message reached none.
    pub queue: &'a str,
    /// `x-queues`: how many outcomes there will be.
    pub queue_count: u16,
    /// `x-reason`.
    pub reason: &'a str,
    /// `x-attempts`: deliveries.
    pub attempts: u16,
    /// `x-published-at`, ms since the epoch.
    pub published_at_ms: u64,
    /// `x-settled-at`, ms since the epoch.
    pub settled_at_ms: u64,
    /// `x-worker`; empty when nobody settled it.
    pub worker: &'a str,
    /// `x-error`: the worker's error text.
    pub error: Option<&'a str>,
    /// `content_type` of the result.
    pub content_type: Option<&'a str>,
    /// The body.
    pub result: &'a [u8],
    /// `x-result-bytes`: the size of a result of which only the beginning is here.
    pub result_bytes: Option<u64>,
    /// `x-unverified`.
    pub is_unverified: bool,
    /// `x-late`.
    pub is_late: bool,
    /// `x-duplicate`.
    pub is_duplicate: bool,
    /// `x-dead-letter-exchange`: where the message was sent on to.
    pub dead_letter_exchange: Option<&'a str>,
}

impl OutcomeMessage<'_> {
    /// The id of this event: the same however often it is told.
    pub fn event_id(&self) -> String {
        let Self { message_id, queue, outcome, .. } = self;
        let late = if self.is_late { "-late" } else { "" };
        let id = format!("{}{late}.{queue}.{message_id}", outcome.name());
        id[..id.floor_char_boundary(255)].to_owned()
    }

    /// Appends its encoded properties.
    pub fn encode_properties(&self, out: &mut Vec<u8>) {
        let mut headers = FieldTable::new();
        headers.insert("x-outcome", self.outcome.name());
        headers.insert("x-message-id", self.message_id);
        headers.insert("x-queue", self.queue);
        headers.insert("x-queues", FieldValue::I32(i32::from(self.queue_count)));
        headers.insert("x-reason", self.reason);
        headers.insert("x-attempts", FieldValue::I32(i32::from(self.attempts)));
        headers.insert("x-published-at", FieldValue::I64(self.published_at_ms as i64));
        headers.insert("x-settled-at", FieldValue::I64(self.settled_at_ms as i64));
        if !self.worker.is_empty() {
            headers.insert("x-worker", self.worker);
        }
        if let Some(error) = self.error {
            headers.insert("x-error", error);
        }
        if let Some(exchange) = self.dead_letter_exchange {
            headers.insert("x-dead-letter-exchange", exchange);
        }
        if let Some(bytes) = self.result_bytes {
            headers.insert("x-result-bytes", FieldValue::I64(bytes as i64));
        }
        let flags = [
            ("x-unverified", self.is_unverified),
            ("x-late", self.is_late),
            ("x-duplicate", self.is_duplicate),
        ];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            headers.insert(name, FieldValue::Bool(true));
        }
        OwnedProperties {
            content_type: self.content_type.map(str::to_owned),
            headers: Some(headers),
            delivery_mode: Some(2),
            correlation_id: Some(self.correlation_id.unwrap_or(self.message_id).to_owned()),
            message_id: Some(self.event_id()),
            timestamp: Some(self.settled_at_ms / 1000),
            kind: Some("outcome".to_owned()),
            ..OwnedProperties::default()
        }
        .encode(out);
    }

    /// What the broker itself must know of these properties to keep the message.
    pub fn kept_properties() -> Properties<'static> {
        Properties { delivery_mode: Some(2), ..Properties::default() }
    }
}
