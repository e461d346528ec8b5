//! Priority queues.

use end_to_end::{Channel, Level, int, shared, table, text, unique};
use lapin::{BasicProperties, options::QueueDeclareOptions};

fn publish(channel: &Channel, queue: &str, priority: u8, body: &str) {
    let properties = BasicProperties::default().with_priority(priority);
    channel.publish_with("", queue, body, properties);
}

#[test]
fn higher_priority_comes_first_and_equals_in_order() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-priority", int(10))]));
    for (priority, body) in [(1, "low 1"), (5, "mid 1"), (9, "high"), (5, "mid 2"), (1, "low 2")] {
        publish(&client, &queue, priority, body);
    }
    client.await_ready(&queue, 5);
    assert_eq!(client.drain(&queue), ["high", "mid 1", "mid 2", "low 1", "low 2"]);
}

#[test]
fn message_without_a_priority_is_lowest() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-priority", int(3))]));
    client.publish("", &queue, "none");
    publish(&client, &queue, 0, "zero");
    publish(&client, &queue, 1, "one");
    client.await_ready(&queue, 3);
    assert_eq!(client.drain(&queue), ["one", "none", "zero"]);
}

#[test]
fn priority_over_the_maximum_counts_as_the_maximum() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-priority", int(3))]));
    publish(&client, &queue, 3, "at");
    publish(&client, &queue, 200, "over");
    client.await_ready(&queue, 2);
    let first = client.take(&queue).expect("a message");
    assert_eq!(first.data, b"at");
    let second = client.take(&queue).expect("a message");
    assert_eq!(*second.properties.priority(), Some(200), "the property stays as it was sent");
}

#[test]
fn priority_means_nothing_to_a_plain_queue() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", Default::default());
    publish(&client, &queue, 1, "first");
    publish(&client, &queue, 9, "second");
    client.await_ready(&queue, 2);
    assert_eq!(client.drain(&queue), ["first", "second"]);
}

#[test]
fn requeued_message_is_ahead_of_its_equals_and_behind_higher_ones() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-priority", int(5))]));
    publish(&client, &queue, 2, "returned");
    publish(&client, &queue, 2, "waiting");
    let message = client.get_soon(&queue);
    publish(&client, &queue, 4, "higher");
    client.nack(&message, true);
    client.await_ready(&queue, 3);
    assert_eq!(client.drain(&queue), ["higher", "returned", "waiting"]);
}

#[test]
fn prefetched_message_is_not_overtaken() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-priority", int(5))]));
    client.prefetch(1, false);
    let consumer = client.consume(&queue);
    publish(&client, &queue, 1, "held");
    let held = consumer.next();
    publish(&client, &queue, 1, "low");
    publish(&client, &queue, 5, "high");
    client.await_ready(&queue, 2);
    client.ack(&held);
    let next = consumer.next();
    assert_eq!((held.data.as_slice(), next.data.as_slice()), (&b"held"[..], &b"high"[..]));
}

#[test]
fn over_the_length_limit_the_highest_priority_is_dropped_being_the_head() {
    let broker = shared();
    let client = broker.client();
    let limits = table([("x-max-priority", int(5)), ("x-max-length", int(2))]);
    let queue = client.queue("q", limits);
    publish(&client, &queue, 4, "high");
    publish(&client, &queue, 1, "low 1");
    publish(&client, &queue, 1, "low 2");
    client.round_trip();
    client.await_ready(&queue, 2);
    assert_eq!(client.drain(&queue), ["low 1", "low 2"]);
}

#[test]
fn maximum_out_of_range_is_refused() {
    let broker = shared();
    let client = broker.client();
    for value in [int(-1), int(256), text("5")] {
        client.refuses(406, Level::Channel, |channel| {
            let arguments = table([("x-max-priority", value)]);
            channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments)
        });
    }
}
