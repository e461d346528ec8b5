//! A message in memory and in the log.

use amqp::Properties;
use proptest::prelude::*;

use super::*;

fn message(exchange: &str, routing_key: &str, properties: &Properties<'_>, body: &[u8]) -> Message {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let content = (exchange, routing_key, encoded.as_slice(), body);
    Message::new(1234, properties, content, &mut Vec::new())
}

fn tracked(properties: &Properties<'_>, tracking: &Tracking, body: &[u8]) -> Message {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let content = ("exchange", "key", encoded.as_slice(), body);
    Message::tracked(1234, properties, content, Some(tracking), &mut vec![9; 7])
}

fn tracking() -> Tracking {
    Tracking { id: 77 << 90, queue_count: 3, deadline_at_ms: 5000, ..Tracking::default() }
}

fn encoded(message: &Message) -> Vec<u8> {
    [&message.encode_head()[..], message.content()].concat()
}

#[test]
fn the_head_holds_what_the_broker_asks_for() {
    // Expiration as text, priority, delivery mode; then the same as in the head.
    let cases = [
        (None, None, None, (None, 0, false)),
        (Some("0"), Some(0), Some(1), (Some(0), 0, false)),
        (Some("60000"), Some(255), Some(2), (Some(60_000), 255, true)),
        (Some("4294967295"), Some(9), Some(3), (Some(u64::from(u32::MAX)), 9, false)),
        (Some("315360000000"), None, None, (Some(DURATION_MS_MAX), 0, false)),
        (Some("999999999999999"), None, None, (Some(DURATION_MS_MAX), 0, false)),
        (Some("-1"), None, None, (None, 0, false)),
        (Some("soon"), None, None, (None, 0, false)),
        (Some(""), None, None, (None, 0, false)),
    ];
    for (expiration, priority, delivery_mode, expected) in cases {
        let properties = Properties {
            expiration: expiration.map(Into::into),
            priority,
            delivery_mode,
            ..Properties::default()
        };
        let message = message("x", "key", &properties, b"body");
        let head = message.head();
        assert_eq!((head.expiration_ms(), head.priority, head.persistent), expected);
        assert_eq!(head.published_at_ms, 1234);
        assert_eq!(message.properties().as_ref(), Ok(&properties));
        assert_eq!(Message::from_encoded(&encoded(&message)), Some(message));
    }
}

#[test]
fn the_parts_are_as_they_came() {
    let long = "ü".repeat(127);
    for (exchange, key, body) in
        [("", "", &b""[..]), ("x", "a.b", b"\0\xff"), (&long, &long, &[7; 70_000])]
    {
        let properties = Properties { message_id: Some("m".into()), ..Properties::default() };
        let message = message(exchange, key, &properties, body);
        let restored = Message::from_encoded(&encoded(&message)).expect("it is whole");
        for message in [&message, &restored] {
            assert_eq!((message.exchange(), message.routing_key()), (exchange, key.into()));
            assert_eq!(message.body(), body);
            assert_eq!(message.properties().as_ref(), Ok(&properties));
            assert!(message.memory_bytes() >= message.content().len());
        }
        let (head, body_bytes) = Message::peek(&encoded(&message)).expect("it is whole");
        assert_eq!((&head, body_bytes as usize), (message.head(), body.len()));
    }
}

#[test]
fn what_is_cut_off_is_missed_up_to_the_body() {
    let properties =
        Properties { content_type: Some("text/plain".into()), ..Properties::default() };
    let whole = message("exchange", "key", &properties, b"body");
    let bytes = encoded(&whole);
    let body_at = bytes.len() - 4;
    for cut in 0..bytes.len() {
        let message = Message::from_encoded(&bytes[..cut]);
        match cut.checked_sub(body_at) {
            None => assert_eq!((message, Message::peek(&bytes[..cut])), (None, None), "{cut}"),
            // Only the record knows how long the original body was.
            Some(left) => assert_eq!(message.expect("a shorter body").body(), &b"body"[..left]),
        }
    }
}

#[test]
fn a_tracked_message_is_the_same_with_its_tracking_before_it() {
    let properties = Properties {
        message_id: Some("m".into()),
        expiration: Some("50".into()),
        priority: Some(4),
        ..Properties::default()
    };
    let plain = message("exchange", "key", &properties, b"body");
    let tracked = tracked(&properties, &tracking(), b"body");
    let restored = Message::from_encoded(&encoded(&tracked)).expect("it is whole");
    assert_eq!(restored, tracked);
    for message in [&tracked, &restored] {
        assert_eq!(message.tracking(), Some(tracking()));
        assert!(message.head().is_tracked);
        assert_eq!((message.exchange(), message.routing_key()), ("exchange", "key".into()));
        assert_eq!(message.body(), b"body");
        assert_eq!(message.properties().as_ref(), Ok(&properties));
        assert_eq!(message.content()[TRACKING_BYTES..], *plain.content());
        let (head, body_bytes) = Message::peek(&encoded(message)).expect("it is whole");
        assert_eq!((&head, body_bytes), (message.head(), 4));
    }
    assert_eq!((plain.tracking(), plain.head().is_tracked), (None, false));
    assert_eq!(encoded(&tracked).len(), encoded(&plain).len() + TRACKING_BYTES);
    assert_eq!(tracked.memory_bytes(), plain.memory_bytes() + TRACKING_BYTES);
}

