//! Expiry of messages and of queues.

use end_to_end::{Level, int, shared, table, text, unique};
use lapin::{BasicProperties, ExchangeKind, options::QueueDeclareOptions, types::FieldTable};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

fn expiring(ms: &str) -> BasicProperties {
    BasicProperties::default().with_expiration(ms.into())
}

#[test]
fn messages_expire_after_the_queues_ttl() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-message-ttl", int(200))]));
    client.publish("", &queue, "gone");
    client.await_ready(&queue, 1);
    sleep(Duration::from_millis(300));
    assert!(client.take(&queue).is_none());
    client.await_ready(&queue, 0);
}

#[test]
fn messages_expire_after_their_own_expiration() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish_with("", &queue, "gone", expiring("150"));
    client.publish("", &queue, "stays");
    sleep(Duration::from_millis(300));
    assert_eq!(client.drain(&queue), ["stays"]);
}

#[test]
fn the_shorter_of_both_times_counts() {
    let broker = shared();
    let client = broker.client();
    let long = client.queue("long", table([("x-message-ttl", int(60_000))]));
    let short = client.queue("short", table([("x-message-ttl", int(150))]));
    client.publish_with("", &long, "gone", expiring("150"));
    client.publish_with("", &short, "gone", expiring("60000"));
    sleep(Duration::from_millis(300));
    assert!(client.take(&long).is_none());
    assert!(client.take(&short).is_none());
}

#[test]
fn each_queue_of_a_fanout_expires_on_its_own() {
    let broker = shared();
    let client = broker.client();
    let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let forgetful = client.queue("forgetful", table([("x-message-ttl", int(100))]));
    let keeping = client.queue("keeping", FieldTable::default());
    client.bind(&forgetful, &exchange, "");
    client.bind(&keeping, &exchange, "");
    client.publish(&exchange, "", "m");
    client.await_ready(&keeping, 1);
    client.await_ready(&forgetful, 0);
    assert_eq!(client.drain(&keeping), ["m"]);
}

#[test]
fn expired_message_behind_a_living_one_is_not_delivered() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish("", &queue, "head");
    client.publish_with("", &queue, "gone", expiring("100"));
    client.publish("", &queue, "tail");
    sleep(Duration::from_millis(250));
    assert_eq!(client.drain(&queue), ["head", "tail"]);
}

#[test]
fn expiration_survives_unchanged_until_delivery() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish_with("", &queue, "m", expiring("60000"));
    let message = client.take_soon(&queue);
    assert_eq!(message.properties.expiration().as_ref().map(|ms| ms.as_str()), Some("60000"));
}

#[test]
fn zero_ttl_delivers_to_a_waiting_consumer_only() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-message-ttl", int(0))]));
    client.publish("", &queue, "gone");
    client.await_ready(&queue, 0);
    let consumer = client.consume(&queue);
    client.publish("", &queue, "met");
    assert_eq!(consumer.bodies(1), ["met"]);
    consumer.quiet();
}

#[test]
fn unsettled_message_does_not_expire() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-message-ttl", int(200))]));
    client.publish("", &queue, "held");
    let message = client.get_soon(&queue);
    sleep(Duration::from_millis(350));
    client.ack(&message);
    client.round_trip();
}

#[test]
fn requeued_message_keeps_its_original_expiry() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-message-ttl", int(300))]));
    let consumer = client.consume(&queue);
    client.publish("", &queue, "late");
    let message = consumer.next();
    client.cancel(&consumer);
    sleep(Duration::from_millis(400));
    client.nack(&message, true);
    client.round_trip();
    client.await_ready(&queue, 0);
    assert!(client.take(&queue).is_none());
}

#[test]
fn expiration_must_be_a_number_of_milliseconds() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    for wrong in ["soon", "-1", "1.5", ""] {
        client.refuses_unasked(406, Level::Channel, |channel| {
            channel.publish_with("", &queue, "x", expiring(wrong));
        });
    }
}

#[test]
fn unused_queue_expires() {
    let broker = shared();
    let client = broker.client();
    let start = Instant::now();
    let queue = client.queue("q", table([("x-expires", int(300))]));
    sleep(Duration::from_millis(700));
    assert!(start.elapsed() > Duration::from_millis(300));
    client.refuses(404, Level::Channel, |channel| {
        let options = QueueDeclareOptions::default().passive();
        channel.try_declare(&queue, options, FieldTable::default())
    });
}

#[test]
fn queue_with_a_consumer_does_not_expire() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-expires", int(200))]));
    let consumer = client.consume(&queue);
    sleep(Duration::from_millis(500));
    client.publish("", &queue, "still here");
    assert_eq!(consumer.bodies(1), ["still here"]);
    client.cancel(&consumer);
    sleep(Duration::from_millis(600));
    client.refuses(404, Level::Channel, |channel| {
        let options = QueueDeclareOptions::default().passive();
        channel.try_declare(&queue, options, FieldTable::default())
    });
}

#[test]
fn getting_and_declaring_count_as_use() {
    let broker = shared();
    let client = broker.client();
    let arguments = table([("x-expires", int(500))]);
    let queue = client.queue("q", arguments.clone());
    for _ in 0..4 {
        sleep(Duration::from_millis(200));
        assert!(client.take(&queue).is_none());
    }
    for _ in 0..4 {
        sleep(Duration::from_millis(200));
        client.declare(&queue, arguments.clone());
    }
    assert_eq!(client.delete(&queue), 0);
}

#[test]
fn times_out_of_range_are_refused() {
    let broker = shared();
    let client = broker.client();
    let cases = [
        ("x-message-ttl", int(-1)),
        ("x-message-ttl", text("100")),
        ("x-expires", int(0)),
        ("x-expires", int(-1)),
        ("x-expires", text("100")),
    ];
    for (name, value) in cases {
        client.refuses(406, Level::Channel, |channel| {
            let arguments = table([(name, value)]);
            channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments)
        });
    }
}
