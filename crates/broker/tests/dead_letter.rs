//! What a message carries after it was dead-lettered, and where it does not go again.

use amqp::{BString, FieldTable, FieldValue, OwnedProperties};
use broker::dead_letter::{Death, copy_keys, dead_letter, is_cycle};
use broker::message::Origin;
use broker::{Message, QueueId, Tracking};
use outcome::Notify;

const NOW_MS: u64 = 1_700_000_000_999;

fn message(exchange: &str, routing_key: &str, properties: &OwnedProperties) -> Message {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let parsed = amqp::Properties::decode(&encoded).expect("just encoded");
    let content = (exchange, routing_key, encoded.as_slice(), &b"body"[..]);
    Message::new(5, &parsed, content, &mut Vec::new())
}

fn with_headers(headers: FieldTable) -> Message {
    message("source", "key", &OwnedProperties { headers: Some(headers), ..Default::default() })
}

fn death<'a>(queue: &'a str, reason: &'a str) -> Death<'a> {
    Death { queue, reason, exchange: "dlx", routing_key: None, now_ms: NOW_MS }
}

/// Dead-letters a message and reads it as a consumer does.
fn die(message: &Message, death: &Death<'_>) -> (Message, Vec<BString>, OwnedProperties) {
    let (copy, keys) = dead_letter(message, death, &mut Vec::new()).expect("readable headers");
    let properties = OwnedProperties::decode(copy.properties_bytes()).expect("just encoded");
    (copy, keys, properties)
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().collect()
}

fn strings(values: &[&str]) -> FieldValue {
    FieldValue::Array(values.iter().map(|&value| value.into()).collect())
}

/// Queue, reason and count of each death, the latest first.
fn history(properties: &OwnedProperties) -> Vec<(String, String, i64)> {
    let headers = properties.headers.as_ref().expect("headers");
    let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("x-death");
    let of = |death: &FieldValue| {
        let death = death.as_table()?;
        let text = |name| Some(death.get(name)?.as_str()?.to_owned());
        let FieldValue::I64(count) = death.get("count")? else { return None };
        Some((text("queue")?, text("reason")?, *count))
    };
    deaths.iter().map(|death| of(death).expect("a whole entry")).collect()
}

fn marks(properties: &OwnedProperties, which: &str) -> [String; 3] {
    let headers = properties.headers.as_ref().expect("headers");
    ["reason", "queue", "exchange"].map(|what| {
        let mark = headers.get(format!("x-{which}-death-{what}")).and_then(FieldValue::as_str);
        mark.expect("a mark").to_owned()
    })
}

fn tracked(tracking: &Tracking) -> Message {
    let properties = amqp::Properties { message_id: Some("m-1".into()), ..Default::default() };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let content = ("source", "key", encoded.as_slice(), &b"body"[..]);
    Message::tracked(5, &properties, content, Some(tracking), &mut Vec::new())
}

#[test]
fn the_copy_of_a_tracked_message_has_its_id_and_asks_for_nothing() {
    let asking = Tracking {
        id: 1 << 100,
        is_deduplicated: true,
        notify: Some(Notify::All),
        queue_count: 3,
        deadline_at_ms: 9,
        ticket: outcome::Ticket::from_number(8),
        ..Tracking::default()
    };
    let copy_of_it = Tracking { id: 1 << 100, is_copy: true, ..Tracking::default() };
    let (copy, _, properties) = die(&tracked(&asking), &death("q", "rejected"));
    assert_eq!(copy.tracking(), Some(copy_of_it));
    assert_eq!(properties.message_id, Some("m-1".into()));
    assert_eq!((copy.exchange(), copy.body()), ("dlx", &b"body"[..]));
    let (again, _, properties) = die(&copy, &death("other", "expired"));
    assert_eq!(again.tracking(), Some(copy_of_it), "a copy of a copy is one");
    assert_eq!(history(&properties).len(), 2);
}