#[test]
fn a_tracked_message_that_is_cut_off_is_missed_up_to_the_body() {
    let whole = encoded(&tracked(&Properties::default(), &tracking(), b"body"));
    for cut in 0..whole.len() {
        let message = Message::from_encoded(&whole[..cut]);
        match cut.checked_sub(whole.len() - 4) {
            None => assert_eq!((message, Message::peek(&whole[..cut])), (None, None), "{cut}"),
            Some(left) => assert_eq!(message.expect("a shorter body").body(), &b"body"[..left]),
        }
    }
}

#[test]
fn a_routing_key_is_bytes_and_an_exchange_is_text() {
    let whole = encoded(&message("é", "ü", &Properties::default(), b""));
    assert!(Message::from_encoded(&whole).is_some());
    // The exchange must be UTF-8 on its own, not only together with the key.
    for (exchange_bytes, key_bytes) in [(1, 3), (3, 1), (1, 2)] {
        let mut bytes = whole.clone();
        (bytes[16], bytes[17]) = (exchange_bytes, key_bytes);
        assert_eq!(Message::from_encoded(&bytes), None, "{exchange_bytes} and {key_bytes}");
    }
    let mut bytes = whole.clone();
    bytes[HEAD_BYTES] = 0xff;
    assert_eq!(Message::from_encoded(&bytes), None);
    let mut bytes = whole;
    bytes[HEAD_BYTES + 2] = 0xff;
    let odd = Message::from_encoded(&bytes).expect("a key may be anything");
    assert_eq!((odd.exchange(), odd.routing_key().as_ref()), ("é", &b"\xff\xbc"[..]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let peeked = Message::peek(&bytes);
        if let Some(message) = Message::from_encoded(&bytes) {
            let (head, body_bytes) = peeked.expect("it is whole");
            prop_assert_eq!(message.head(), &head);
            prop_assert_eq!(message.body().len(), body_bytes as usize);
            let strings = message.exchange().len() + message.routing_key().len();
            let is_tracked = bytes[HEAD_BYTES - 1] & TRACKED != 0;
            prop_assert_eq!(message.tracking().is_some(), is_tracked);
            let tracking_bytes = if is_tracked { TRACKING_BYTES } else { 0 };
            prop_assert_eq!(
                tracking_bytes + strings + message.properties_bytes().len() + message.body().len(),
                message.content().len()
            );
            let _ = message.properties();
        }
    }

    #[test]
    fn heads_survive_the_log(
        published_at_ms in 0..1_u64 << 48,
        expiration in prop::option::of(0..=DURATION_MS_MAX),
        priority in prop::option::of(any::<u8>()),
        persistent in any::<bool>(),
        strings in ("\\PC{0,60}", "\\PC{0,60}"),
        body in prop::collection::vec(any::<u8>(), 0..50),
        tracking in prop::option::of(any::<[u64; 4]>()),
        (has_died, has_bcc) in any::<(bool, bool)>(),
    ) {
        let text = expiration.map(|ms| ms.to_string());
        let properties = Properties {
            expiration: text.as_deref().map(Into::into),
            priority,
            delivery_mode: persistent.then_some(2),
            ..Properties::default()
        };
        let mut properties_bytes = Vec::new();
        properties.encode(&mut properties_bytes);
        let content = (strings.0.as_str(), strings.1.as_str(), properties_bytes.as_slice(), body.as_slice());
        let tracking = tracking.map(|[low, high, deadline_at_ms, ticket]| Tracking {
            id: u128::from(high) << 64 | u128::from(low),
            is_deduplicated: low & 1 == 0,
            is_copy: low & 2 == 0,
            is_unanswerable: low & 8 == 0,
            outcome_of: (low & 4 == 0).then_some(crate::QueueId(high as u32)),
            notify: outcome::Notify::from_number(low as u8 % 5),
            queue_count: high as u16,
            deadline_at_ms,
            ticket: outcome::Ticket::from_number(ticket),
        });
        let origin = Origin { tracking: tracking.as_ref(), has_died, has_bcc };
        let scratch = &mut vec![1, 2, 3];
        let message =
            Message::build(published_at_ms, &properties, content, origin, scratch);
        prop_assert_eq!(message.head().published_at_ms, published_at_ms);
        prop_assert_eq!((message.head().has_died, message.head().has_bcc), (has_died, has_bcc));
        prop_assert_eq!(message.tracking(), tracking);
        prop_assert_eq!(message.head().expiration_ms(), expiration);
        let bytes = encoded(&message);
        prop_assert_eq!(Message::from_encoded(&bytes), Some(message));
    }
}
