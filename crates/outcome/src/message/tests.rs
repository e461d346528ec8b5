//! What an outcome message says.

use amqp::BStr;
use amqp::{FieldValue, OwnedProperties, Properties};
use proptest::prelude::*;

use super::*;
use crate::{Flags, Outcome, Reason};

/// The example of the specification.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Everything that can be said.
fn full() -> OutcomeMessage<'static> {
    OutcomeMessage {
        verdict: Verdict {
            outcome: Outcome::Failed,
            reason: Some(Reason::Rejected),
            attempts: u16::MAX,
            queue_count: u16::MAX,
            published_at_ms: 1_700_000_000_123,
            flags: Flags::UNVERIFIED.with(Flags::LATE).with(Flags::DUPLICATE),
        },
        details: Details {
            message_id: BStr::new("m-1").into(),
            worker: "worker-1".into(),
            error: Some(BStr::new("no such customer").into()),
            content_type: Some(BStr::new("application/json").into()),
            result: Some(b"{}".as_slice().into()),
            dead_letter_exchange: Some("dlx".into()),
        },
        correlation_id: Some(BStr::new("c-1").into()),
        queue: "orders".into(),
        settled_at_ms: 1_700_000_001_999,
        result_bytes: Some(70_000),
        traceparent: Some(TRACE.into()),
    }
}

/// The least that can be said.
fn least() -> OutcomeMessage<'static> {
    let mut least = full();
    least.verdict = Verdict {
        outcome: Outcome::Unroutable,
        reason: None,
        attempts: 0,
        queue_count: 0,
        flags: Flags::NONE,
        ..least.verdict
    };
    least.details = Details { message_id: BStr::new("m-1").into(), ..Details::default() };
    OutcomeMessage {
        correlation_id: None,
        queue: "".into(),
        result_bytes: None,
        traceparent: None,
        ..least
    }
}

/// The same message with other details.
fn with(
    mut message: OutcomeMessage<'static>,
    change: impl FnOnce(&mut Details<'static>),
) -> OutcomeMessage<'static> {
    change(&mut message.details);
    message
}

/// As a client reads it: the properties without the headers, and the headers as text.
fn read(message: &OutcomeMessage<'_>) -> (OwnedProperties, Vec<(String, String)>) {
    let (mut scratch, mut encoded) = (b"used before".to_vec(), Vec::new());
    message.encode_properties(&mut scratch, &mut encoded);
    let mut properties = OwnedProperties::decode(&encoded).expect("just encoded");
    let headers = properties.headers.take().unwrap_or_default();
    let text = |value: &FieldValue| match value {
        FieldValue::LongString(_) => value.as_str().expect("UTF-8").to_owned(),
        FieldValue::Bool(value) => value.to_string(),
        integer => integer.as_i64().expect("an integer").to_string(),
    };
    let mut headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    headers.sort();
    (properties, headers)
}

#[test]
fn an_error_text_too_long_for_a_header_is_the_body() {
    let text = "ä".repeat(700);
    let long = with(full(), |details| {
        details.error = Some(BString::from(text.as_str()).into());
        (details.content_type, details.result) = (None, None);
    });
    let (properties, headers) = read(&long);
    assert_eq!(long.body(), text.as_bytes());
    assert_eq!(properties.content_type, Some("text/plain; charset=utf-8".into()));
    let error = headers.iter().find(|(name, _)| name == "x-error").map(|(_, text)| text.as_str());
    assert_eq!(error, Some(&text[..1024]), "as much as fits");
    let short = with(long, |details| details.error = Some(BStr::new("no").into()));
    assert_eq!(short.body(), b"");
}

