//! The outcome message: its properties and headers, exactly as `docs/outcomes.md` lists them.
//!
//! Owns both directions: what a broker writes, and what a client reads.

mod decode;

use std::borrow::Cow;

use amqp::{BStr, BString, ByteSlice, Properties, TableRef, TableWriter};

use crate::{Details, Verdict, Worker};

pub use decode::OutcomeMessageError;

/// What a short string can hold (AMQP 0-9-1 section 4.2.5.3).
const SHORT_STRING_BYTES_MAX: usize = 255;

/// Bytes of an error text that go into a header: headers must fit in one frame, and a client may
/// have negotiated frames of 4096 bytes.
pub const ERROR_BYTES_MAX: usize = 1024;

/// The header with which a message says of which trace it is (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// Bytes of it that are passed on: today's form has 55, later ones may have more.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// `content_type` of a body that is an error text.
const ERROR_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Everything an outcome message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeMessage<'a> {
    /// `x-outcome`, `x-reason`, `x-attempts`, `x-queues`, `x-published-at`; as flags
    /// `x-unverified`, `x-late`, `x-duplicate`, and `x-dead-letter-copy`, which only watchers see.
    /// The flag for a notified outcome is not in the message itself.
    pub verdict: Verdict,
    /// `x-message-id`, `x-worker`, `x-dead-letter-exchange`; the body is the result, with its
    /// `content_type`. If an error text is longer than [`ERROR_BYTES_MAX`], or not UTF-8,
    /// `x-error` has what it can and the body has all of it.
    pub details: Details<'a>,
    /// The original's `correlation_id`; if it has none, the message's id.
    pub correlation_id: Option<Cow<'a, BStr>>,
    /// `x-queue`: whose outcome it is; empty if the message reached none.
    pub queue: Cow<'a, str>,
    /// `x-settled-at`, ms since the epoch.
    pub settled_at_ms: u64,
    /// `x-result-bytes`: the full size of a report of which only the beginning was kept.
    pub result_bytes: Option<u64>,
    /// `traceparent`: the message's own, so that whoever is told goes on with its trace.
    pub traceparent: Option<Cow<'a, str>>,
}

/// The trace that a message says it belongs to; what cannot be one is none.
pub fn traceparent<'a>(properties: &Properties<'a>) -> Option<&'a str> {
    let value = properties.headers?.get(TRACEPARENT).ok()??;
    let is_one = |text: &&str| {
        text.len() <= TRACEPARENT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    value.as_str().filter(is_one).filter(|text| !text.is_empty())
}