#[test]
fn copies_of_outcome_messages_and_of_ordinary_ones_are_not_tracked() {
    let outcome = Tracking { id: 5, outcome_of: Some(QueueId(0)), ..Tracking::default() };
    let ordinary = message("source", "key", &OwnedProperties::default());
    for message in [tracked(&outcome), ordinary] {
        let (copy, ..) = die(&message, &death("q", "rejected"));
        assert_eq!((copy.tracking(), copy.head().is_tracked), (None, false));
        assert_eq!(copy.body(), b"body");
    }
}

#[test]
fn the_first_death_is_written_as_rabbitmq_writes_it() {
    let original = OwnedProperties {
        content_type: Some("text/plain".into()),
        delivery_mode: Some(2),
        priority: Some(4),
        message_id: Some("m-1".into()),
        ..OwnedProperties::default()
    };
    let (copy, keys, properties) =
        die(&message("source", "key", &original), &death("q", "rejected"));
    let entry = table([
        ("count", FieldValue::I64(1)),
        ("reason", "rejected".into()),
        ("queue", "q".into()),
        ("time", FieldValue::Timestamp(NOW_MS / 1000)),
        ("exchange", "source".into()),
        ("routing-keys", strings(&["key"])),
    ]);
    let headers = table([
        ("x-death", FieldValue::Array(vec![FieldValue::Table(entry)])),
        ("x-first-death-reason", "rejected".into()),
        ("x-first-death-queue", "q".into()),
        ("x-first-death-exchange", "source".into()),
        ("x-last-death-reason", "rejected".into()),
        ("x-last-death-queue", "q".into()),
        ("x-last-death-exchange", "source".into()),
    ]);
    assert_eq!(properties, OwnedProperties { headers: Some(headers), ..original });
    assert_eq!(keys, ["key"]);
    assert_eq!(
        (copy.exchange(), copy.routing_key(), copy.body()),
        ("dlx", "key".into(), &b"body"[..])
    );
    let head = copy.head();
    assert_eq!((head.published_at_ms, head.priority, head.persistent), (NOW_MS, 4, true));
}

#[test]
fn deaths_are_counted_by_queue_and_reason_the_latest_first() {
    let steps = [
        ("a", "expired", vec![("a", "expired", 1)]),
        ("b", "rejected", vec![("b", "rejected", 1), ("a", "expired", 1)]),
        ("a", "expired", vec![("a", "expired", 2), ("b", "rejected", 1)]),
        ("a", "maxlen", vec![("a", "maxlen", 1), ("a", "expired", 2), ("b", "rejected", 1)]),
        ("b", "rejected", vec![("b", "rejected", 2), ("a", "maxlen", 1), ("a", "expired", 2)]),
        (
            "b",
            "delivery_limit",
            vec![
                ("b", "delivery_limit", 1),
                ("b", "rejected", 2),
                ("a", "maxlen", 1),
                ("a", "expired", 2),
            ],
        ),
    ];
    let mut now = message("source", "key", &OwnedProperties::default());
    for (queue, reason, expected) in steps {
        let from = now.exchange().to_owned();
        let (copy, _, properties) = die(&now, &death(queue, reason));
        let expected: Vec<_> =
            expected.into_iter().map(|(q, r, count)| (q.to_owned(), r.to_owned(), count)).collect();
        assert_eq!(history(&properties), expected);
        assert_eq!(marks(&properties, "first"), ["expired", "a", "source"]);
        assert_eq!(marks(&properties, "last"), [reason, queue, &from]);
        now = copy;
    }
}

#[test]
fn an_entry_that_is_counted_again_keeps_what_it_said_first() {
    let first = message("source", "key", &OwnedProperties::default());
    let (copy, ..) = die(&first, &death("q", "expired"));
    let later =
        Death { now_ms: NOW_MS + 90_000, routing_key: Some("other"), ..death("q", "expired") };
    let (_, _, properties) = die(&copy, &later);
    let headers = properties.headers.expect("headers");
    let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("x-death");
    let entry = deaths[0].as_table().expect("a table");
    assert_eq!(entry.get("count"), Some(&FieldValue::I64(2)));
    assert_eq!(entry.get("time"), Some(&FieldValue::Timestamp(NOW_MS / 1000)));
    assert_eq!(entry.get("exchange"), Some(&"source".into()));
    assert_eq!(entry.get("routing-keys"), Some(&strings(&["key"])));
}

