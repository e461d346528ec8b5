//! `x-consumer-timeout`: an unsettled delivery comes back by itself, and nothing else happens.
//!
//! RabbitMQ closes the channel instead, so these tests are wilco's alone.

use end_to_end::{
    Session,
    broker::is_external,
    client::body,
    int, shared, skip,
    table::{string, table, text},
};
use lapin::{
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// The broker shared by this file; `None`, after naming the skipped test, if it is not wilco.
fn wilco_for(test: &str) -> Option<Session> {
    if is_external() {
        skip(test, "only wilco returns a message and keeps the channel");
        return None;
    }
    Some(shared())
}

fn timeout(ms: i32) -> FieldTable {
    table([("x-consumer-timeout", int(ms))])
}

#[test]
fn only_the_timed_out_message_goes_to_another_consumer() {
    let test = "only_the_timed_out_message_goes_to_another_consumer";
    let Some(broker) = wilco_for(test) else { return };
    let client = broker.client();
    let queue = client.queue("q", timeout(3000));
    let (slow, other) = (broker.client(), broker.client());
    let holder = slow.consume(&queue);
    client.publish("", &queue, "old");
    let old = holder.next();
    let start = Instant::now();
    assert!(!old.redelivered);
    sleep(Duration::from_millis(1500));
    client.publish("", &queue, "young");
    let young = holder.next();

    let priority = table([("x-priority", int(10))]);
    let taker = other.consume_with(&queue, BasicConsumeOptions::default(), priority);
    let again = taker.next();
    assert!(start.elapsed() > Duration::from_millis(2500), "after {:?}", start.elapsed());
    assert_eq!((body(&again).as_str(), again.redelivered), ("old", true));

    // The channel stays open, and what is still held can be settled on it.
    slow.ack(&old);
    slow.ack(&young);
    slow.round_trip();
    sleep(Duration::from_millis(1700));
    taker.quiet();
    holder.quiet();

    // The late ack has not taken the message from the consumer that has it now.
    slow.cancel(&holder);
    slow.round_trip();
    other.cancel(&taker);
    other.nack(&again, true);
    assert_eq!(body(&client.take_soon(&queue)), "old");
    assert_eq!(client.ready_count(&queue), 0);
}

#[test]
fn slow_consumer_gets_its_message_again_and_settles_it_by_its_new_tag() {
    let test = "slow_consumer_gets_its_message_again_and_settles_it_by_its_new_tag";
    let Some(broker) = wilco_for(test) else { return };
    let client = broker.client();
    let queue = client.queue("q", timeout(1000));
    client.prefetch(1, false);
    let consumer = client.consume(&queue);
    client.publish("", &queue, "one");
    client.publish("", &queue, "two");
    let first = consumer.next();
    let second = consumer.next();
    assert_eq!((body(&first).as_str(), first.redelivered), ("one", false));
    assert_eq!((body(&second).as_str(), second.redelivered), ("one", true));
    client.ack(&first);
    consumer.quiet();
    client.ack(&second);
    let third = consumer.next();
    assert_eq!((body(&third).as_str(), third.redelivered), ("two", false));
    client.ack(&third);
    client.round_trip();
    sleep(Duration::from_millis(1200));
    consumer.quiet();
}

#[test]
fn ack_of_several_passes_over_the_timed_out_one() {
    let test = "ack_of_several_passes_over_the_timed_out_one";
    let Some(broker) = wilco_for(test) else { return };
    let client = broker.client();
    let queue = client.queue("q", timeout(500));
    let endless = client.queue("endless", FieldTable::default());
    client.publish("", &queue, "late");
    client.publish("", &endless, "in time");
    let holder = client.open();
    holder.get_soon(&queue);
    let last = holder.get_soon(&endless);
    client.await_ready(&queue, 1);
    holder.ack_up_to(&last);
    holder.close_channel();
    let late = client.take(&queue).expect("the message that came back");
    assert!(late.redelivered);
    assert_eq!(client.ready_count(&endless), 0, "settled");
}

#[test]
fn late_reject_is_ignored_as_a_late_ack_is() {
    let test = "late_reject_is_ignored_as_a_late_ack_is";
    let Some(broker) = wilco_for(test) else { return };
    let client = broker.client();
    let queue = client.queue("q", timeout(300));
    for requeue in [false, true] {
        client.publish("", &queue, "m");
        let message = client.get_soon(&queue);
        client.await_ready(&queue, 1);
        client.reject(&message, requeue);
        client.round_trip();
        assert_eq!(client.drain(&queue), ["m"]);
    }
}

#[test]
fn message_that_times_out_too_often_is_dead_lettered() {
    let test = "message_that_times_out_too_often_is_dead_lettered";
    let Some(broker) = wilco_for(test) else { return };
    let client = broker.client();
    let graveyard = client.queue("graveyard", FieldTable::default());
    client.bind(&graveyard, "amq.direct", &graveyard);
    for kind in ["classic", "quorum"] {
        let arguments = table([
            ("x-queue-type", text(kind)),
            ("x-consumer-timeout", int(300)),
            ("x-delivery-limit", int(2)),
            ("x-dead-letter-exchange", text("amq.direct")),
            ("x-dead-letter-routing-key", text(&graveyard)),
        ]);
        let queue = client.queue("q", arguments);
        let consumer = client.consume(&queue);
        client.publish("", &queue, kind);
        assert_eq!(consumer.bodies(3), [kind; 3]);
        let dead = client.take_soon(&graveyard);
        assert_eq!(body(&dead), kind);
        let headers = dead.properties.headers().as_ref().expect("headers");
        let reason = headers.inner().get("x-first-death-reason").and_then(string);
        assert_eq!(reason.as_deref(), Some("delivery_limit"));
        let from = headers.inner().get("x-first-death-queue").and_then(string);
        assert_eq!(from, Some(queue.clone()));
        assert!(matches!(headers.inner().get("x-death"), Some(AMQPValue::FieldArray(_))));
        consumer.quiet();
        assert_eq!(client.ready_count(&queue), 0);
        client.cancel(&consumer);
    }
}