fn texts<const N: usize>(headers: [(&str, &str); N]) -> Vec<(String, String)> {
    headers.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

#[test]
fn an_outcome_message_says_all_there_is_to_say() {
    let (properties, headers) = read(&full());
    let expected = OwnedProperties {
        content_type: Some("application/json".into()),
        delivery_mode: Some(2),
        correlation_id: Some("c-1".into()),
        message_id: Some("failed-late.orders.m-1".into()),
        timestamp: Some(1_700_000_001),
        kind: Some("outcome".into()),
        ..OwnedProperties::default()
    };
    assert_eq!(properties, expected);
    let expected = texts([
        ("traceparent", TRACE),
        ("x-attempts", "65535"),
        ("x-dead-letter-exchange", "dlx"),
        ("x-duplicate", "true"),
        ("x-error", "no such customer"),
        ("x-late", "true"),
        ("x-message-id", "m-1"),
        ("x-outcome", "failed"),
        ("x-published-at", "1700000000123"),
        ("x-queue", "orders"),
        ("x-queues", "65535"),
        ("x-reason", "rejected"),
        ("x-result-bytes", "70000"),
        ("x-settled-at", "1700000001999"),
        ("x-unverified", "true"),
        ("x-worker", "worker-1"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn an_outcome_message_does_not_say_what_is_not_so() {
    let (properties, headers) = read(&least());
    let expected = OwnedProperties {
        delivery_mode: Some(2),
        correlation_id: Some("m-1".into()),
        message_id: Some("unroutable..m-1".into()),
        timestamp: Some(1_700_000_001),
        kind: Some("outcome".into()),
        ..OwnedProperties::default()
    };
    assert_eq!(properties, expected, "the message's id stands in for a correlation id");
    let expected = texts([
        ("x-attempts", "0"),
        ("x-message-id", "m-1"),
        ("x-outcome", "unroutable"),
        ("x-published-at", "1700000000123"),
        ("x-queue", ""),
        ("x-queues", "0"),
        ("x-reason", "no-route"),
        ("x-settled-at", "1700000001999"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn an_outcome_message_is_kept_as_its_properties_say() {
    let mut encoded = Vec::new();
    full().encode_properties(&mut Vec::new(), &mut encoded);
    let written = Properties::decode(&encoded).expect("just encoded");
    let kept = OutcomeMessage::kept_properties();
    assert_eq!(
        (kept.delivery_mode, kept.priority, kept.expiration),
        (written.delivery_mode, written.priority, written.expiration)
    );
}

#[test]
fn an_event_has_one_id_however_often_it_is_told() {
    let told = |change: fn(&mut OutcomeMessage<'static>)| {
        let mut message = full();
        change(&mut message);
        message.event_id()
    };
    let first = full().event_id();
    let again = told(|message| {
        (message.verdict.flags, message.settled_at_ms) = (Flags::LATE.with(Flags::NOTIFIED), 5);
    });
    assert_eq!(first, again);
    for other in [
        told(|message| message.verdict.flags = Flags::NONE),
        told(|message| message.verdict.outcome = Outcome::Dropped),
        told(|message| message.queue = "invoices".into()),
        told(|message| message.details.message_id = BStr::new("m-2").into()),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn the_longest_names_make_different_ids_that_fit() {
    let queue = "ü".repeat(127);
    let ids = ["a", "b"].map(|end| format!("{}{end}", "i".repeat(254)));
    let mut seen = Vec::new();
    for queue in ["q", &queue] {
        for message_id in &ids {
            let message = OutcomeMessage {
                queue: queue.to_owned().into(),
                correlation_id: None,
                ..with(full(), |details| {
                    details.message_id = BString::from(message_id.as_str()).into()
                })
            };
            let id = message.event_id();
            assert!(id.len() <= 255, "{id}");
            assert!(!seen.contains(&id), "{id}");
            let (properties, headers) = read(&message);
            assert_eq!(properties.message_id.as_ref(), Some(&id));
            assert_eq!(properties.correlation_id, Some(message_id.as_str().into()));
            assert!(headers.contains(&("x-queue".to_owned(), queue.to_owned())));
            seen.push(id);
        }
    }
}

fn text(bytes_max: usize) -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![
        Just(String::new()),
        "[a-z.-]{1,12}",
        prop::collection::vec(any::<char>(), 0..bytes_max / 4).prop_map(String::from_iter),
    ]
    .prop_map(Cow::Owned)
}

/// What clients wrote, mostly UTF-8.
fn any_bytes(bytes_max: usize) -> impl Strategy<Value = Cow<'static, BStr>> {
    let odd = prop::collection::vec(any::<u8>(), 0..bytes_max).prop_map(BString::from);
    prop_oneof![3 => text(bytes_max).prop_map(|text| BString::from(&*text)), 1 => odd]
        .prop_map(Cow::Owned)
}

/// Shorter and longer than a header may be, and cut in the middle of a character.
fn error_text() -> impl Strategy<Value = Cow<'static, BStr>> {
    let letters = ["a", "ä", "€", "😀"].map(str::as_bytes).into_iter().chain([&b"\xFF"[..]]);
    (prop::sample::select(letters.collect::<Vec<_>>()), 0..1500_usize, any_bytes(40)).prop_map(
        |(letter, count, end)| Cow::Owned([&letter.repeat(count), &**end].concat().into()),
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let reason = prop::option::of(prop::sample::select(Reason::ALL.to_vec()));
    let flags = prop::collection::vec(any::<bool>(), 4).prop_map(|set| {
        let of = [Flags::UNVERIFIED, Flags::LATE, Flags::COPY, Flags::DUPLICATE];
        set.into_iter().zip(of).fold(Flags::NONE, |flags, (is_so, flag)| flags.with_if(is_so, flag))
    });
    let outcome = prop::sample::select(Outcome::ALL.to_vec());
    (outcome, reason, any::<(u16, u16)>(), 0..=i64::MAX as u64, flags).prop_map(
        |(outcome, reason, (attempts, queue_count), published_at_ms, flags)| Verdict {
            outcome,
            reason,
            attempts,
            queue_count,
            published_at_ms,
            flags,
        },
    )
}

fn details() -> impl Strategy<Value = Details<'static>> {
    let body = prop::collection::vec(any::<u8>(), 0..2000).prop_map(Cow::Owned);
    let report = prop_oneof![
        Just((None, None, None)),
        error_text().prop_map(|error| (Some(error), None, None)),
        (any_bytes(255), body).prop_map(|(kind, body)| (None, Some(kind), Some(body))),
    ];
    (any_bytes(255), text(255), report, prop::option::of(text(255))).prop_map(
        |(message_id, worker, (error, content_type, result), dead_letter_exchange)| Details {
            message_id,
            worker,
            error,
            content_type,
            result,
            dead_letter_exchange,
        },
    )
}

fn message() -> impl Strategy<Value = OutcomeMessage<'static>> {
    let rest = (
        0..=i64::MAX as u64,
        prop::option::of(0..=i64::MAX as u64),
        prop::option::of("[!-~]{1,128}".prop_map(Cow::Owned)),
    );
    (verdict(), details(), prop::option::of(any_bytes(255)), text(255), rest).prop_map(
        |(verdict, details, correlation_id, queue, (settled_at_ms, result_bytes, traceparent))| {
            OutcomeMessage {
                verdict,
                details,
                correlation_id,
                queue,
                settled_at_ms,
                result_bytes,
                traceparent,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(message in message()) {
        let mut encoded = Vec::new();
        message.encode_properties(&mut Vec::new(), &mut encoded);
        let properties = Properties::decode(&encoded).expect("just encoded");
        let body = message.body().to_vec();
        let read = OutcomeMessage::decode(&properties, &body).expect("an outcome message");
        let mut expected = message;
        let message_id = expected.details.message_id.clone();
        expected.correlation_id.get_or_insert(message_id);
        prop_assert_eq!(&read, &expected);
        prop_assert_eq!(read.into_owned(), expected);
    }

    #[test]
    fn garbage_is_read_without_panic(
        message in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage: Vec<u8>,
    ) {
        let mut damaged = Vec::new();
        message.encode_properties(&mut Vec::new(), &mut damaged);
        for (at, value) in damage {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        for bytes in [&damaged, &garbage] {
            if let Ok(properties) = Properties::decode(bytes) {
                let _ = OutcomeMessage::decode(&properties, &garbage);
            }
        }
        let properties = Properties { headers: Some(TableRef::new(&garbage)), ..Properties::default() };
        let _ = OutcomeMessage::decode(&properties, &garbage);
    }
}

/// What is decoded from these headers.
fn decoded(headers: &[(&str, FieldValue)]) -> Result<OutcomeMessage<'static>, OutcomeMessageError> {
    let headers = headers.iter().map(|(name, value)| (*name, value.clone())).collect();
    let mut encoded = Vec::new();
    OwnedProperties { headers: Some(headers), ..OwnedProperties::default() }.encode(&mut encoded);
    let properties = Properties::decode(&encoded).expect("just encoded");
    OutcomeMessage::decode(&properties, b"").map(OutcomeMessage::into_owned)
}

#[test]
fn what_tells_no_outcome_is_refused() {
    let check = |headers: &[(&str, FieldValue)], expected: &str| {
        let error = decoded(headers).expect_err("it is no outcome message");
        assert_eq!(error.to_string(), expected);
    };
    let id = || ("x-message-id", FieldValue::from("m"));
    check(&[id()], "it is no outcome message: header 'x-outcome' is missing");
    check(
        &[("x-outcome", 1_i32.into()), id()],
        "it is no outcome message: header 'x-outcome' is missing",
    );
    check(
        &[("x-outcome", "postponed".into()), id()],
        "the outcome 'postponed' is unknown here; update the client",
    );
    check(
        &[("x-outcome", "failed".into())],
        "it is no outcome message: header 'x-message-id' is missing",
    );
    let properties = Properties { headers: Some(TableRef::new(b"\xff")), ..Properties::default() };
    let read = OutcomeMessage::decode(&properties, b"");
    assert!(matches!(read, Err(OutcomeMessageError::Headers(_))), "{read:?}");
}

#[test]
fn what_a_newer_server_says_does_not_hide_the_outcome() {
    let read = decoded(&[
        ("x-outcome", "failed".into()),
        ("x-message-id", "m".into()),
        ("x-reason", "bored".into()),
        ("x-attempts", 70_000_i32.into()),
        ("x-queues", "many".into()),
        ("x-published-at", FieldValue::I64(-1)),
        ("x-late", "yes".into()),
        ("x-weather", "fine".into()),
    ]);
    let verdict = Verdict {
        outcome: Outcome::Failed,
        reason: None,
        attempts: u16::MAX,
        queue_count: 0,
        published_at_ms: 0,
        flags: Flags::NONE,
    };
    let details = Details { message_id: BStr::new("m").into(), ..Details::default() };
    let expected = OutcomeMessage {
        verdict,
        details,
        correlation_id: None,
        queue: "".into(),
        settled_at_ms: 0,
        result_bytes: None,
        traceparent: None,
    };
    assert_eq!(read, Ok(expected));
}

#[test]
fn what_cannot_be_a_trace_is_not_passed_on() {
    let long = "a".repeat(128);
    let of = |value: FieldValue| {
        let headers = [("traceparent", value)].into_iter().collect();
        let properties = OwnedProperties { headers: Some(headers), ..OwnedProperties::default() };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let properties = Properties::decode(&encoded).expect("just encoded");
        traceparent(&properties).map(str::to_owned)
    };
    assert_eq!(of(TRACE.into()).as_deref(), Some(TRACE));
    assert_eq!(of(long.as_str().into()), Some(long.clone()));
    let none = ["", "00-a b-c", "00-ü-01", "a\nb", "a\0b"].map(FieldValue::from);
    for value in none.into_iter().chain([format!("{long}a").as_str().into(), FieldValue::I64(1)]) {
        assert_eq!(of(value.clone()), None, "{value:?}");
    }
}
