//! Dead-lettering: for which reasons, with which headers, and where it stops.

use end_to_end::{
    Level, int, shared,
    table::{number, string, table, text, texts},
    unique,
};
use lapin::{
    BasicProperties, ExchangeKind,
    message::Delivery,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use std::{thread::sleep, time::Duration};

/// One entry of `x-death`.
#[derive(Debug, PartialEq)]
struct Death {
    queue: String,
    reason: String,
    count: i64,
    exchange: String,
    keys: Vec<String>,
}

fn header<'a>(message: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    message.properties.headers().as_ref()?.inner().get(name)
}

fn header_text(message: &Delivery, name: &str) -> Option<String> {
    header(message, name).and_then(string)
}

fn entries(message: &Delivery) -> Vec<FieldTable> {
    let Some(AMQPValue::FieldArray(deaths)) = header(message, "x-death") else { return vec![] };
    deaths
        .as_slice()
        .iter()
        .map(|death| match death {
            AMQPValue::FieldTable(death) => death.clone(),
            other => panic!("no table: {other:?}"),
        })
        .collect()
}

fn deaths(message: &Delivery) -> Vec<Death> {
    let text = |death: &FieldTable, name: &str| string(&death.inner()[name]).expect("a string");
    entries(message)
        .iter()
        .map(|death| {
            let AMQPValue::FieldArray(keys) = &death.inner()["routing-keys"] else {
                panic!("routing-keys is no array")
            };
            assert!(matches!(death.inner()["time"], AMQPValue::Timestamp(_)));
            Death {
                queue: text(death, "queue"),
                reason: text(death, "reason"),
                count: number(&death.inner()["count"]).expect("a number"),
                exchange: text(death, "exchange"),
                keys: keys.as_slice().iter().filter_map(string).collect(),
            }
        })
        .collect()
}

fn death(queue: &str, reason: &str, count: i64, exchange: &str, key: &str) -> Death {
    Death {
        queue: queue.into(),
        reason: reason.into(),
        count,
        exchange: exchange.into(),
        keys: vec![key.into()],
    }
}

/// Arguments that dead-letter through the default exchange to `queue`.
fn to_queue<const N: usize>(queue: &str, more: [(&str, AMQPValue); N]) -> FieldTable {
    let mut arguments = table(more);
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(queue));
    arguments
}

#[test]
fn rejected_message_is_dead_lettered_with_its_history() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    client.bind(&queue, "amq.direct", &queue);
    let properties = BasicProperties::default()
        .with_headers(table([("mine", int(5))]))
        .with_message_id("id".into())
        .with_delivery_mode(2);
    client.publish_with("amq.direct", &queue, "m", properties);
    let message = client.get_soon(&queue);
    client.reject(&message, false);
    let dead = client.take_soon(&graveyard);
    assert_eq!(dead.data, b"m");
    assert!(!dead.redelivered);
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("", graveyard.as_str()));
    assert_eq!(dead.properties.message_id().as_ref().map(|id| id.as_str()), Some("id"));
    assert_eq!(*dead.properties.delivery_mode(), Some(2));
    assert_eq!(header(&dead, "mine"), Some(&int(5)));
    assert_eq!(deaths(&dead), [death(&queue, "rejected", 1, "amq.direct", &queue)]);
    assert_eq!(header_text(&dead, "x-first-death-queue"), Some(queue));
    assert_eq!(header_text(&dead, "x-first-death-reason").as_deref(), Some("rejected"));
    assert_eq!(header_text(&dead, "x-first-death-exchange").as_deref(), Some("amq.direct"));
}

#[test]
fn nack_without_requeue_dead_letters_all_it_covers_in_order() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    for body in ["one", "two", "three"] {
        client.publish("", &queue, body);
    }
    let consumer = client.consume(&queue);
    let _first = consumer.next();
    let second = consumer.next();
    client.nack_up_to(&second, false);
    client.await_ready(&graveyard, 2);
    assert_eq!(client.drain(&graveyard), ["one", "two"]);
}

#[test]
fn requeued_message_is_not_dead_lettered() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    client.publish("", &queue, "m");
    let message = client.get_soon(&queue);
    client.nack(&message, true);
    let again = client.take_soon(&queue);
    assert!(deaths(&again).is_empty());
    assert_eq!(client.ready_count(&graveyard), 0);
}

