//! What is published, and whether what comes out is what went in.

use amqp::{FieldTable, FieldValue, OwnedProperties};
use outcome::Notify;

use crate::model::Key;
use crate::topology::{Name, REPLIES, notify_name, queue_name};
use crate::wire::Delivered;

/// A published message. Its number is in the property `app_id`.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub number: u32,
    /// The property `message_id`.
    pub id: Option<String>,
    pub asks: Asks,
    /// Whether it has an id, or it or one of its queues asks for something.
    pub is_tracked: bool,
    /// The queues it was routed to, and how many there are.
    pub routed: Vec<Name>,
    pub queue_count: usize,
    /// When its deadline passes; 0 for never.
    pub deadline_at_ms: u64,
    pub persistent: bool,
    /// Whether durable queues keep it: it is persistent or tracked, or goes to a quorum queue.
    pub is_kept: bool,
    pub priority: Option<u8>,
    pub expiration_ms: Option<u64>,
    pub body_bytes: usize,
    pub has_headers: bool,
    pub exchange: &'static str,
    pub routing_key: &'static str,
    /// The channel it was published on, different from any other, and its place there.
    pub channel: u64,
    pub sequence: u64,
    pub published_at_ms: u64,
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asks {
    /// `x-notify`
    pub notify: Option<Notify>,
    /// `x-confirm-on: ack`
    pub confirm_on_ack: bool,
    /// `x-deadline`
    pub deadline_ms: Option<u64>,
    /// Whether it says where outcomes should go.
    pub reply_to: bool,
}

impl Asks {
    /// Whether the message itself asks for an outcome.
    pub(crate) fn is_any(&self) -> bool {
        self.notify.is_some() || self.confirm_on_ack || self.deadline_ms.is_some()
    }
}

/// Where and why a message once died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    pub queue: Name,
    pub reason: String,
    pub count: i64,
}

/// What can be seen of a message that came out of a queue.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub number: u32,
    /// `x-death`, the latest first.
    pub deaths: Vec<Death>,
    /// `x-first-death-queue`.
    pub origin: Option<Name>,
    /// For an outcome message: what it says, see [`crate::told::Told::event`].
    pub event: Option<String>,
    pub delivery_count: Option<i64>,
}

impl Seen {
    /// Distinguishes copies of a message in the same queue; empty for the message as published.
    pub(crate) fn history(&self) -> String {
        if let Some(event) = &self.event {
            return event.clone();
        }
        let deaths = self.deaths.iter().map(|d| format!("{}:{}:{}", d.queue, d.reason, d.count));
        deaths.collect::<Vec<_>>().join("|")
    }
}

impl Published {
    pub(crate) fn properties(&self) -> OwnedProperties {
        let mut headers = FieldTable::new();
        if self.has_headers {
            headers.insert("number", FieldValue::I64(i64::from(self.number)));
        }
        if let Some(notify) = self.asks.notify {
            headers.insert("x-notify", notify_name(notify));
        }
        if self.asks.confirm_on_ack {
            headers.insert("x-confirm-on", "ack");
        }
        if let Some(ms) = self.asks.deadline_ms {
            headers.insert("x-deadline", FieldValue::I64(ms as i64));
        }
        OwnedProperties {
            correlation_id: Some(format!("m{}", self.number).into()),
            reply_to: self.asks.reply_to.then(|| REPLIES.to_owned()).map(Into::into),
            app_id: Some(format!("m{}", self.number).into()),
            message_id: self.id.clone().map(Into::into),
            delivery_mode: Some(if self.persistent { 2 } else { 1 }),
            priority: self.priority,
            expiration: self.expiration_ms.map(|ms| ms.to_string()).map(Into::into),
            headers: (!headers.is_empty()).then_some(headers),
            ..OwnedProperties::default()
        }
    }

    pub(crate) fn encoded_properties(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        self.properties().encode(&mut encoded);
        encoded
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let byte = |at: usize| (self.number as usize * 31 + at * 7 + at / 251) as u8;
        (0..self.body_bytes).map(byte).collect()
    }

    /// Whether a copy survives a crash in a durable queue. A tracked message does; otherwise, once
    /// it is dead-lettered, its own delivery mode counts.
    pub(crate) fn survives(&self, (_, queue, history): &Key) -> bool {
        match history.is_empty() {
            true => self.is_kept,
            false => self.persistent || self.is_tracked || *queue == REPLIES,
        }
    }

    /// Whether its dead-letter copies survive a crash in a durable queue.
    pub(crate) fn sinks(&self) -> bool {
        self.persistent || self.is_tracked
    }

    /// Priority level in a queue.
    pub(crate) fn level(&self, priority_max: u8) -> u8 {
        self.priority.unwrap_or(0).min(priority_max)
    }
}

/// The number in the properties of a message that was returned or delivered.
pub(crate) fn number_of(properties: &OwnedProperties) -> u32 {
    let id = properties.app_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let number = id.strip_prefix('m').and_then(|digits| digits.parse().ok());
    number.unwrap_or_else(|| panic!("a message that nobody published: {properties:?}"))
}

/// Checks content and properties against what was published.
pub(crate) fn read(delivered: &Delivered, all: &[Published]) -> Seen {
    let mut properties = OwnedProperties::decode(&delivered.properties).expect("well-formed");
    let number = number_of(&properties);
    let published = all
        .get(number as usize)
        .unwrap_or_else(|| panic!("m{number} came out and was never published"));
    assert_eq!(delivered.body, published.body(), "the body of m{number} is not what was published");
    let mut expected = published.properties();
    let mut headers = properties.headers.take().unwrap_or_default();
    let delivery_count = headers.remove("x-delivery-count").and_then(|count| count.as_i64());
    let deaths = deaths(headers.remove("x-death"));
    let mut origin = None;
    for which in ["first", "last"] {
        for what in ["queue", "reason", "exchange"] {
            let value = headers.remove(&format!("x-{which}-death-{what}"));
            if (which, what) == ("first", "queue") {
                origin = value.as_ref().and_then(FieldValue::as_str).map(queue_name);
            }
        }
    }
    if deaths.is_empty() {
        let at = (delivered.exchange.as_str(), delivered.routing_key.as_str());
        assert_eq!(at, (published.exchange, published.routing_key), "the address of m{number}");
    } else {
        expected.expiration = None;
    }
    properties.headers = Some(headers);
    expected.headers.get_or_insert_default();
    if published.id.is_none() && published.is_tracked {
        let id = properties.message_id.take().unwrap_or_default();
        assert_eq!(id.len(), 36, "m{number} got the id {id:?}");
    }
    assert_eq!(properties, expected, "the properties of m{number} are not what was published");
    Seen { number, deaths, origin, event: None, delivery_count }
}

fn deaths(value: Option<FieldValue>) -> Vec<Death> {
    let Some(FieldValue::Array(entries)) = value else { return Vec::new() };
    let read = |entry: &FieldValue| {
        let table = entry.as_table().expect("a table");
        let text = |name| table.get(name).and_then(FieldValue::as_str).expect("text").to_owned();
        let count = table.get("count").and_then(FieldValue::as_i64).expect("a count");
        Death { queue: queue_name(&text("queue")), reason: text("reason"), count }
    };
    entries.iter().map(read).collect()
}