#[test]
fn the_expiration_moves_into_the_history() {
    let expiring = OwnedProperties { expiration: Some("250".into()), ..Default::default() };
    let original = message("", "key", &expiring);
    assert_eq!(original.head().expiration_ms(), Some(250));
    let (copy, _, properties) = die(&original, &death("q", "expired"));
    assert_eq!(copy.head().expiration_ms(), None, "it must not expire again at once");
    assert_eq!(properties.expiration, None);
    let expiration = |properties: &OwnedProperties, at: usize| {
        let headers = properties.headers.as_ref().expect("headers");
        let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("x-death");
        deaths[at].as_table().and_then(|entry| entry.get("original-expiration")).cloned()
    };
    assert_eq!(expiration(&properties, 0), Some("250".into()));
    let (_, _, properties) = die(&copy, &death("p", "rejected"));
    assert_eq!(expiration(&properties, 0), None);
    assert_eq!(expiration(&properties, 1), Some("250".into()));
}

#[test]
fn further_keys_are_kept_unless_the_queue_names_one() {
    // The CC header; the queue's routing key; keys it is routed by; keys in its history; CC
    // afterwards.
    let cc = || strings(&["c", "d"]);
    let odd = || FieldValue::Array(vec!["c".into(), FieldValue::I32(1), "d".into()]);
    let cases = [
        (None, None, vec!["key"], vec!["key"], None),
        (None, Some("dead"), vec!["dead"], vec!["key"], None),
        (Some(cc()), None, vec!["key", "c", "d"], vec!["key", "c", "d"], Some(cc())),
        (Some(cc()), Some("dead"), vec!["dead"], vec!["key", "c", "d"], None),
        (Some(cc()), Some(""), vec![""], vec!["key", "c", "d"], None),
        (Some(odd()), None, vec!["key", "c", "d"], vec!["key", "c", "d"], Some(odd())),
        (Some("c".into()), None, vec!["key"], vec!["key"], Some("c".into())),
    ];
    for (cc, routing_key, keys, recorded, left) in cases {
        let headers = cc.into_iter().map(|cc| ("CC", cc)).collect();
        let death = Death { routing_key, ..death("q", "maxlen") };
        let (copy, actual, properties) = die(&with_headers(headers), &death);
        assert_eq!(actual, keys);
        assert_eq!(copy.routing_key(), keys[0]);
        let headers = properties.headers.expect("headers");
        assert_eq!(headers.get("CC").cloned(), left);
        let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("x-death");
        let entry = deaths[0].as_table().expect("a table");
        assert_eq!(entry.get("routing-keys"), Some(&strings(&recorded)));
    }
}

#[test]
fn other_headers_stay() {
    let headers = table([("mine", FieldValue::Bool(true)), ("x-death-of-mine", 3i32.into())]);
    let (_, _, properties) = die(&with_headers(headers), &death("q", "rejected"));
    let headers = properties.headers.expect("headers");
    assert_eq!(headers.get("mine"), Some(&FieldValue::Bool(true)));
    assert_eq!(headers.get("x-death-of-mine"), Some(&3i32.into()));
}

/// As the broker has written them.
fn with_history(headers: FieldTable) -> Message {
    let mut properties = Vec::new();
    OwnedProperties { headers: Some(headers), ..Default::default() }.encode(&mut properties);
    let content = ("source", "key", properties.as_slice(), &b"body"[..]);
    let origin = Origin { has_died: true, ..Origin::default() };
    Message::build(5, &amqp::Properties::default(), content, origin, &mut Vec::new())
}