#[test]
fn without_a_dead_letter_exchange_a_rejected_message_is_gone() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish("", &queue, "m");
    let message = client.get_soon(&queue);
    client.reject(&message, false);
    client.round_trip();
    assert!(client.take(&queue).is_none());
}

#[test]
fn missing_dead_letter_exchange_loses_the_message_only() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-dead-letter-exchange", text(&unique("missing")))]));
    client.publish("", &queue, "m");
    let message = client.get_soon(&queue);
    client.reject(&message, false);
    client.publish("", &queue, "next");
    assert_eq!(client.take_soon(&queue).data, b"next");
}

#[test]
fn original_routing_key_is_kept_without_an_override() {
    let broker = shared();
    let client = broker.client();
    let exchange = client.exchange(ExchangeKind::Topic, FieldTable::default());
    let queue = client.queue("q", table([("x-dead-letter-exchange", text(&exchange))]));
    let graveyard = client.queue("graveyard", FieldTable::default());
    client.bind(&queue, "amq.topic", &format!("{queue}.#"));
    client.bind(&graveyard, &exchange, "#.red");
    let key = format!("{queue}.deep.red");
    client.publish("amq.topic", &key, "m");
    let message = client.get_soon(&queue);
    client.reject(&message, false);
    let dead = client.take_soon(&graveyard);
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), (&*exchange, &*key));
    assert_eq!(deaths(&dead), [death(&queue, "rejected", 1, "amq.topic", &key)]);
}

#[test]
fn expired_message_tells_its_expiration_in_the_history_only() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    let properties = BasicProperties::default().with_expiration("80".into());
    client.publish_with("", &queue, "m", properties);
    let dead = client.take_soon(&graveyard);
    assert_eq!(deaths(&dead), [death(&queue, "expired", 1, "", &queue)]);
    let original = entries(&dead)[0].inner().get("original-expiration").and_then(string);
    assert_eq!(original.as_deref(), Some("80"));
    assert!(dead.properties.expiration().is_none());
}

#[test]
fn queue_ttl_dead_letters_in_order() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, [("x-message-ttl", int(80))]));
    for n in 0..20 {
        client.publish("", &queue, n.to_string());
    }
    client.await_ready(&graveyard, 20);
    let consumer = client.consume(&graveyard);
    for n in 0..20 {
        let dead = consumer.next();
        assert_eq!(dead.data, n.to_string().as_bytes());
        assert!(!entries(&dead)[0].contains_key("original-expiration"));
    }
}

#[test]
fn message_over_the_length_limit_is_dead_lettered_as_maxlen() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, [("x-max-length", int(1))]));
    client.publish("", &queue, "old");
    client.publish("", &queue, "new");
    let dead = client.take_soon(&graveyard);
    assert_eq!(dead.data, b"old");
    assert_eq!(deaths(&dead), [death(&queue, "maxlen", 1, "", &queue)]);
    assert_eq!(client.drain(&queue), ["new"]);
}

#[test]
fn delivery_limit_dead_letters_after_one_more_delivery_than_the_limit() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let limited = [("x-queue-type", text("quorum")), ("x-delivery-limit", int(2))];
    let queue = client.queue("q", to_queue(&graveyard, limited));
    client.publish("", &queue, "poison");
    let consumer = client.consume(&queue);
    for returned_count in 0..=2 {
        let message = consumer.next();
        let told = header(&message, "x-delivery-count").and_then(number).unwrap_or(0);
        assert_eq!(told, returned_count);
        assert_eq!(message.redelivered, returned_count > 0);
        client.nack(&message, true);
    }
    let dead = client.take_soon(&graveyard);
    assert_eq!(deaths(&dead), [death(&queue, "delivery_limit", 1, "", &queue)]);
    consumer.quiet();
}

