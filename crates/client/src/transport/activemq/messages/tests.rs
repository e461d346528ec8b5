//! Mapping there and back is the identity; what is foreign does no harm.

use ::amqp::BString;
use fe2o3_amqp::types::messaging::message::__private::Serializable;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::primitives::Uuid;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::target::Target;
use crate::transport::making::Origin;
use crate::transport::{Outgoing, Token, properties};

/// As it is on the other side.
fn sent(message: Outbound) -> Message<Body<Value>> {
    let bytes = serde_amqp::to_vec(&Serializable(message)).expect("it can be written");
    read(&bytes).expect("it is one")
}

fn read(bytes: &[u8]) -> Result<Message<Body<Value>>, serde_amqp::Error> {
    <Body<Value>>::decode_message_from_reader(serde_amqp::read::SliceReader::new(bytes))
}

fn decoded(bytes: &[u8]) -> OwnedProperties {
    OwnedProperties::decode(bytes).expect("they are written here")
}

fn short() -> impl Strategy<Value = BString> {
    prop_oneof![
        "\\PC{0,60}".prop_map(BString::from),
        vec(any::<u8>(), 0..255).prop_map(BString::from)
    ]
}

fn short_text() -> impl Strategy<Value = BString> {
    "\\PC{0,60}".prop_map(BString::from)
}

/// What the library, or a client that it talks to, gives as a header.
fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i64>().prop_map(FieldValue::I64),
        any::<f32>().prop_filter("equal to itself", |it| !it.is_nan()).prop_map(FieldValue::F32),
        any::<f64>().prop_filter("equal to itself", |it| !it.is_nan()).prop_map(FieldValue::F64),
        "\\PC{0,40}".prop_map(|text| FieldValue::LongString(text.into_bytes())),
        vec(any::<u8>(), 0..40).prop_map(FieldValue::LongString),
        (0..1_u64 << 40).prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ]
}

fn owned() -> impl Strategy<Value = OwnedProperties> {
    let headers = vec(("h[a-z]{0,10}", value()), 0..6).prop_map(|headers| {
        let mut table = FieldTable::new();
        for (name, value) in headers {
            if !table.contains(&name) {
                table.push(name, value);
            }
        }
        table
    });
    let texts = (
        option::of("[ -~]{0,60}".prop_map(BString::from)),
        option::of("[ -~]{0,60}".prop_map(BString::from)),
        option::of(short_text()),
        option::of(short_text()),
    );
    let ids = (option::of(short()), option::of(short()));
    let numbers =
        (1..=2_u8, option::of(0..=9_u8), option::of(any::<u32>()), option::of(0..1_u64 << 40));
    (headers, texts, ids, numbers).prop_map(|(headers, texts, ids, numbers)| OwnedProperties {
        content_type: texts.0,
        content_encoding: texts.1,
        headers: Some(headers),
        delivery_mode: Some(numbers.0),
        // What is the default is not said.
        priority: numbers.1.filter(|priority| *priority != 4),
        correlation_id: ids.0,
        reply_to: texts.2,
        expiration: numbers.2.map(|ttl| ttl.to_string().into()),
        message_id: ids.1,
        timestamp: numbers.3,
        kind: texts.3.filter(|kind| kind != "outcome"),
        ..OwnedProperties::default()
    })
}

fn simple() -> impl Strategy<Value = SimpleValue> {
    prop_oneof![
        Just(SimpleValue::Null),
        any::<bool>().prop_map(SimpleValue::Bool),
        any::<u8>().prop_map(SimpleValue::Ubyte),
        any::<u64>().prop_map(SimpleValue::Ulong),
        any::<i32>().prop_map(SimpleValue::Int),
        any::<f64>().prop_map(|it| SimpleValue::Double(it.into())),
        any::<char>().prop_map(SimpleValue::Char),
        any::<i64>().prop_map(|ms| SimpleValue::Timestamp(ms.into())),
        any::<[u8; 16]>().prop_map(|bytes| SimpleValue::Uuid(Uuid::from(bytes))),
        vec(any::<u8>(), 0..300).prop_map(|bytes| SimpleValue::Binary(Binary::from(bytes))),
        "\\PC{0,300}".prop_map(SimpleValue::String),
        "[ -~]{0,20}".prop_map(|text| SimpleValue::Symbol(Symbol(text))),
    ]
}