#[test]
fn what_a_client_says_of_earlier_deaths_is_ignored() {
    let first = message("source", "key", &OwnedProperties::default());
    let (copy, _, properties) = die(&first, &death("q", "expired"));
    assert!(copy.head().has_died && !first.head().has_died);
    // A client publishes it again with all the headers that it got.
    let again = with_headers(properties.headers.clone().expect("headers"));
    assert!(!is_cycle(&again, "expired", "q"));
    let (_, _, repeated) = die(&again, &death("q", "expired"));
    assert_eq!(history(&repeated), history(&properties));
    // The broker itself goes on counting.
    let (_, _, second) = die(&copy, &death("q", "expired"));
    assert_eq!(history(&second), [("q".to_owned(), "expired".to_owned(), 2)]);
}

#[test]
fn hidden_keys_route_every_copy_and_are_shown_to_nobody() {
    let strings = |key: &str| FieldValue::Array(vec![key.into()]);
    let message = with_headers(table([("CC", strings("open")), ("BCC", strings("hidden"))]));
    let (copy, keys, properties) = die(&message, &death("q", "rejected"));
    assert_eq!(keys, ["key", "open", "hidden"]);
    assert!(copy.head().has_bcc, "so that it is taken out before a receiver sees it");
    let headers = properties.headers.expect("headers");
    assert!(!format!("{:?}", headers.get("x-death")).contains("hidden"));
    let (_, keys, _) = die(&copy, &death("p", "rejected"));
    assert_eq!(keys, ["key", "open", "hidden"]);
    // With a key of the queue's own, all of them are replaced.
    let death = Death { routing_key: Some("other"), ..death("q", "rejected") };
    let (copy, keys, properties) = die(&message, &death);
    assert_eq!((keys.len(), copy.head().has_bcc), (1, false));
    assert!(!properties.headers.expect("headers").contains("BCC"));
}

#[test]
fn a_history_that_is_none_begins_anew() {
    // A client may send anything back as headers.
    for forged in ["[{count: 3}]".into(), FieldValue::Void, FieldValue::Table(FieldTable::new())] {
        let headers = table([("x-death", forged), ("x-first-death-queue", "forged".into())]);
        let headers = FieldTable::from_iter(
            headers.into_iter().chain([("x-first-death-reason".into(), "forged".into())]),
        );
        let (_, _, properties) = die(&with_headers(headers), &death("q", "rejected"));
        assert_eq!(history(&properties), [("q".to_owned(), "rejected".to_owned(), 1)]);
        assert_eq!(marks(&properties, "first"), ["rejected", "q", "source"]);
    }
}

#[test]
fn odd_entries_of_a_history_are_passed_on() {
    let uncounted = table([("queue", "q".into()), ("reason", "rejected".into())]);
    let full = table([
        ("queue", "p".into()),
        ("reason", "rejected".into()),
        ("count", FieldValue::I64(i64::MAX)),
    ]);
    let odd = vec![7i32.into(), FieldValue::Table(uncounted), FieldValue::Table(full)];
    let message = with_history(table([("x-death", FieldValue::Array(odd))]));
    let entry = |properties: &OwnedProperties, at: usize| {
        let deaths = properties.headers.as_ref()?.get("x-death")?.as_array()?.to_vec();
        Some((deaths.len(), deaths[at].as_table()?.get("count")?.as_i64()?))
    };
    let (copy, _, properties) = die(&message, &death("q", "rejected"));
    assert_eq!(entry(&properties, 0), Some((3, 1)));
    let (_, _, properties) = die(&copy, &death("p", "rejected"));
    assert_eq!(entry(&properties, 0), Some((3, i64::MAX)));
}

#[test]
fn headers_that_cannot_be_read_are_an_error() {
    let mut encoded = Vec::new();
    let headers = Some(table([("a", "b".into())]));
    OwnedProperties { headers, ..Default::default() }.encode(&mut encoded);
    // The type of the value becomes one that does not exist.
    let at = encoded.iter().rposition(|&byte| byte == b'S').expect("a long string");
    encoded[at] = b'?';
    let content = ("x", "key", encoded.as_slice(), &b""[..]);
    let message = Message::new(0, &amqp::Properties::default(), content, &mut Vec::new());
    assert!(dead_letter(&message, &death("q", "rejected"), &mut Vec::new()).is_err());
    assert!(!is_cycle(&message, "expired", "q"));
}

