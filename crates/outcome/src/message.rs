//! The outcome message: properties and headers, one for one as `docs/outcomes.md` lists them.

use amqp::{Properties, TableRef, TableWriter};

use crate::Outcome;

/// What a short string can hold (AMQP 0-9-1 section 4.2.5.3).
const SHORT_STRING_BYTES_MAX: usize = 255;

/// Bytes of an error text that stand in a header: headers go in one frame, and a client may have
/// agreed to 4096 bytes for that.
pub const ERROR_BYTES_MAX: usize = 1024;

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
    /// `x-error`: the worker's error text; of a longer one than [`ERROR_BYTES_MAX`] the beginning,
    /// and all of it is the body.
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
    /// `x-dead-letter-copy`: it is the outcome of a copy, which only watchers are told.
    pub is_copy: bool,
    /// `x-dead-letter-exchange`: where the message was sent on to.
    pub dead_letter_exchange: Option<&'a str>,
}

impl OutcomeMessage<'_> {
    /// The id of this event: the same however often it is told.
    pub fn event_id(&self) -> String {
        let Self { message_id, queue, outcome, .. } = self;
        let late = if self.is_late { "-late" } else { "" };
        let mut id = format!("{}{late}.{queue}.{message_id}", outcome.name());
        if id.len() > SHORT_STRING_BYTES_MAX {
            // What is cut off must not make two events one.
            let rest = format!("~{:016x}", fnv1a(id.as_bytes()));
            id.truncate(id.floor_char_boundary(SHORT_STRING_BYTES_MAX - rest.len()));
            id.push_str(&rest);
        }
        id
    }

    /// Appends its encoded properties; `scratch` is a buffer to be used again and again.
    pub fn encode_properties(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        let mut headers = TableWriter::new(scratch);
        headers.text("x-outcome", self.outcome.name());
        headers.text("x-message-id", self.message_id);
        headers.text("x-queue", self.queue);
        headers.integer("x-queues", i64::from(self.queue_count));
        headers.text("x-reason", self.reason);
        headers.integer("x-attempts", i64::from(self.attempts));
        headers.integer("x-published-at", self.published_at_ms as i64);
        headers.integer("x-settled-at", self.settled_at_ms as i64);
        if !self.worker.is_empty() {
            headers.text("x-worker", self.worker);
        }
        if let Some(error) = self.error {
            headers.text("x-error", &error[..error.floor_char_boundary(ERROR_BYTES_MAX)]);
        }
        if let Some(exchange) = self.dead_letter_exchange {
            headers.text("x-dead-letter-exchange", exchange);
        }
        if let Some(bytes) = self.result_bytes {
            headers.integer("x-result-bytes", bytes as i64);
        }
        let flags = [
            ("x-unverified", self.is_unverified),
            ("x-late", self.is_late),
            ("x-duplicate", self.is_duplicate),
            ("x-dead-letter-copy", self.is_copy),
        ];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            headers.boolean(name, true);
        }
        let event_id = self.event_id();
        Properties {
            content_type: match self.long_error() {
                Some(_) => Some("text/plain; charset=utf-8"),
                None => self.content_type,
            },
            headers: Some(TableRef::new(scratch)),
            delivery_mode: Some(2),
            correlation_id: Some(self.correlation_id.unwrap_or(self.message_id)),
            message_id: Some(&event_id),
            timestamp: Some(self.settled_at_ms / 1000),
            kind: Some("outcome"),
            ..Properties::default()
        }
        .encode(out);
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.long_error().map_or(self.result, str::as_bytes)
    }

    /// An error text that is too long for a header.
    fn long_error(&self) -> Option<&str> {
        self.error.filter(|error| error.len() > ERROR_BYTES_MAX)
    }

    /// What the broker itself must know of these properties to keep the message.
    pub fn kept_properties() -> Properties<'static> {
        Properties { delivery_mode: Some(2), ..Properties::default() }
    }
}

/// A hash that is the same for ever (Fowler, Noll, Vo: FNV-1a, 64 bits).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
