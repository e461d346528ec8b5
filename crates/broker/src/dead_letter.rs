//! What a message becomes when it leaves a queue for the dead-letter exchange: `x-death` and its
//! companions exactly as RabbitMQ writes them (its guide "Dead Letter Exchanges").

use amqp::{
    BStr, BString, ByteSlice, DecodeError, FieldTable, FieldValue, OwnedProperties, Properties,
};

use crate::message::Origin;
use crate::{Message, Tracking};

/// Headers that only the broker writes.
const BROKERS_OWN: [&str; 7] = [
    "x-death",
    "x-first-death-reason",
    "x-first-death-queue",
    "x-first-death-exchange",
    "x-last-death-reason",
    "x-last-death-queue",
    "x-last-death-exchange",
];

/// Where, why and when a message died.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// The queue it leaves.
    pub queue: &'a str,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: &'a str,
    /// The exchange it goes to.
    pub exchange: &'a str,
    /// `x-dead-letter-routing-key`.
    pub routing_key: Option<&'a str>,
    /// ms since the epoch.
    pub now_ms: u64,
}

/// The copy that is published to the dead-letter exchange, and the routing keys it is routed by: its
/// own first, then those in `CC` and `BCC`.
///
/// Deaths that a client has written into the headers are ignored, as in RabbitMQ 4: `x-death` and its
/// companions are the broker's.
pub fn dead_letter(
    message: &Message,
    death: &Death<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(Message, Vec<BString>), DecodeError> {
    let mut properties = OwnedProperties::try_from(&message.properties()?)?;
    let mut headers = properties.headers.take().unwrap_or_default();

    let mut keys = vec![message.routing_key().to_owned()];
    keys.extend(copy_keys(&headers, "CC"));
    // Receivers see these.
    let death_keys = keys.clone();
    keys.extend(copy_keys(&headers, "BCC"));
    if let Some(routing_key) = death.routing_key {
        headers.remove("CC");
        headers.remove("BCC");
        keys = vec![routing_key.into()];
    }
    let has_bcc = headers.contains("BCC");
    if !message.head().has_died {
        BROKERS_OWN.into_iter().for_each(|name| drop(headers.remove(name)));
    }

    record_death(&mut headers, message, death, death_keys, properties.expiration.take());
    properties.headers = Some(headers);
    let mut encoded = Vec::with_capacity(message.properties_bytes().len() + 256);
    properties.encode(&mut encoded);
    let parsed = Properties::decode(&encoded)?;
    let (exchange, routing_key) = (short_string(death.exchange), short_key(keys[0].as_bstr()));
    let content = (exchange, routing_key, encoded.as_slice(), message.body());
    // The copy has the same id, so that the ledger can show what became of it; but it asks for
    // nothing, and what is not a producer's message is not followed any further.
    let tracking =
        message.followed().map(|of| Tracking { id: of.id, is_copy: true, ..Tracking::default() });
    let origin = Origin { tracking: tracking.as_ref(), has_died: true, has_bcc };
    Ok((Message::build(death.now_ms, &parsed, content, origin, scratch), keys))
}

/// Whether dead-lettering a message to `queue` would go round forever: it died there before, and no
/// client has rejected it since.
pub fn is_cycle(message: &Message, reason: &str, queue: &str) -> bool {
    if reason == "rejected" || !message.head().has_died {
        return false;
    }
    let Ok(properties) = message.properties() else { return false };
    let deaths = properties.headers.and_then(|headers| headers.get("x-death").ok().flatten());
    let Some(Ok(FieldValue::Array(deaths))) = deaths.map(|deaths| deaths.to_owned()) else {
        return false;
    };
    let field = |death: &FieldValue, name: &str, value: &str| {
        death.as_table().and_then(|table| table.get(name)).and_then(FieldValue::as_str)
            == Some(value)
    };
    let Some(there) = deaths.iter().position(|death| field(death, "queue", queue)) else {
        return false;
    };
    deaths[..=there]
        .iter()
        .all(|death| death.as_table().is_some() && !field(death, "reason", "rejected"))
}

/// The additional routing keys in a `CC` or `BCC` header.
pub fn copy_keys(headers: &FieldTable, name: &str) -> Vec<BString> {
    let keys = headers.get(name).and_then(FieldValue::as_array).unwrap_or_default();
    keys.iter().filter_map(FieldValue::as_bytes).map(BString::from).collect()
}

/// As much as fits in a short string: a queue's arguments may hold longer names.
fn short_string(text: &str) -> &str {
    &text[..text.floor_char_boundary(255)]
}

/// The same for a routing key. Those of messages fit anyway; what is not UTF-8 is one of them.
fn short_key(key: &BStr) -> &BStr {
    key.to_str().map_or(key, |text| short_string(text).into())
}

fn record_death(
    headers: &mut FieldTable,
    message: &Message,
    death: &Death<'_>,
    routing_keys: Vec<BString>,
    expiration: Option<BString>,
) {
    let mut deaths = match headers.remove("x-death") {
        Some(FieldValue::Array(deaths)) => deaths,
        _ => Vec::new(),
    };
    let is_first = deaths.is_empty();
    let is_same = |entry: &FieldValue| {
        let table = entry.as_table();
        let text = |name| table.and_then(|t| t.get(name)).and_then(FieldValue::as_str);
        text("queue") == Some(death.queue) && text("reason") == Some(death.reason)
    };
    let entry = match deaths.iter().position(is_same) {
        Some(at) => counted_again(deaths.remove(at)),
        None => {
            let keys = routing_keys.into_iter().map(FieldValue::from).collect();
            let mut entry = FieldTable::new();
            entry.insert("count", FieldValue::I64(1));
            entry.insert("reason", FieldValue::from(death.reason));
            entry.insert("queue", FieldValue::from(death.queue));
            entry.insert("time", FieldValue::Timestamp(death.now_ms / 1000));
            entry.insert("exchange", FieldValue::from(message.exchange()));
            entry.insert("routing-keys", FieldValue::Array(keys));
            if let Some(expiration) = expiration {
                entry.insert("original-expiration", FieldValue::from(expiration));
            }
            FieldValue::Table(entry)
        }
    };
    deaths.insert(0, entry);
    headers.insert("x-death", FieldValue::Array(deaths));
    if is_first {
        mark(headers, "first", message, death);
    }
    mark(headers, "last", message, death);
}

fn mark(headers: &mut FieldTable, which: &str, message: &Message, death: &Death<'_>) {
    headers.insert(format!("x-{which}-death-reason"), FieldValue::from(death.reason));
    headers.insert(format!("x-{which}-death-queue"), FieldValue::from(death.queue));
    headers.insert(format!("x-{which}-death-exchange"), FieldValue::from(message.exchange()));
}

fn counted_again(entry: FieldValue) -> FieldValue {
    let FieldValue::Table(mut table) = entry else { return entry };
    let count = table.get("count").and_then(FieldValue::as_i64).unwrap_or(0);
    table.insert("count", FieldValue::I64(count.saturating_add(1)));
    FieldValue::Table(table)
}
