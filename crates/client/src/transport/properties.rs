//! From the library's messages to AMQP's properties and headers, and back: the same on a socket and in
//! process.

use ::amqp::{
    BStr, ByteSlice, FieldTable, FieldValue, OwnedProperties, Properties, TableRef, TableWriter,
};
use ::outcome::{OutcomeMessage, OutcomeMessageError};
use bytes::Bytes;

use super::{Incoming, Outgoing, Token};
use crate::making::now_ms;
use crate::outcome::Settled;

/// Outcomes that may be under way to us at a time.
pub(super) const OUTCOMES_PREFETCH: u16 = 1000;

/// When a message was published, by its producer's clock, ms since the epoch: the deadline is measured from
/// then.
const PUBLISHED_AT: &str = "x-published-at";

/// Attempts before a message was published, in copies that wait for the next one.
pub(super) const ATTEMPTS: &str = "x-attempts";

/// Those of a message that asks for its outcome.
pub(super) fn of_message(message: &Outgoing, reply_to: &str) -> Bytes {
    let mut headers = Vec::new();
    let mut writer = TableWriter::new(&mut headers);
    writer.text("x-notify", "all");
    // Sending ends when the message is stored, whatever the queue asks for.
    writer.text("x-confirm-on", "enqueue");
    writer.integer(PUBLISHED_AT, now_ms() as i64);
    if let Some(deadline) = message.deadline {
        writer.integer("x-deadline", deadline.as_millis().clamp(1, i64::MAX as u128) as i64);
    }
    for (name, text) in &message.headers {
        writer.text(name, text);
    }
    let mut encoded = Vec::with_capacity(128);
    Properties {
        content_type: Some(message.content_type.into()),
        headers: Some(TableRef::new(&headers)),
        delivery_mode: Some(2),
        message_id: Some((&*message.id).into()),
        reply_to: Some(reply_to.into()),
        ..Properties::default()
    }
    .encode(&mut encoded);
    encoded.into()
}

/// Those of a report with a result.
pub(super) fn of_result(content_type: &str) -> OwnedProperties {
    OwnedProperties { content_type: Some(content_type.into()), ..OwnedProperties::default() }
}

/// Those of a report with an error text.
pub(super) fn of_error() -> OwnedProperties {
    let headers: FieldTable = [("x-outcome", "failed")].into_iter().collect();
    OwnedProperties {
        content_type: Some("text/plain; charset=utf-8".into()),
        headers: Some(headers),
        ..OwnedProperties::default()
    }
}

/// What an outcome message says.
pub(super) fn settled(properties: &[u8], body: &[u8]) -> Result<Settled, OutcomeMessageError> {
    let properties = Properties::decode(properties)?;
    Ok(Settled::of(&OutcomeMessage::decode(&properties, body)?))
}

/// A message for a worker. What cannot be read of its properties is taken as not given: the body may
/// be all right.
pub(super) fn incoming(
    properties: &[u8],
    is_redelivered: bool,
    body: Bytes,
    token: Token,
) -> Incoming {
    let properties = OwnedProperties::decode(properties).unwrap_or_default();
    let headers = properties.headers.unwrap_or_default();
    let number = |name: &str| {
        let number = headers.get(name).and_then(FieldValue::as_i64)?;
        u64::try_from(number).ok()
    };
    // Without the time of publishing the broker alone knows when the deadline passes.
    let deadline_at_ms = number(PUBLISHED_AT)
        .zip(number("x-deadline"))
        .and_then(|(published_at_ms, deadline_ms)| published_at_ms.checked_add(deadline_ms));
    let count = |name: &str| number(name).and_then(|count| u32::try_from(count).ok());
    let attempts_before = match (count("x-delivery-count"), count(ATTEMPTS)) {
        (None, None) => None,
        (delivered, before) => {
            Some(delivered.unwrap_or_default().saturating_add(before.unwrap_or_default()))
        }
    };
    Incoming {
        id: properties.message_id.map(|id| id.to_string()).unwrap_or_default(),
        attempts_before,
        is_redelivered,
        deadline_at_ms,
        headers: headers.iter().filter_map(|(name, value)| text_header(name, value)).collect(),
        body,
        token,
    }
}

/// A header of the producer's own, as texts; those that the broker and this library read are none.
fn text_header(name: &BStr, value: &FieldValue) -> Option<(String, String)> {
    let name = name.to_str().ok().filter(|name| !name.starts_with("x-"))?;
    let text = match value {
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::F32(value) => value.to_string(),
        FieldValue::F64(value) => value.to_string(),
        FieldValue::LongString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_i64()?.to_string(),
    };
    Some((name.to_owned(), text))
}