fn any_id() -> impl Strategy<Value = MessageId> {
    prop_oneof![
        any::<u64>().prop_map(MessageId::Ulong),
        any::<[u8; 16]>().prop_map(|bytes| MessageId::Uuid(Uuid::from(bytes))),
        vec(any::<u8>(), 0..300).prop_map(|bytes| MessageId::Binary(Binary::from(bytes))),
        "\\PC{0,300}".prop_map(MessageId::String),
    ]
}

fn body() -> impl Strategy<Value = Body<Value>> {
    let data = vec(vec(any::<u8>(), 0..20), 0..3).prop_map(|sections| {
        let sections = sections.into_iter().map(|bytes| Data(Binary::from(bytes)));
        Body::Data(Batch::new(sections.collect::<Vec<_>>()))
    });
    let simple = simple().prop_map(|value| Body::Value(AmqpValue(value.into())));
    let list = vec(any::<i32>(), 0..4).prop_map(|list| {
        Body::Value(AmqpValue(Value::List(list.into_iter().map(Value::Int).collect())))
    });
    prop_oneof![data, simple, list, Just(Body::Empty)]
}

fn foreign() -> impl Strategy<Value = Message<Body<Value>>> {
    let names = prop_oneof![
        "\\PC{0,300}",
        Just("x-notify".to_owned()),
        Just("x-deadline".to_owned()),
        Just("x-message-id".to_owned()),
        Just("x-delivery-count".to_owned()),
        Just("x-attempts".to_owned()),
    ];
    let application = vec((names, simple()), 0..8);
    let properties =
        (option::of(any_id()), option::of(any_id()), option::of("\\PC{0,300}"), any::<i64>());
    (application, properties, body(), any::<u32>()).prop_map(
        |(application, properties, body, count)| {
            let (message_id, correlation_id, text, ms) = properties;
            let mut map = ApplicationProperties::default();
            for (name, value) in application {
                map.0.insert(name, value);
            }
            Message {
                header: Some(Header {
                    delivery_count: count,
                    ttl: Some(count),
                    ..Header::default()
                }),
                delivery_annotations: None,
                message_annotations: None,
                properties: Some(Properties {
                    message_id,
                    correlation_id,
                    subject: text.clone(),
                    reply_to: text.clone(),
                    content_type: text.map(Symbol),
                    creation_time: Some(ms.into()),
                    ..Properties::new()
                }),
                application_properties: Some(map),
                body,
                footer: None,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_comes_back(properties in owned(), body in vec(any::<u8>(), 0..100)) {
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let body = Bytes::from(body);
        let inbound = inbound(sent(outbound(&encoded, &body, Treatment::default())));
        let mut back = decoded(&inbound.properties);
        let count = back.headers.as_mut().and_then(|headers| headers.remove(DELIVERY_COUNT));
        prop_assert_eq!(count, Some(FieldValue::I64(0)));
        prop_assert_eq!(back, properties);
        prop_assert_eq!(inbound.body, body);
        prop_assert!(!inbound.is_text);
    }

    #[test]
    fn a_text_stays_a_text(text in "\\PC{0,50}") {
        let body = Bytes::from(text);
        let treatment = Treatment { is_text: true, ..Treatment::default() };
        let inbound = inbound(sent(outbound(b"", &body, treatment)));
        prop_assert!(inbound.is_text);
        prop_assert_eq!(inbound.body, body);
    }

    #[test]
    fn nothing_foreign_panics(message in foreign()) {
        let count = message.header.as_ref().map_or(0, |header| header.delivery_count);
        let inbound = inbound(message);
        let token = Token::Activemq(super::super::DeliveryToken::for_tests());
        let incoming = properties::incoming("q".into(), inbound.properties.clone(), false, inbound.body.clone(), token);
        prop_assert!(incoming.attempts_before >= Some(count));
        let _ = Origin::read("q", &inbound.properties);
        let _ = properties::told(&inbound.properties, &inbound.body);
        let copied = copy(&inbound.properties, 7, None, 0);
        let _ = left_to_wait(&inbound.properties, 0);
        let again = super::inbound(sent(outbound(&copied, &inbound.body, Treatment::default())));
        prop_assert_eq!(decoded(&again.properties).message_id, decoded(&inbound.properties).message_id);
    }

    #[test]
    fn bytes_that_are_no_message_do_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = read(&bytes) {
            inbound(message);
        }
    }
}

#[test]
fn a_message_asks_over_any_protocol_for_the_same() {
    let target = Target::Queue("q".into());
    let id = "a".into();
    let outgoing = Outgoing {
        key: target.key(&id),
        target,
        id,
        queue_count: Some(3),
        content_type: "text/plain".into(),
        deadline: Some(Duration::from_millis(1500)),
        headers: vec![("colour".to_owned(), "red".to_owned())],
        body: Bytes::from_static(b"x"),
    };
    let encoded = properties::of_message(&outgoing, "answers", 70_000);
    let message = sent(outbound(&encoded, &outgoing.body, Treatment::default()));
    assert!(message.header.as_ref().is_some_and(|header| header.durable));
    let direct = Origin::read("q", &inbound(message.clone()).properties);
    assert_eq!((direct.published_at_ms, direct.deadline_at_ms), (70_000, Some(71_500)));
    assert_eq!((direct.queue_count, direct.progress_to()), (3, Some("answers")));
    // As STOMP has them.
    let mut texts = message;
    for value in texts.application_properties.as_mut().expect("some").0.values_mut() {
        if let SimpleValue::Long(number) = value {
            *value = SimpleValue::String(number.to_string());
        }
    }
    texts.properties =
        Some(Properties { reply_to: Some("answers".to_owned()), ..Properties::new() });
    let map = texts.application_properties.as_mut().expect("some");
    map.0.insert(MESSAGE_ID.to_owned(), SimpleValue::String("a".to_owned()));
    assert_eq!(Origin::read("q", &inbound(texts).properties), direct);
}

#[test]
fn a_copy_says_how_often_it_was_tried_and_waits() {
    let mut headers = FieldTable::new();
    headers.push(DELIVERY_COUNT, 5_i64);
    headers.push(ATTEMPTS, 2_i64);
    headers.push("_AMQ_ORIG_ADDRESS", "dlq");
    headers.push("scheduledJobId", "1");
    headers.push("colour", "red");
    let original = OwnedProperties {
        headers: Some(headers),
        expiration: Some("1".into()),
        delivery_mode: Some(1),
        message_id: Some("a".into()),
        ..OwnedProperties::default()
    };
    let mut encoded = Vec::new();
    original.encode(&mut encoded);
    let delay = Duration::from_millis(1500);
    let treatment = Treatment { delay: Some(delay), ..Treatment::default() };
    let message =
        sent(outbound(&copy(&encoded, 8, treatment.delay, 70_000), &Bytes::new(), treatment));
    let annotated =
        message.message_annotations.as_ref().and_then(|it| it.0.values().next().cloned());
    assert_eq!(annotated, Some(Value::Long(1500)));
    let back = inbound(message).properties;
    let left = |now_ms| left_to_wait(&back, now_ms);
    assert_eq!(left(70_500), Some(Duration::from_secs(1)));
    assert_eq!((left(71_500), left(80_000)), (None, None));
    assert_eq!(left(1), Some(delay), "a clock that is wrong does not make it longer");
    let back = decoded(&back);
    let mut expected = FieldTable::new();
    expected.push("colour", "red");
    expected.push(ATTEMPTS, 8_i64);
    expected.push(DELAYED_UNTIL, 71_500_i64);
    expected.push(DELAY, 1500_i64);
    expected.push(DELIVERY_COUNT, 0_i64);
    assert_eq!(back.headers, Some(expected));
    assert_eq!((back.expiration, back.delivery_mode), (None, Some(2)));
}
