//! From the library's messages to AMQP's properties and headers, and back: the same on a socket and in
//! process.

use std::sync::Arc;

use ::amqp::{
    BStr, ByteSlice, FieldTable, OwnedProperties, Properties, TableRef, TableWriter, ValueRef,
};
use ::outcome::{OutcomeMessage, OutcomeMessageError, Report};
use bytes::Bytes;

use super::{Incoming, Outgoing, Token};
use crate::outcome::Settled;
use crate::progress::{Progress, Progressed};
use crate::target::Key;
use crate::transport::making::{self, Origin};

/// Outcomes that may be under way to us at a time.
pub(super) const OUTCOMES_PREFETCH: u16 = 1000;

/// When a message was published, by its producer's clock, ms since the epoch: the deadline is measured from
/// then.
pub(crate) const PUBLISHED_AT: &str = "x-published-at";

/// Attempts before a message was published, in copies that wait for the next one.
pub(super) const ATTEMPTS: &str = "x-attempts";

/// Over how many queues a message is spread, where the engine does not know: so many outcomes there will be.
pub(crate) const QUEUES: &str = "x-queues";

/// `type` of a message that tells how far a worker has got.
const PROGRESS: &str = "progress";
/// How far that is, in thousandths.
pub(super) const PERMILLE: &str = "x-progress";

/// Those of a message that asks for its outcome.
pub(super) fn of_message(message: &Outgoing, reply_to: &str, now_ms: u64) -> Bytes {
    let mut headers = Vec::new();
    let mut writer = TableWriter::new(&mut headers);
    writer.text("x-notify", "all");
    // Sending ends when the message is stored, whatever the queue asks for.
    writer.text("x-confirm-on", "enqueue");
    writer.integer(PUBLISHED_AT, now_ms as i64);
    if let Some(deadline) = message.deadline {
        writer.integer("x-deadline", deadline.as_millis().clamp(1, i64::MAX as u128) as i64);
    }
    if let Some(count) = message.queue_count {
        writer.integer(QUEUES, count.into());
    }
    for (name, text) in &message.headers {
        writer.text(name, text);
    }
    let mut encoded = Vec::with_capacity(128);
    Properties {
        content_type: Some((&*message.content_type).into()),
        headers: Some(TableRef::new(&headers)),
        delivery_mode: Some(2),
        correlation_id: message.key.correlation().map(Into::into),
        message_id: Some((&*message.id).into()),
        reply_to: Some(reply_to.into()),
        ..Properties::default()
    }
    .encode(&mut encoded);
    encoded.into()
}

/// Those of a report.
pub(super) fn of_report(report: &Report) -> OwnedProperties {
    match report.is_error {
        true => of_error(),
        false => OwnedProperties {
            content_type: report.content_type.clone(),
            ..OwnedProperties::default()
        },
    }
}

/// Those of a report on progress, which goes into the message's story.
pub(super) fn of_progress_report(progress: &Progress) -> OwnedProperties {
    let headers: FieldTable = [(PERMILLE, permille(progress))].into_iter().collect();
    OwnedProperties {
        content_type: Some("text/plain; charset=utf-8".into()),
        headers: Some(headers),
        ..OwnedProperties::default()
    }
}

fn permille(progress: &Progress) -> i64 {
    (progress.fraction * 1000.0).round() as i64
}

/// Those of a report with an error text.
fn of_error() -> OwnedProperties {
    let headers: FieldTable = [("x-outcome", "failed")].into_iter().collect();
    OwnedProperties {
        content_type: Some("text/plain; charset=utf-8".into()),
        headers: Some(headers),
        ..OwnedProperties::default()
    }
}

/// A message in the queue of outcomes.
#[derive(Debug)]
pub(crate) enum Told {
    Outcome(Box<Settled>),
    Progress(Progressed),
}

/// What such a message says.
pub(crate) fn told(properties: &[u8], body: &[u8]) -> Result<Told, OutcomeMessageError> {
    let properties = Properties::decode(properties)?;
    if properties.kind.is_some_and(|kind| kind == PROGRESS) {
        return Ok(Told::Progress(progressed(&properties, body)?));
    }
    let settled = Settled::of(&OutcomeMessage::decode(&properties, body)?);
    Ok(Told::Outcome(Box::new(settled)))
}

