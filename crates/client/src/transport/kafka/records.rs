//! From messages to Kafka's records, and back.
//!
//! A record's headers have the names that AMQP 0-9-1 has for properties (`message_id`, `reply_to`, …) and the names
//! of the headers of docs/outcomes.md (`x-notify`, `x-outcome`, …), each with its value as text: whoever writes
//! Kafka programs in another language needs no table of types.

use std::sync::Arc;

use ::amqp::{ByteSlice, Properties, TableRef, TableWriter, ValueRef};
use bytes::Bytes;
use krafka::{ConsumerRecord, Headers, Record};

use crate::transport::properties::{ATTEMPTS, PERMILLE, PUBLISHED_AT, QUEUES};

/// When a record of a retry topic is to be tried again, ms since the epoch.
pub(super) const RETRY_AT: &str = "x-retry-at";
/// Why a record is in a dead-letter topic.
pub(super) const DEAD_BECAUSE: &str = "x-error";
/// Deliveries of this record before this one, which a share group counts.
const DELIVERY_COUNT: &str = "x-delivery-count";

const MESSAGE_ID: &str = "message_id";
const CORRELATION_ID: &str = "correlation_id";
const REPLY_TO: &str = "reply_to";
const CONTENT_TYPE: &str = "content_type";
const KIND: &str = "type";

/// Headers whose text is a number.
const NUMBERS: [&str; 7] =
    ["x-deadline", "x-settled-at", "x-result-bytes", PUBLISHED_AT, QUEUES, ATTEMPTS, PERMILLE];
/// Headers whose text is true or false.
const FLAGS: [&str; 4] = ["x-unverified", "x-late", "x-duplicate", "x-dead-letter-copy"];

/// What a header's name may have in AMQP 0-9-1.
const NAME_BYTES_MAX: usize = 255;

/// A record with these properties; what has an id goes where all of that id go.
pub(super) fn record(topic: impl Into<String>, properties: &[u8], body: Bytes) -> Record {
    let properties = Properties::decode(properties).unwrap_or_default();
    let mut record = Record::new(topic, body);
    if let Some(id) = properties.message_id {
        record = record.key(Bytes::copy_from_slice(id));
    }
    record.headers = headers(&properties);
    record
}

/// A copy of a record that came, as one that was tried so often.
pub(super) fn copy(original: &ConsumerRecord, topic: impl Into<String>, attempts: u32) -> Record {
    let mut record = Record::new(topic, original.value.clone().unwrap_or_default());
    record.key.clone_from(&original.key);
    record.headers.clone_from(&original.headers);
    set(&mut record, ATTEMPTS, &attempts.to_string());
    record.headers.retain(|(name, _)| name != RETRY_AT);
    // Without the precise time, that of the record is the one from which a deadline counts.
    record.timestamp = Some(original.timestamp);
    record
}

/// Sets a header.
pub(super) fn set(record: &mut Record, name: &str, value: &str) {
    record.headers.retain(|(other, _)| other != name);
    record.headers.push((name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
}

/// A header that is a number.
pub(super) fn number(record: &ConsumerRecord, name: &str) -> Option<u64> {
    record.header_str(name)?.parse().ok()
}

fn headers(properties: &Properties<'_>) -> Headers {
    let mut headers = Headers::new();
    let mut push = |name: &str, value: &[u8]| {
        headers.push((name.to_owned(), Some(Bytes::copy_from_slice(value))));
    };
    let Properties { content_type, correlation_id, message_id, reply_to, kind, .. } = *properties;
    let named = [
        (CONTENT_TYPE, content_type),
        (CORRELATION_ID, correlation_id),
        (MESSAGE_ID, message_id),
        (REPLY_TO, reply_to),
        (KIND, kind),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            push(name, value);
        }
    }
    let table = properties.headers.unwrap_or(TableRef::new(&[]));
    for (name, value) in table.iter().filter_map(Result::ok) {
        let Ok(name) = name.to_str() else { continue };
        match value {
            ValueRef::LongString(bytes) => push(name, bytes),
            ValueRef::Bool(flag) => push(name, flag.to_string().as_bytes()),
            ValueRef::F32(number) => push(name, number.to_string().as_bytes()),
            ValueRef::F64(number) => push(name, number.to_string().as_bytes()),
            other => {
                if let Some(number) = other.as_i64() {
                    push(name, number.to_string().as_bytes());
                }
            }
        }
    }
    headers
}

/// The properties of a record that was delivered before so often, encoded as in AMQP 0-9-1: whatever reads messages
/// in this library reads that. What cannot be read is taken as not given.
pub(super) fn properties(record: &ConsumerRecord, deliveries_before: Option<u32>) -> Bytes {
    let mut properties = Properties::default();
    let mut table = Vec::new();
    let mut writer = TableWriter::new(&mut table);
    for (name, value) in &record.headers {
        let Some(value) = value else { continue };
        let text = std::str::from_utf8(value).ok();
        let short = || (value.len() <= NAME_BYTES_MAX).then(|| value.as_bstr());
        match &**name {
            CONTENT_TYPE => properties.content_type = short(),
            CORRELATION_ID => properties.correlation_id = short(),
            MESSAGE_ID => properties.message_id = short(),
            REPLY_TO => properties.reply_to = short(),
            KIND => properties.kind = short(),
            // A broker says that, and no producer.
            DELIVERY_COUNT => {}
            name if name.len() > NAME_BYTES_MAX => {}
            name if NUMBERS.contains(&name) => {
                if let Some(number) = text.and_then(|text| text.parse().ok()) {
                    writer.integer(name, number);
                }
            }
            name if FLAGS.contains(&name) => writer.boolean(name, text == Some("true")),
            name => writer.bytes(name, value.as_bstr()),
        }
    }
    if let Some(count) = deliveries_before {
        writer.integer(DELIVERY_COUNT, count.into());
    }
    properties.timestamp = u64::try_from(record.timestamp).ok().map(|ms| ms / 1000);
    properties.headers = Some(TableRef::new(&table));
    let mut encoded = Vec::with_capacity(64 + table.len());
    properties.encode(&mut encoded);
    encoded.into()
}

/// A place to which outcomes are sent: a partition of a topic, as a producer names it in `reply_to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplyTo {
    pub(super) topic: Arc<str>,
    /// `None`: whichever.
    pub(super) partition: Option<i32>,
}

