//! The outcome message: each property and header, compared with the specification.

use crate::{case::Case, wilco};
use end_to_end::{Client, Json, Told, eventually, table, text, unique};
use lapin::{
    BasicProperties,
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};
use std::time::{SystemTime, UNIX_EPOCH};

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_millis() as i64
}

#[test]
fn every_property_and_header_is_as_specified() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let worker = Client::named(&broker.uri(), "worker 7");
    let consumer = worker.consume(&case.queue);
    let before_ms = now_ms();
    let asking = case.asking([]).with_correlation_id("order 7".into());
    case.publish_with(asking.with_content_type("text/request".into()));
    let request = consumer.next();
    let report = BasicProperties::default().with_content_type("image/png".into());
    worker.publish_with("amq.wilco.report", &case.id, b"\x89PNG\xff", report);
    worker.ack(&request);
    let message = case.client.take_soon(&case.reply);
    let after_ms = now_ms();

    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", &*case.reply));
    assert_eq!(message.data, b"\x89PNG\xff");
    let told = Told::read(&message);
    assert!(before_ms <= told.published_at_ms && told.published_at_ms <= told.settled_at_ms);
    assert!(told.settled_at_ms <= after_ms);
    let expected = BasicProperties::default()
        .with_type("outcome".into())
        .with_content_type("image/png".into())
        .with_correlation_id("order 7".into())
        .with_message_id(format!("processed.{}.{}", case.queue, case.id).into())
        .with_timestamp(told.settled_at_ms as u64 / 1000)
        .with_delivery_mode(2)
        .with_headers(table([
            ("x-outcome", text("processed")),
            ("x-message-id", text(&case.id)),
            ("x-queue", text(&case.queue)),
            ("x-queues", AMQPValue::LongLongInt(1)),
            ("x-reason", text("acked")),
            ("x-attempts", AMQPValue::LongLongInt(1)),
            ("x-published-at", AMQPValue::LongLongInt(told.published_at_ms)),
            ("x-settled-at", AMQPValue::LongLongInt(told.settled_at_ms)),
            ("x-worker", text(&format!("worker 7/{}", consumer.tag()))),
            ("x-worker-user", text("guest")),
        ]));
    assert_eq!(message.properties, expected);
}

#[test]
fn everything_that_can_be_missing_is() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.delete(&case.queue);
    let message = case.client.take_soon(&case.reply);
    let told = Told::read(&message);
    assert_eq!((told.worker, told.error, told.result_bytes), (None, None, None));
    assert_eq!(told.dead_letter_exchange, None);
    assert!(message.data.is_empty() && message.properties.content_type().is_none());
    // Without a correlation id of its own.
    let correlation_id = message.properties.correlation_id().as_ref().map(|id| id.as_str());
    assert_eq!(correlation_id, Some(&*case.id));
}

#[test]
fn worker_is_named_by_its_connection_and_consumer_tag() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    // A client that says nothing about itself is called by its user and address.
    case.publish();
    case.client.ack(&case.get());
    let worker = case.told().worker.expect("a worker");
    assert!(worker.starts_with("guest@127.0.0.1:"), "{worker}");
    assert!(worker.ends_with("/basic.get"), "{worker}");

    let name = unique("resizer");
    let worker = Client::named(&broker.uri(), &name);
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = worker.consume_with(&case.queue, options, FieldTable::default());
    let id = unique("id");
    case.publish_with(case.asking([]).with_message_id(id.as_str().into()));
    consumer.next();
    let expected = format!("{name}/{}", consumer.tag());
    assert_eq!(case.told().worker.as_deref(), Some(&*expected));
    assert_eq!(broker.settled(&id)["queues"][0]["worker"].text(), expected);
}

#[test]
fn id_of_the_event_is_never_longer_than_a_short_string() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let mut ids = Vec::new();
    for end in ["a", "b"] {
        let id = format!("{}{}{end}", case.id, "x".repeat(254 - case.id.len()));
        assert_eq!(id.len(), 255);
        case.publish_with(case.asking([]).with_message_id(id.as_str().into()));
        case.client.ack(&case.get());
        let message = case.client.take_soon(&case.reply);
        assert_eq!(Told::read(&message).message_id, id);
        let event_id = message.properties.message_id().as_ref().expect("an id").to_string();
        assert!(event_id.len() <= 255 && event_id.starts_with("processed."), "{event_id}");
        ids.push(event_id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn outcome_is_received_when_its_message_is_acked() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    let outcome = case.client.get_soon(&case.reply);
    let received = || broker.settled(&case.id)["queues"][0]["received_at"].clone();
    assert_eq!(received(), Json::Null);
    case.client.ack(&outcome);
    eventually("it is received", || received() != Json::Null);
}

#[test]
fn outcome_message_that_is_rejected_is_not_received_and_not_tracked() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    let outcome = case.client.get_soon(&case.reply);
    let event_id = outcome.properties.message_id().as_ref().expect("an id").to_string();
    case.client.reject(&outcome, false);
    case.client.round_trip();
    case.nothing_more();
    assert_eq!(broker.settled(&case.id)["queues"][0]["received_at"], Json::Null);
    assert_eq!(broker.message(&event_id), Json::Null);
    assert!(broker.outcomes_of(&case.reply).is_empty());
}

#[test]
fn ledger_tells_the_story_of_a_message() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.nack(&case.get(), true);
    case.client.ack(&case.get());
    case.client.ack(&case.client.get_soon(&case.reply));
    let mut events = Vec::new();
    eventually("the whole story", || {
        let message = broker.message(&case.id);
        let timeline = message["timeline"].elements().iter();
        events = timeline.map(|entry| entry["event"].text().to_owned()).collect();
        events.len() == 6
    });
    let expected = ["published", "delivered", "requeued", "delivered", "settled", "received"];
    assert_eq!(events, expected);
}
