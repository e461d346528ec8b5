//! From AMQP 0-9-1's properties, which the library knows messages by, to the sections of AMQP 1.0, and back.
//!
//! | AMQP 0-9-1 | AMQP 1.0 |
//! |---|---|
//! | `message_id`, `correlation_id`, `reply_to`, `content_type`, `content_encoding` | the properties of that name |
//! | `type` | `subject` |
//! | `timestamp` (s) | `creation-time` (ms) |
//! | `delivery_mode` 2, `priority`, `expiration` | `durable`, `priority`, `ttl` in the header |
//! | headers | application properties: integers as `long`, long strings as `string`, or `binary` if they are not UTF-8 |
//! | header `x-delivery-count` | `delivery-count` in the header, which the broker keeps |
//! | body | a `data` section |
//!
//! What other clients send is understood in more forms: ids of any type, an `amqp-value` as body, and, from STOMP,
//! where all headers are texts, numbers and truth values of known headers as texts. What there is no room for (lists and
//! maps as headers, ids of more than 255 bytes) is taken as not given.
//!
//! *Invariants:* what the library writes comes back as it was; nothing foreign panics.

use std::time::Duration;

use ::amqp::{BStr, ByteSlice, FieldTable, FieldValue, OwnedProperties, ValueRef};
use bytes::Bytes;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Batch, Body, Data, Header, Message, MessageAnnotations,
    MessageId, Priority, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, SimpleValue, Symbol, Timestamp, Value};

use super::super::properties::{ATTEMPTS, PUBLISHED_AT, QUEUES};

/// A message as it is sent.
pub(super) type Outbound = Message<Body<Value>>;

/// What short strings can have.
const SHORT_BYTES_MAX: usize = 255;

/// Deliveries before this one, as the library knows them.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// Where a producer that cannot set the message's id puts it.
const MESSAGE_ID: &str = "x-message-id";

/// Until when, by the clock of the worker that has sent it, a copy is to wait, ms since the epoch.
const DELAYED_UNTIL: &str = "x-delayed-until";
/// How long that was, ms.
const DELAY: &str = "x-delay";

/// Headers of which a copy has its own.
const COPYS: [&str; 4] = [DELIVERY_COUNT, ATTEMPTS, DELAYED_UNTIL, DELAY];

/// Headers that are numbers, whatever they came as.
const NUMBERS: [&str; 5] = ["x-deadline", PUBLISHED_AT, QUEUES, ATTEMPTS, "x-settled-at"];

/// How the broker is to treat a message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Treatment {
    /// After which time it is of no use to anybody.
    pub(super) ttl: Option<Duration>,
    /// How long it is to wait before it is delivered.
    pub(super) delay: Option<Duration>,
    /// Its body is a text in the eyes of its producer.
    pub(super) is_text: bool,
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Encoded, in AMQP 0-9-1.
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
    /// Its body is an `amqp-value` with a string.
    pub(super) is_text: bool,
    /// Deliveries before this one that the broker has counted.
    pub(super) delivery_count: u32,
}

fn text(bytes: &BStr) -> Option<String> {
    bytes.to_str().ok().map(str::to_owned)
}