impl ReplyTo {
    /// Reads `TOPIC/PARTITION`, or `TOPIC`: no topic's name has a slash.
    pub(super) fn parse(text: &str) -> Self {
        let split = text.rsplit_once('/');
        let split = split.and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        match split {
            Some((topic, partition)) => Self { topic: topic.into(), partition: Some(partition) },
            None => Self { topic: text.into(), partition: None },
        }
    }
}

impl std::fmt::Display for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}/{partition}", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::amqp::{FieldTable, OwnedProperties};
    use proptest::prelude::*;

    use super::*;

    fn came(record: &Record) -> ConsumerRecord {
        let topic = Arc::<str>::from(&*record.topic);
        let (key, value) = (record.key.clone(), record.value.clone());
        let mut came = ConsumerRecord::new(topic, 0, 0, key, value);
        came.headers.clone_from(&record.headers);
        came.timestamp = 7_000;
        came
    }

    fn encoded(properties: &OwnedProperties) -> Vec<u8> {
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        encoded
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_comes(
            names in proptest::collection::vec("[a-zß \"\\n]{1,8}", 0..4),
            texts in proptest::collection::vec(".{0,12}", 4),
            numbers in proptest::array::uniform7(any::<i64>()),
            flags in proptest::array::uniform4(any::<bool>()),
            id in "\\PC{1,20}",
        ) {
            let mut headers = FieldTable::new();
            for (name, text) in names.iter().zip(&texts).filter(|(name, _)| **name != KIND) {
                headers.push(name.as_str(), text.as_str());
            }
            for (name, number) in NUMBERS.iter().zip(numbers) {
                headers.push(*name, number);
            }
            for (name, flag) in FLAGS.iter().zip(flags) {
                headers.push(*name, flag);
            }
            let properties = OwnedProperties {
                content_type: Some("text/plain".into()),
                headers: Some(headers),
                message_id: Some(id.as_str().into()),
                correlation_id: Some("c".into()),
                reply_to: Some("wilco.outcomes/3".into()),
                kind: Some("outcome".into()),
                timestamp: Some(7),
                ..OwnedProperties::default()
            };
            let sent = record("q", &encoded(&properties), Bytes::new());
            prop_assert_eq!(sent.key.as_deref(), Some(id.as_bytes()));
            let came = super::properties(&came(&sent), None);
            prop_assert_eq!(OwnedProperties::decode(&came).expect("properties"), properties);
        }

        #[test]
        fn whatever_others_send_can_be_read(
            headers in proptest::collection::vec(
                (".{0,300}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))),
                0..6,
            ),
            known in proptest::sample::select(
                [&NUMBERS[..], &FLAGS, &[MESSAGE_ID, REPLY_TO, KIND, DELIVERY_COUNT]].concat(),
            ),
            odd in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut record = Record::new("q", Bytes::new());
            record.headers = headers.into_iter().map(|(name, it)| (name, it.map(Into::into))).collect();
            record.headers.push((known.to_owned(), Some(odd.into())));
            let read = super::properties(&came(&record), Some(2));
            let read = OwnedProperties::decode(&read).expect("properties");
            let count = read.headers.as_ref().and_then(|it| it.get(DELIVERY_COUNT)?.as_i64());
            prop_assert_eq!(count, Some(2), "only the broker counts deliveries");
        }
    }

    #[test]
    fn a_copy_is_the_message_once_more() {
        let properties =
            OwnedProperties { message_id: Some("a".into()), ..OwnedProperties::default() };
        let original = came(&record("q", &encoded(&properties), Bytes::from_static(b"x")));
        let mut waits = copy(&original, "q.retry", 2);
        set(&mut waits, RETRY_AT, "99");
        assert_eq!(number(&came(&waits), RETRY_AT), Some(99));
        let again = copy(&came(&waits), "q", 3);
        assert_eq!(
            (again.key.as_deref(), again.value.as_deref()),
            (Some(&b"a"[..]), Some(&b"x"[..]))
        );
        assert_eq!(number(&came(&again), RETRY_AT), None);
        assert_eq!(number(&came(&again), ATTEMPTS), Some(3));
    }

    #[test]
    fn a_place_for_outcomes_is_read_as_it_is_written() {
        for text in ["wilco.outcomes/3", "replies", "a/b/0"] {
            assert_eq!(ReplyTo::parse(text).to_string(), text);
        }
        assert_eq!(ReplyTo::parse("replies/x").partition, None);
    }
}