#[test]
fn history_has_the_latest_death_first() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let second = client.queue("second", to_queue(&graveyard, [("x-message-ttl", int(50))]));
    let first = client.queue("first", to_queue(&second, []));
    client.publish("", &first, "m");
    let message = client.get_soon(&first);
    client.reject(&message, false);
    let dead = client.take_soon(&graveyard);
    assert_eq!(
        deaths(&dead),
        [death(&second, "expired", 1, "", &second), death(&first, "rejected", 1, "", &first)]
    );
    assert_eq!(header_text(&dead, "x-first-death-queue"), Some(first));
    assert_eq!(header_text(&dead, "x-first-death-reason").as_deref(), Some("rejected"));
    if !broker.lacks("history_has_the_latest_death_first", "x-last-death-*") {
        assert_eq!(header_text(&dead, "x-last-death-queue"), Some(second));
        assert_eq!(header_text(&dead, "x-last-death-reason").as_deref(), Some("expired"));
        assert_eq!(header_text(&dead, "x-last-death-exchange").as_deref(), Some(""));
    }
}

#[test]
fn repeated_death_of_one_reason_in_one_queue_counts_up() {
    let broker = shared();
    let client = broker.client();
    let work = unique("work");
    let wait = client.queue("wait", to_queue(&work, [("x-message-ttl", int(40))]));
    client.declare(&work, to_queue(&wait, []));
    client.publish("", &work, "m");
    for round in 0..3 {
        let message = client.get_soon(&work);
        let history = deaths(&message);
        if round > 0 {
            assert_eq!(
                history,
                [
                    death(&wait, "expired", round, "", &wait),
                    death(&work, "rejected", round, "", &work)
                ]
            );
        }
        client.reject(&message, false);
    }
}

#[test]
fn cycle_without_a_rejection_is_dropped() {
    let broker = shared();
    let client = broker.client();
    let queue = unique("loop");
    client.declare(&queue, to_queue(&queue, [("x-message-ttl", int(50))]));
    client.publish("", &queue, "round");
    client.await_ready(&queue, 1);
    sleep(Duration::from_millis(250));
    assert_eq!(client.ready_count(&queue), 0);

    let second = unique("second");
    let first = client.queue("first", to_queue(&second, [("x-message-ttl", int(50))]));
    client.declare(&second, to_queue(&first, [("x-message-ttl", int(50))]));
    client.publish("", &first, "round");
    sleep(Duration::from_millis(400));
    assert_eq!((client.ready_count(&first), client.ready_count(&second)), (0, 0));
}

#[test]
fn cycle_by_rejection_goes_on() {
    let broker = shared();
    let client = broker.client();
    let queue = unique("loop");
    client.declare(&queue, to_queue(&queue, []));
    client.publish("", &queue, "round");
    for round in 0..4 {
        let message = client.get_soon(&queue);
        assert_eq!(deaths(&message).first().map_or(0, |death| death.count), round);
        client.reject(&message, false);
    }
}

#[test]
fn routing_keys_of_the_history_include_cc() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    let properties = BasicProperties::default().with_headers(table([("CC", texts(&["other"]))]));
    client.publish_with("", &queue, "m", properties);
    let message = client.get_soon(&queue);
    client.reject(&message, false);
    let dead = client.take_soon(&graveyard);
    assert_eq!(deaths(&dead)[0].keys, [queue.as_str(), "other"]);
    // The overriding routing key replaces all of them.
    assert!(header(&dead, "CC").is_none());
}

#[test]
fn message_without_headers_gets_them() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    client.publish("", &queue, "bare");
    let message = client.get_soon(&queue);
    assert!(message.properties.headers().is_none());
    client.reject(&message, false);
    assert_eq!(deaths(&client.take_soon(&graveyard)).len(), 1);
}

#[test]
fn purged_and_deleted_messages_are_not_dead_lettered() {
    let broker = shared();
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let queue = client.queue("q", to_queue(&graveyard, []));
    for body in ["one", "two"] {
        client.publish("", &queue, body);
    }
    client.await_ready(&queue, 2);
    let purged = end_to_end::client::block(
        client.lapin().queue_purge(queue.as_str().into(), Default::default()),
    );
    assert_eq!(purged.expect("a purge"), 2);
    client.publish("", &queue, "three");
    client.await_ready(&queue, 1);
    assert_eq!(client.delete(&queue), 1);
    client.round_trip();
    assert_eq!(client.ready_count(&graveyard), 0);
}

#[test]
fn routing_key_without_an_exchange_is_refused() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        let arguments = table([("x-dead-letter-routing-key", text("key"))]);
        channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments)
    });
}