fn progressed(properties: &Properties<'_>, body: &[u8]) -> Result<Progressed, OutcomeMessageError> {
    let headers = properties.headers.unwrap_or(TableRef::new(&[]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &'static str| {
        let value = headers.get(name)?.ok_or(OutcomeMessageError::Missing(name))?;
        Ok::<_, OutcomeMessageError>(value)
    };
    let id = header("x-message-id")?;
    let id = text(id.as_bytes().unwrap_or_default());
    let queue = header("x-queue")?;
    let queue = queue.as_str().unwrap_or_default();
    let permille = header(PERMILLE)?.as_i64().unwrap_or_default();
    let attempt = header(ATTEMPTS)?.as_i64().unwrap_or_default();
    let correlation = properties.correlation_id.and_then(|it| it.to_str().ok());
    Ok(Progressed {
        key: Key::of_outcome(queue, &id, correlation),
        progress: Progress {
            fraction: permille.clamp(0, 1000) as f64 / 1000.0,
            text: text(body),
            attempt: u16::try_from(attempt).unwrap_or(u16::MAX),
            queue: queue.to_owned(),
        },
    })
}

/// A message that tells how far a worker has got, but for its body, and where to.
pub(super) struct ProgressMessage {
    pub(super) reply_to: String,
    pub(super) properties: Vec<u8>,
}

/// `None`: nobody is to be told.
pub(super) fn of_progress(
    origin: &Origin,
    attempt: u32,
    progress: &Progress,
) -> Option<ProgressMessage> {
    let reply_to = origin.progress_to()?.to_owned();
    let mut headers = Vec::new();
    let mut writer = TableWriter::new(&mut headers);
    writer.bytes("x-message-id", origin.id.as_bstr());
    writer.text("x-queue", &origin.queue);
    writer.integer(PERMILLE, permille(progress));
    writer.integer(ATTEMPTS, attempt.into());
    let event_id = uuid::Uuid::now_v7().to_string();
    let mut properties = Vec::new();
    Properties {
        content_type: Some("text/plain; charset=utf-8".into()),
        headers: Some(TableRef::new(&headers)),
        delivery_mode: Some(1),
        correlation_id: origin.correlation_id.as_deref().map(Into::into),
        message_id: Some(event_id.as_str().into()),
        kind: Some(PROGRESS.into()),
        ..Properties::default()
    }
    .encode(&mut properties);
    Some(ProgressMessage { reply_to, properties })
}

/// A message for a worker. What cannot be read of its properties is taken as not given: the body may
/// be all right.
pub(super) fn incoming(
    queue: Arc<str>,
    encoded: Bytes,
    is_redelivered: bool,
    body: Bytes,
    token: Token,
) -> Incoming {
    let properties = Properties::decode(&encoded).unwrap_or_default();
    let headers = properties.headers.unwrap_or(TableRef::new(&[]));
    let number = |name: &str| {
        let value = headers.get(name).ok().flatten()?;
        u64::try_from(value.as_i64()?).ok()
    };
    let count = |name: &str| number(name).and_then(|count| u32::try_from(count).ok());
    let attempts_before = match (count("x-delivery-count"), count(ATTEMPTS)) {
        (None, None) => None,
        (delivered, before) => {
            Some(delivered.unwrap_or_default().saturating_add(before.unwrap_or_default()))
        }
    };
    let own = headers.iter().filter_map(|header| header.ok());
    let own = own.filter_map(|(name, value)| text_header(name, value)).collect();
    Incoming {
        id: properties.message_id.map(|id| id.to_str_lossy().into_owned()).unwrap_or_default(),
        deadline_at_ms: making::deadline_at_ms(number),
        queue,
        attempts_before,
        is_redelivered,
        headers: own,
        body,
        token,
        properties: encoded,
    }
}

/// A header of the producer's own, as texts; those that the broker and this library read are none.
fn text_header(name: &BStr, value: ValueRef<'_>) -> Option<(String, String)> {
    let name = name.to_str().ok().filter(|name| !name.starts_with("x-"))?;
    let text = match value {
        ValueRef::Bool(value) => value.to_string(),
        ValueRef::F32(value) => value.to_string(),
        ValueRef::F64(value) => value.to_string(),
        ValueRef::LongString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_i64()?.to_string(),
    };
    Some((name.to_owned(), text))
}
