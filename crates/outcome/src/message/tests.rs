//! What an outcome message says.

use amqp::{FieldValue, OwnedProperties, Properties};

use super::*;
use crate::NO_ROUTE;

/// Everything that can be said.
fn full() -> OutcomeMessage<'static> {
    OutcomeMessage {
        outcome: Outcome::Failed,
        message_id: "m-1",
        correlation_id: Some("c-1"),
        queue: "orders",
        queue_count: u16::MAX,
        reason: "rejected",
        attempts: u16::MAX,
        published_at_ms: 1_700_000_000_123,
        settled_at_ms: 1_700_000_001_999,
        worker: "worker-1",
        error: Some("no such customer"),
        content_type: Some("application/json"),
        result: b"{}",
        result_bytes: Some(70_000),
        is_unverified: true,
        is_late: true,
        is_duplicate: true,
        is_copy: false,
        dead_letter_exchange: Some("dlx"),
    }
}

/// As little as can be said.
fn least() -> OutcomeMessage<'static> {
    OutcomeMessage {
        outcome: Outcome::Unroutable,
        correlation_id: None,
        queue: "",
        queue_count: 0,
        reason: NO_ROUTE,
        attempts: 0,
        worker: "",
        error: None,
        content_type: None,
        result: b"",
        result_bytes: None,
        is_unverified: false,
        is_late: false,
        is_duplicate: false,
        is_copy: false,
        dead_letter_exchange: None,
        ..full()
    }
}

/// As a client reads it: the properties but for the headers, and the headers as texts.
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
        headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    headers.sort();
    (properties, headers)
}

#[test]
fn an_error_text_too_long_for_a_header_is_the_body() {
    let text = "ä".repeat(700);
    let long = OutcomeMessage { error: Some(&text), result: b"", content_type: None, ..full() };
    let (properties, headers) = read(&long);
    assert_eq!(long.body(), text.as_bytes());
    assert_eq!(properties.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    let error = headers.iter().find(|(name, _)| name == "x-error").map(|(_, text)| text.as_str());
    assert_eq!(error, Some(&text[..1024]), "as much as fits");
    let short = OutcomeMessage { error: Some("no"), ..long };
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
    let first = full();
    let again = OutcomeMessage { is_duplicate: false, settled_at_ms: 5, ..full() };
    assert_eq!(first.event_id(), again.event_id());
    for other in [
        OutcomeMessage { is_late: false, ..full() },
        OutcomeMessage { outcome: Outcome::Dropped, ..full() },
        OutcomeMessage { queue: "invoices", ..full() },
        OutcomeMessage { message_id: "m-2", ..full() },
    ] {
        assert_ne!(first.event_id(), other.event_id());
    }
}

#[test]
fn the_longest_names_make_different_ids_that_fit() {
    let queue = "ü".repeat(127);
    let ids = ["a", "b"].map(|end| format!("{}{end}", "i".repeat(254)));
    let mut seen = Vec::new();
    for queue in ["q", &queue] {
        for message_id in &ids {
            let message = OutcomeMessage { queue, message_id, correlation_id: None, ..full() };
            let id = message.event_id();
            assert!(id.len() <= 255, "{id}");
            assert!(!seen.contains(&id), "{id}");
            let (properties, headers) = read(&message);
            assert_eq!(properties.message_id.as_deref(), Some(id.as_str()));
            assert_eq!(properties.correlation_id.as_ref(), Some(message_id));
            assert!(headers.contains(&("x-queue".to_owned(), queue.to_owned())));
            seen.push(id);
        }
    }
}