impl OutcomeMessage<'_> {
    /// The id of this event: the same however often the event is sent.
    pub fn event_id(&self) -> BString {
        let Self { verdict, details, queue, .. } = self;
        let late = if verdict.is_late() { "-late" } else { "" };
        let (name, queue, id) = (verdict.outcome.name(), queue.as_bytes(), &details.message_id);
        let parts = [name.as_bytes(), late.as_bytes(), b".", queue, b".", id];
        let mut id = BString::from(parts.concat());
        if id.len() > SHORT_STRING_BYTES_MAX {
            // Cutting must not give two events the same id.
            let rest = format!("~{:016x}", fnv1a(&id));
            let end = char_boundary(&id, SHORT_STRING_BYTES_MAX - rest.len());
            id.truncate(end);
            id.extend_from_slice(rest.as_bytes());
        }
        id
    }

    /// Appends the encoded properties; `scratch` is a reusable buffer.
    pub fn encode_properties(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        self.encode_headers(TableWriter::new(scratch));
        let event_id = self.event_id();
        let content_type = match self.long_error() {
            Some(_) => Some(ERROR_CONTENT_TYPE.into()),
            None => self.details.content_type.as_deref(),
        };
        Properties {
            content_type,
            headers: Some(TableRef::new(scratch)),
            delivery_mode: Some(2),
            correlation_id: Some(self.correlation_id.as_ref().unwrap_or(&self.details.message_id)),
            message_id: Some(event_id.as_bstr()),
            timestamp: Some(self.settled_at_ms / 1000),
            kind: Some("outcome".into()),
            ..Properties::default()
        }
        .encode(out);
    }

    fn encode_headers(&self, mut headers: TableWriter<'_>) {
        let Self { verdict, details, .. } = self;
        headers.text("x-outcome", verdict.outcome.name());
        headers.bytes("x-message-id", &details.message_id);
        headers.text("x-queue", &self.queue);
        headers.integer("x-queues", i64::from(verdict.queue_count));
        headers.text("x-reason", verdict.reason_name());
        headers.integer("x-attempts", i64::from(verdict.attempts));
        headers.integer("x-published-at", verdict.published_at_ms as i64);
        headers.integer("x-settled-at", self.settled_at_ms as i64);
        let worker = Worker::parse(&details.worker);
        let texts = [("x-worker", worker.name), ("x-worker-user", worker.user)];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            headers.text(name, text);
        }
        if let Some(error) = &details.error {
            headers.text("x-error", &error_header(error));
        }
        if let Some(exchange) = &details.dead_letter_exchange {
            headers.text("x-dead-letter-exchange", exchange);
        }
        if let Some(bytes) = self.result_bytes {
            headers.integer("x-result-bytes", bytes as i64);
        }
        let flags = [
            ("x-unverified", verdict.is_unverified()),
            ("x-late", verdict.is_late()),
            ("x-duplicate", verdict.is_duplicate()),
            ("x-dead-letter-copy", verdict.is_copy()),
        ];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            headers.boolean(name, true);
        }
        if let Some(traceparent) = &self.traceparent {
            headers.text(TRACEPARENT, traceparent);
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        let result = self.details.result.as_deref().unwrap_or_default();
        self.long_error().map_or(result, |error| error.as_bytes())
    }

    /// The error text, if a header cannot hold all of it.
    fn long_error(&self) -> Option<&BStr> {
        self.details.error.as_deref().filter(|error| !fits_header(error))
    }

    /// The properties that the broker itself must know to store the message.
    pub fn kept_properties() -> Properties<'static> {
        Properties { delivery_mode: Some(2), ..Properties::default() }
    }

    /// The same, owned.
    pub fn into_owned(self) -> OutcomeMessage<'static> {
        OutcomeMessage {
            verdict: self.verdict,
            details: self.details.into_owned(),
            correlation_id: self.correlation_id.map(|id| Cow::Owned(id.into_owned())),
            queue: Cow::Owned(self.queue.into_owned()),
            settled_at_ms: self.settled_at_ms,
            result_bytes: self.result_bytes,
            traceparent: self.traceparent.map(|it| Cow::Owned(it.into_owned())),
        }
    }
}

/// Whether a header says all that an error text says: headers are UTF-8.
fn fits_header(error: &BStr) -> bool {
    error.len() <= ERROR_BYTES_MAX && error.to_str().is_ok()
}

/// As much of an error text as goes into a header; what is not UTF-8 is replaced by U+FFFD.
fn error_header(error: &BStr) -> Cow<'_, str> {
    let mut text = error[..char_boundary(error, ERROR_BYTES_MAX)].to_str_lossy();
    if text.len() > ERROR_BYTES_MAX {
        let end = text.floor_char_boundary(ERROR_BYTES_MAX);
        text.to_mut().truncate(end);
    }
    text
}

/// The last place up to `max` where a text can be cut: in UTF-8, not within a character.
fn char_boundary(text: &[u8], max: usize) -> usize {
    const CONTINUATION: std::ops::RangeInclusive<u8> = 0x80..=0xBF;
    if text.len() <= max {
        return text.len();
    }
    let is_boundary = |end: &usize| !CONTINUATION.contains(&text[*end]);
    (max.saturating_sub(3)..=max).rev().find(is_boundary).unwrap_or(max)
}

/// A hash that never changes (Fowler, Noll, Vo: FNV-1a, 64 bits).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
