//! Reading an outcome message.
//!
//! Strict about the essentials: without a known outcome and the message's id, nobody can tell what
//! became of what. Everything else may be missing, of another type, or new: a newer server may say
//! more, and that must not hide the outcome from an older client.

use std::borrow::Cow;

use amqp::{BStr, ByteSlice, DecodeError, Properties, TableRef, ValueRef};

use super::{ERROR_CONTENT_TYPE, OutcomeMessage, error_header, fits_header, traceparent};
use crate::{Details, Flags, Outcome, Reason, Verdict, Worker};

/// Why a message cannot be read as an outcome message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeMessageError {
    /// A required header is missing or is not text.
    #[error("it is no outcome message: header '{0}' is missing")]
    Missing(&'static str),
    /// An outcome that only newer versions know.
    #[error("the outcome '{0}' is unknown here; update the client")]
    Unknown(String),
    /// Headers that cannot be decoded.
    #[error("it is no outcome message: {0}")]
    Headers(#[from] DecodeError),
}

impl<'a> OutcomeMessage<'a> {
    /// Decodes a message from its properties and body.
    ///
    /// The correlation id is always set: where the original had none, it is the message's id. A
    /// reason that only newer versions know is left out.
    ///
    /// # Errors
    /// The message is not an outcome message, or its outcome is unknown here.
    pub fn decode(
        properties: &Properties<'a>,
        body: &'a [u8],
    ) -> Result<Self, OutcomeMessageError> {
        let headers = Headers::read(properties.headers.unwrap_or(TableRef::new(&[])))?;
        let outcome = headers.outcome.ok_or(OutcomeMessageError::Missing("x-outcome"))?;
        let outcome = Outcome::parse(outcome)
            .ok_or_else(|| OutcomeMessageError::Unknown(outcome.to_owned()))?;
        let id = headers.message_id.ok_or(OutcomeMessageError::Missing("x-message-id"))?;
        let (error, is_body) = whole_error(headers.error, properties.content_type, body);
        let has_result = !is_body && (!body.is_empty() || properties.content_type.is_some());
        Ok(Self {
            verdict: Verdict {
                outcome,
                reason: headers.reason.and_then(Reason::parse),
                attempts: headers.attempts,
                queue_count: headers.queue_count,
                published_at_ms: headers.published_at_ms,
                flags: headers.flags,
            },
            details: Details {
                message_id: id.into(),
                worker: headers.worker.text().into(),
                error: error.map(Cow::Borrowed),
                content_type: properties.content_type.filter(|_| !is_body).map(Cow::Borrowed),
                result: has_result.then_some(Cow::Borrowed(body)),
                dead_letter_exchange: headers.dead_letter_exchange.map(Cow::Borrowed),
            },
            correlation_id: properties.correlation_id.map(Cow::Borrowed),
            queue: headers.queue.unwrap_or_default().into(),
            settled_at_ms: headers.settled_at_ms,
            result_bytes: headers.result_bytes,
            traceparent: traceparent(properties).map(Cow::Borrowed),
        })
    }
}

/// The error text, and whether it is the body: then the header has only its beginning.
fn whole_error<'a>(
    header: Option<&'a str>,
    content_type: Option<&BStr>,
    body: &'a [u8],
) -> (Option<&'a BStr>, bool) {
    let text = body.as_bstr();
    let is_long = content_type.is_some_and(|it| it == ERROR_CONTENT_TYPE) && !fits_header(text);
    if is_long && header == Some(&*error_header(text)) {
        return (Some(text), true);
    }
    (header.map(BStr::new), false)
}

/// The known headers, as received.
#[derive(Default)]
struct Headers<'a> {
    outcome: Option<&'a str>,
    message_id: Option<&'a BStr>,
    queue: Option<&'a str>,
    reason: Option<&'a str>,
    worker: Worker<'a>,
    error: Option<&'a str>,
    dead_letter_exchange: Option<&'a str>,
    queue_count: u16,
    attempts: u16,
    published_at_ms: u64,
    settled_at_ms: u64,
    result_bytes: Option<u64>,
    flags: Flags,
}

impl<'a> Headers<'a> {
    fn read(headers: TableRef<'a>) -> Result<Self, DecodeError> {
        let mut read = Self::default();
        for header in headers.iter() {
            let (name, value) = header?;
            read.take(name, &value);
        }
        Ok(read)
    }

    fn take(&mut self, name: &BStr, value: &ValueRef<'a>) {
        let flag = |flags: Flags, flag| flags.with_if(value.as_bool() == Some(true), flag);
        match name.as_bytes() {
            b"x-outcome" => self.outcome = value.as_str(),
            b"x-message-id" => self.message_id = value.as_bytes().map(BStr::new),
            b"x-queue" => self.queue = value.as_str(),
            b"x-queues" => self.queue_count = count(value),
            b"x-reason" => self.reason = value.as_str(),
            b"x-attempts" => self.attempts = count(value),
            b"x-published-at" => self.published_at_ms = number(value).unwrap_or_default(),
            b"x-settled-at" => self.settled_at_ms = number(value).unwrap_or_default(),
            b"x-worker" => self.worker.name = value.as_str().unwrap_or_default(),
            b"x-worker-user" => self.worker.user = value.as_str().unwrap_or_default(),
            b"x-error" => self.error = value.as_str(),
            b"x-dead-letter-exchange" => self.dead_letter_exchange = value.as_str(),
            b"x-result-bytes" => self.result_bytes = number(value),
            b"x-unverified" => self.flags = flag(self.flags, Flags::UNVERIFIED),
            b"x-late" => self.flags = flag(self.flags, Flags::LATE),
            b"x-duplicate" => self.flags = flag(self.flags, Flags::DUPLICATE),
            b"x-dead-letter-copy" => self.flags = flag(self.flags, Flags::COPY),
            _ => {}
        }
    }
}

/// `None` for anything but a non-negative number.
fn number(value: &ValueRef<'_>) -> Option<u64> {
    value.as_i64().and_then(|number| u64::try_from(number).ok())
}

/// A count that is too large becomes the largest possible one.
fn count(value: &ValueRef<'_>) -> u16 {
    number(value).map_or(0, |number| u16::try_from(number).unwrap_or(u16::MAX))
}