fn id(bytes: &BStr) -> MessageId {
    match bytes.to_str() {
        Ok(text) => MessageId::String(text.to_owned()),
        Err(_) => MessageId::Binary(Binary::from(bytes.to_vec())),
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A message to be sent.
pub(super) fn outbound(encoded: &[u8], body: &Bytes, treatment: Treatment) -> Outbound {
    let properties = ::amqp::Properties::decode(encoded).unwrap_or_default();
    let expiration = properties.expiration.and_then(|it| it.to_str().ok()?.parse().ok());
    let header = Header {
        durable: properties.delivery_mode == Some(2),
        priority: properties.priority.map(Priority).unwrap_or_default(),
        ttl: treatment.ttl.map(milliseconds).or(expiration),
        ..Header::default()
    };
    let annotations = treatment.delay.map(|delay| {
        let delay = i64::from(milliseconds(delay).max(1));
        MessageAnnotations::builder().insert("x-opt-delivery-delay", Value::Long(delay)).build()
    });
    let headers = properties
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .filter_map(|header| header.ok());
    let mut application = ApplicationProperties::default();
    for (name, value) in headers {
        if let (Some(name), Some(value)) = (text(name), to_simple(value)) {
            application.0.insert(name, value);
        }
    }
    application.0.swap_remove(DELIVERY_COUNT);
    let body = match std::str::from_utf8(body) {
        Ok(text) if treatment.is_text => Body::Value(AmqpValue(Value::String(text.to_owned()))),
        _ => Body::Data(Batch::new(vec![Data(Binary::from(body.to_vec()))])),
    };
    Message {
        header: Some(header),
        delivery_annotations: None,
        message_annotations: annotations,
        properties: Some(Properties {
            message_id: properties.message_id.map(id),
            subject: properties.kind.and_then(text),
            reply_to: properties.reply_to.and_then(text),
            correlation_id: properties.correlation_id.map(id),
            content_type: properties.content_type.and_then(text).map(Symbol),
            content_encoding: properties.content_encoding.and_then(text).map(Symbol),
            creation_time: properties.timestamp.and_then(|seconds| {
                let ms = i64::try_from(seconds).ok()?.checked_mul(1000)?;
                Some(Timestamp::from_milliseconds(ms))
            }),
            ..Properties::new()
        }),
        application_properties: (!application.0.is_empty()).then_some(application),
        body,
        footer: None,
    }
}

/// A message that has come.
pub(super) fn inbound(message: Message<Body<Value>>) -> Inbound {
    let Message { header, properties, application_properties, body, .. } = message;
    let header = header.unwrap_or_default();
    let properties = properties.unwrap_or_default();
    let mut headers = FieldTable::new();
    let mut given_id = None;
    for (name, value) in application_properties.unwrap_or_default().0 {
        if name.len() > SHORT_BYTES_MAX || name == DELIVERY_COUNT {
            continue;
        }
        if let Some(value) = to_field(value) {
            if name == MESSAGE_ID
                && let FieldValue::LongString(id) = &value
            {
                given_id = Some(id.clone());
            }
            let value = if NUMBERS.contains(&&*name) { as_number(value) } else { value };
            headers.push(name, value);
        }
    }
    headers.push(DELIVERY_COUNT, i64::from(header.delivery_count));
    let short = |bytes: Vec<u8>| (bytes.len() <= SHORT_BYTES_MAX).then(|| bytes.into());
    let short_text = |text: String| short(text.into_bytes());
    // An outcome message has in this header the id of another.
    let is_outcome = properties.subject.as_deref() == Some("outcome");
    let given_id = given_id.filter(|_| !is_outcome).and_then(short);
    let created = properties.creation_time.and_then(|time| u64::try_from(time.milliseconds()).ok());
    let converted = OwnedProperties {
        content_type: properties.content_type.map(|it| it.0).and_then(short_text),
        content_encoding: properties.content_encoding.map(|it| it.0).and_then(short_text),
        headers: Some(headers),
        delivery_mode: Some(if header.durable { 2 } else { 1 }),
        priority: (header.priority != Priority::default()).then_some(header.priority.0),
        correlation_id: properties.correlation_id.map(id_bytes).and_then(short),
        reply_to: properties.reply_to.and_then(short_text),
        expiration: header.ttl.map(|ttl| ttl.to_string()).and_then(short_text),
        message_id: given_id.or_else(|| properties.message_id.map(id_bytes).and_then(short)),
        timestamp: created.map(|ms| ms / 1000),
        kind: properties.subject.and_then(short_text),
        ..OwnedProperties::default()
    };
    let mut encoded = Vec::with_capacity(256);
    converted.encode(&mut encoded);
    let is_text = matches!(&body, Body::Value(AmqpValue(Value::String(_))));
    Inbound {
        properties: encoded.into(),
        body: bytes_of(body),
        is_text,
        delivery_count: header.delivery_count,
    }
}

fn id_bytes(id: MessageId) -> Vec<u8> {
    match id {
        MessageId::Ulong(number) => number.to_string().into_bytes(),
        MessageId::Uuid(uuid) => uuid_text(*uuid.as_inner()).into_bytes(),
        MessageId::Binary(bytes) => bytes.into_vec(),
        MessageId::String(text) => text.into_bytes(),
    }
}

fn uuid_text(bytes: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// The body as bytes. A list or a map is one that only its producer's own kind can read.
fn bytes_of(body: Body<Value>) -> Bytes {
    match body {
        Body::Data(batch) => {
            let mut sections = batch.into_iter().map(|data| data.0.into_vec());
            let mut bytes = sections.next().unwrap_or_default();
            sections.for_each(|section| bytes.extend(section));
            bytes.into()
        }
        Body::Value(AmqpValue(value)) => match value {
            Value::String(text) | Value::Symbol(Symbol(text)) => text.into(),
            Value::Binary(bytes) => bytes.into_vec().into(),
            Value::Null => Bytes::new(),
            Value::Bool(value) => value.to_string().into(),
            other => match integer(&other) {
                Some(number) => number.to_string().into(),
                None => Bytes::new(),
            },
        },
        Body::Sequence(_) | Body::Empty => Bytes::new(),
    }
}

fn integer(value: &Value) -> Option<i64> {
    Some(match *value {
        Value::Ubyte(value) => value.into(),
        Value::Ushort(value) => value.into(),
        Value::Uint(value) => value.into(),
        Value::Ulong(value) => i64::try_from(value).ok()?,
        Value::Byte(value) => value.into(),
        Value::Short(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Long(value) => value,
        _ => return None,
    })
}

/// `None`: application properties have no such thing.
fn to_simple(value: ValueRef<'_>) -> Option<SimpleValue> {
    Some(match value {
        ValueRef::Bool(value) => SimpleValue::Bool(value),
        ValueRef::F32(value) => SimpleValue::Float(value.into()),
        ValueRef::F64(value) => SimpleValue::Double(value.into()),
        ValueRef::LongString(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => SimpleValue::String(text.to_owned()),
            Err(_) => SimpleValue::Binary(Binary::from(bytes.to_vec())),
        },
        ValueRef::Bytes(bytes) => SimpleValue::Binary(Binary::from(bytes.to_vec())),
        ValueRef::Timestamp(seconds) => {
            let ms = i64::try_from(seconds).ok()?.checked_mul(1000)?;
            SimpleValue::Timestamp(Timestamp::from_milliseconds(ms))
        }
        ValueRef::Void => SimpleValue::Null,
        ValueRef::Array(_) | ValueRef::Table(_) | ValueRef::Decimal { .. } => return None,
        integer => SimpleValue::Long(integer.as_i64()?),
    })
}

/// `None`: AMQP 0-9-1 has no such thing.
fn to_field(value: SimpleValue) -> Option<FieldValue> {
    Some(match value {
        SimpleValue::Null => FieldValue::Void,
        SimpleValue::Bool(value) => FieldValue::Bool(value),
        SimpleValue::Float(value) => FieldValue::F32(value.into_inner()),
        SimpleValue::Double(value) => FieldValue::F64(value.into_inner()),
        SimpleValue::Char(value) => FieldValue::LongString(value.to_string().into_bytes()),
        SimpleValue::Timestamp(time) => {
            FieldValue::Timestamp(u64::try_from(time.milliseconds()).ok()? / 1000)
        }
        SimpleValue::Uuid(uuid) => FieldValue::LongString(uuid_text(*uuid.as_inner()).into_bytes()),
        SimpleValue::Binary(bytes) => FieldValue::LongString(bytes.into_vec()),
        SimpleValue::String(text) | SimpleValue::Symbol(Symbol(text)) => {
            FieldValue::LongString(text.into_bytes())
        }
        other => FieldValue::I64(integer(&other.into())?),
    })
}

fn as_number(value: FieldValue) -> FieldValue {
    let number = match &value {
        FieldValue::LongString(bytes) => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok())
        }
        FieldValue::F64(number) => whole(*number),
        FieldValue::F32(number) => whole((*number).into()),
        _ => None,
    };
    number.map_or(value, FieldValue::I64)
}

/// A floating number as what it was meant to be: some clients have no others.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// What is sent for a message that is to be tried again: it asks for the same, and says how often it was tried and how
/// long it is to wait.
pub(super) fn copy(encoded: &[u8], attempts: u32, delay: Option<Duration>, now_ms: u64) -> Vec<u8> {
    let mut properties = OwnedProperties::decode(encoded).unwrap_or_default();
    let headers = properties.headers.take().unwrap_or_default();
    let mut headers: FieldTable = headers
        .into_iter()
        .filter(|(name, _)| COPYS.iter().all(|own| name != own) && !is_brokers(name))
        .collect();
    headers.push(ATTEMPTS, i64::from(attempts));
    if let Some(delay) = delay {
        let delay_ms = milliseconds(delay).into();
        headers.push(
            DELAYED_UNTIL,
            i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_add(delay_ms),
        );
        headers.push(DELAY, delay_ms);
    }
    properties.headers = Some(headers);
    properties.delivery_mode = Some(2);
    // That of the original has not passed: it was delivered.
    properties.expiration = None;
    let mut copied = Vec::new();
    properties.encode(&mut copied);
    copied
}

/// How long a message still has to wait: a broker need not know of delays, and then delivers it at once. Never longer than
/// was said, whatever the clocks say.
pub(super) fn left_to_wait(encoded: &[u8], now_ms: u64) -> Option<Duration> {
    let headers = ::amqp::Properties::decode(encoded).ok()?.headers?;
    let number = |name: &str| u64::try_from(headers.get(name).ok()??.as_i64()?).ok();
    let left_ms = number(DELAYED_UNTIL)?.checked_sub(now_ms)?.min(number(DELAY)?);
    (left_ms > 0).then(|| Duration::from_millis(left_ms))
}

/// Headers that the broker adds: a copy is another message to it.
fn is_brokers(name: &impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    name.starts_with(b"_AMQ_") || name == b"scheduledJobId" || name.starts_with(b"AMQ_SCHEDULED_")
}

#[cfg(test)]
mod tests;