#[test]
fn a_name_that_is_too_long_for_the_wire_is_cut() {
    let long = "é".repeat(200);
    let message = message("source", "key", &OwnedProperties::default());
    let death = Death { exchange: &long, routing_key: Some(&long), ..death("q", "rejected") };
    let (copy, keys, _) = die(&message, &death);
    assert_eq!(keys, [long.as_str()], "routed by the whole key");
    assert_eq!((copy.exchange(), copy.routing_key()), (&long[..254], long[..254].into()));
    assert_eq!(copy.body(), b"body");
}

#[test]
fn a_cycle_is_one_that_no_consumer_had_a_hand_in() {
    // Deaths, the latest first, as queue:reason; "?" stands for an entry that is not a death.
    let cases = [
        ("", "q", false),
        ("q:expired", "q", true),
        ("q:maxlen", "q", true),
        ("q:delivery_limit", "q", true),
        ("q:expired", "p", false),
        ("q:rejected", "q", false),
        ("p:expired q:expired", "q", true),
        ("p:rejected q:expired", "q", false),
        ("q:expired p:rejected", "q", true),
        ("p:expired q:rejected", "q", false),
        ("q:expired q:rejected", "q", true),
        ("p:expired r:maxlen q:expired s:rejected", "q", true),
        ("p:expired r:rejected q:expired", "q", false),
        // A client must have written that.
        ("? q:expired", "q", false),
        ("q:expired ?", "q", true),
    ];
    for (deaths, queue, expected) in cases {
        let entry = |death: &str| match death.split_once(':') {
            Some((queue, reason)) => {
                FieldValue::Table(table([("queue", queue.into()), ("reason", reason.into())]))
            }
            None => "?".into(),
        };
        let deaths_array = deaths.split_whitespace().map(entry).collect();
        let headers = table([("x-death", FieldValue::Array(deaths_array))]);
        let message = with_history(headers.clone());
        assert_eq!(is_cycle(&message, "expired", queue), expected, "{deaths}");
        assert!(!is_cycle(&with_headers(headers), "expired", queue), "a client wrote that");
        assert!(!is_cycle(&message, "rejected", queue), "a reject is no cycle");
    }
}

#[test]
fn without_a_history_there_is_no_cycle() {
    let plain = message("x", "key", &OwnedProperties::default());
    assert!(!is_cycle(&plain, "expired", "q"));
    for odd in [FieldValue::Void, "q".into()] {
        assert!(!is_cycle(&with_history(table([("x-death", odd)])), "expired", "q"));
    }
}

#[test]
fn a_copy_that_goes_back_where_it_expired_is_a_cycle() {
    let original = message("", "q", &OwnedProperties::default());
    let (copy, ..) = die(&original, &death("q", "expired"));
    assert!(is_cycle(&copy, "expired", "q"));
    assert!(!is_cycle(&copy, "expired", "p"));
    let (copy, ..) = die(&copy, &death("p", "expired"));
    assert!(is_cycle(&copy, "expired", "q"));
    let (copy, ..) = die(&copy, &death("p", "rejected"));
    assert!(!is_cycle(&copy, "rejected", "q"));
    let (copy, ..) = die(&copy, &death("r", "expired"));
    assert!(!is_cycle(&copy, "expired", "q"), "a consumer rejected it since");
}

#[test]
fn further_keys_come_from_lists_of_strings() {
    let headers = table([("CC", strings(&["a", "b"])), ("BCC", "a".into())]);
    assert_eq!(copy_keys(&headers, "CC"), ["a", "b"]);
    assert!(copy_keys(&headers, "BCC").is_empty());
    assert!(copy_keys(&headers, "cc").is_empty());
}
