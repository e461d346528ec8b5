//! Consumers: prefetch, settlement, exclusivity, priorities and cancellation.

use end_to_end::{
    Channel, Client, Level,
    client::{block, body},
    eventually, int, shared, table, text, unique,
};
use lapin::{
    options::{BasicConsumeOptions, BasicRecoverOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

const NO_ACK: BasicConsumeOptions =
    BasicConsumeOptions { no_ack: true, no_local: false, exclusive: false, nowait: false };
const EXCLUSIVE: BasicConsumeOptions =
    BasicConsumeOptions { no_ack: false, no_local: false, exclusive: true, nowait: false };

/// A queue with messages "0", "1", ...
fn filled(client: &Client, count: usize) -> String {
    let queue = client.queue("q", FieldTable::default());
    fill(client, &queue, count);
    client.await_ready(&queue, count as u32);
    queue
}

fn fill(channel: &Channel, queue: &str, count: usize) {
    for n in 0..count {
        channel.publish("", queue, n.to_string());
    }
}

#[test]
fn prefetch_limits_each_consumer() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 6);
    client.prefetch(2, false);
    let first = client.consume(&queue);
    assert_eq!(first.bodies(2), ["0", "1"]);
    first.quiet();
    let second = client.consume(&queue);
    assert_eq!(second.bodies(2), ["2", "3"]);
    second.quiet();
}

#[test]
fn global_prefetch_limits_the_channel() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 6);
    client.prefetch(3, true);
    let first = client.consume(&queue);
    let messages: Vec<_> = (0..3).map(|_| first.next()).collect();
    let second = client.consume(&queue);
    first.quiet();
    second.quiet();
    client.ack(&messages[0]);
    client.ack(&messages[1]);
    eventually("two more are delivered", || client.ready_count(&queue) == 1);
}

#[test]
fn prefetch_applies_to_consumers_started_later() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 5);
    let early = client.consume(&queue);
    assert_eq!(early.bodies(5), ["0", "1", "2", "3", "4"]);
    client.prefetch(1, false);
    fill(&client, &queue, 3);
    assert_eq!(early.bodies(3), ["0", "1", "2"], "no limit for the consumer that was there");
}

#[test]
fn prefetch_window_moves_with_each_ack() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 10);
    client.prefetch(1, false);
    let consumer = client.consume(&queue);
    for n in 0..10 {
        let message = consumer.next();
        assert_eq!(body(&message), n.to_string());
        client.ack(&message);
    }
    consumer.quiet();
}

#[test]
fn prefetch_does_not_limit_a_consumer_without_acks() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 20);
    client.prefetch(1, false);
    let consumer = client.consume_with(&queue, NO_ACK, FieldTable::default());
    assert_eq!(consumer.bodies(20).len(), 20);
}

#[test]
fn get_is_not_limited_by_prefetch() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 3);
    client.prefetch(1, false);
    let held: Vec<_> = (0..3).filter_map(|_| client.get(&queue)).collect();
    assert_eq!(held.len(), 3);
}

#[test]
fn consumers_take_turns() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let first = client.consume(&queue);
    let second = client.consume(&queue);
    for n in 0..10 {
        client.publish("", &queue, n.to_string());
        client.round_trip();
    }
    assert_eq!((first.bodies(5).len(), second.bodies(5).len()), (5, 5));
    first.quiet();
    second.quiet();
}

#[test]
fn delivery_tags_of_a_channel_count_up_from_one() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 4);
    let channel = client.open();
    let got = channel.get(&queue).expect("a message");
    let consumer = channel.consume(&queue);
    let tags: Vec<_> = (0..3).map(|_| consumer.next().delivery_tag).collect();
    assert_eq!((got.delivery_tag, tags), (1, vec![2, 3, 4]));
}

#[test]
fn exclusive_consumer_keeps_others_out() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let only = client.consume_with(&queue, EXCLUSIVE, FieldTable::default());
    for options in [EXCLUSIVE, BasicConsumeOptions::default()] {
        client.refuses(403, Level::Channel, |channel| {
            channel.try_consume(&queue, options, FieldTable::default()).map(drop)
        });
    }
    client.cancel(&only);
    let next = client.consume(&queue);
    client.publish("", &queue, "m");
    assert_eq!(next.bodies(1), ["m"]);
}

#[test]
fn exclusive_consumer_is_refused_beside_another() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let _first = client.consume(&queue);
    client.refuses(403, Level::Channel, |channel| {
        channel.try_consume(&queue, EXCLUSIVE, FieldTable::default()).map(drop)
    });
}

#[test]
fn higher_consumer_priority_is_served_first() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.prefetch(2, false);
    let low = client.consume(&queue);
    let options = BasicConsumeOptions::default();
    let high = client.consume_with(&queue, options, table([("x-priority", int(10))]));
    let lowest = client.consume_with(&queue, options, table([("x-priority", int(-5))]));
    fill(&client, &queue, 5);
    assert_eq!(high.bodies(2), ["0", "1"]);
    assert_eq!(low.bodies(2), ["2", "3"]);
    assert_eq!(lowest.bodies(1), ["4"]);
}

#[test]
fn consumer_priority_must_be_a_number() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.refuses(406, Level::Channel, |channel| {
        let arguments = table([("x-priority", text("high"))]);
        channel.try_consume(&queue, BasicConsumeOptions::default(), arguments).map(drop)
    });
}

#[test]
fn single_active_consumer_gets_all_until_it_goes() {
    let broker = shared();
    let client = broker.client();
    let single = table([("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let queue = client.queue("q", single);
    let active = client.consume(&queue);
    let waiting = client.consume(&queue);
    fill(&client, &queue, 3);
    let messages: Vec<_> = (0..3).map(|_| active.next()).collect();
    waiting.quiet();
    client.ack_up_to(&messages[2]);
    client.cancel(&active);
    fill(&client, &queue, 2);
    assert_eq!(waiting.bodies(2), ["0", "1"]);
}

#[test]
fn closed_channel_of_the_single_active_consumer_hands_over_its_messages() {
    let broker = shared();
    let client = broker.client();
    let single = table([("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let queue = client.queue("q", single);
    let other = client.open();
    let active = other.consume(&queue);
    let waiting = client.consume(&queue);
    fill(&client, &queue, 2);
    assert_eq!(active.bodies(2), ["0", "1"]);
    other.close_channel();
    let again = waiting.next();
    assert_eq!((body(&again).as_str(), again.redelivered), ("0", true));
    assert_eq!(waiting.bodies(1), ["1"]);
}

#[test]
fn single_active_consumer_queue_refuses_exclusive_consumers() {
    let broker = shared();
    let client = broker.client();
    let single = table([("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let queue = client.queue("q", single);
    client.refuses(403, Level::Channel, |channel| {
        channel.try_consume(&queue, EXCLUSIVE, FieldTable::default()).map(drop)
    });
}

#[test]
fn deleting_the_queue_cancels_its_consumers() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 1);
    let consumer = client.consume(&queue);
    let message = consumer.next();
    client.delete(&queue);
    consumer.is_cancelled();
    // The channel stays open, and settling what is gone is not an error.
    client.ack(&message);
    client.round_trip();
}

#[test]
fn cancelled_consumer_may_still_settle() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 2);
    client.prefetch(1, false);
    let consumer = client.consume(&queue);
    let message = consumer.next();
    client.cancel(&consumer);
    assert_eq!(client.ready_count(&queue), 1);
    client.ack(&message);
    client.round_trip();
    assert_eq!(client.drain(&queue), ["1"]);
}

#[test]
fn cancelling_an_unknown_consumer_is_no_error() {
    let broker = shared();
    let client = broker.client();
    let tag = unique("unknown");
    block(client.lapin().basic_cancel(tag.as_str().into(), Default::default())).expect("cancel-ok");
    client.round_trip();
}

#[test]
fn consumer_tag_in_use_is_not_allowed() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.refuses(530, Level::Connection, |channel| {
        let consume = || {
            block(channel.lapin().basic_consume(
                queue.as_str().into(),
                "taken".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            ))
        };
        let first = consume().expect("a consumer");
        let second = consume();
        drop(first);
        second.map(drop)
    });
}

#[test]
fn one_tag_may_be_used_on_two_channels() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let consumers = [client.open(), client.open()].map(|channel| {
        let consumer = block(channel.lapin().basic_consume(
            queue.as_str().into(),
            "same".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        ));
        (channel, consumer.expect("a consumer"))
    });
    assert_eq!(client.passive(&queue).consumer_count(), 2);
    drop(consumers);
}

#[test]
fn ack_multiple_settles_up_to_the_tag() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 5);
    let channel = client.open();
    let messages: Vec<_> = (0..5).filter_map(|_| channel.get(&queue)).collect();
    channel.ack_up_to(&messages[2]);
    channel.close_channel();
    client.await_ready(&queue, 2);
    assert_eq!(client.drain(&queue), ["3", "4"]);
}

#[test]
fn ack_multiple_of_tag_zero_settles_all() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 3);
    let channel = client.open();
    let messages: Vec<_> = (0..3).filter_map(|_| channel.get(&queue)).collect();
    assert_eq!(messages.len(), 3);
    channel.ack_tag(0, true).expect("an ack");
    channel.round_trip();
    channel.close_channel();
    client.round_trip();
    assert!(client.take(&queue).is_none());
}

#[test]
fn unknown_delivery_tag_closes_the_channel() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 1);
    let ack = |channel: &Channel, tag, multiple| {
        channel.ack_tag(tag, multiple).expect("written");
    };
    client.refuses_unasked(406, Level::Channel, |channel| ack(channel, 77, false));
    client.refuses_unasked(406, Level::Channel, |channel| ack(channel, 77, true));
    client.refuses_unasked(406, Level::Channel, |channel| {
        let message = channel.get_soon(&queue);
        channel.ack(&message);
        ack(channel, message.delivery_tag, false);
    });
}

#[test]
fn settling_on_another_channel_is_an_unknown_tag() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 1);
    let message = client.get(&queue).expect("a message");
    client.refuses_unasked(406, Level::Channel, |channel| {
        channel.ack_tag(message.delivery_tag, false).expect("written");
    });
    client.ack(&message);
    client.round_trip();
}

#[test]
fn requeued_delivery_keeps_its_position() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 5);
    let messages: Vec<_> = (0..4).filter_map(|_| client.get(&queue)).collect();
    for n in [2, 0, 1] {
        client.nack(&messages[n], true);
    }
    client.await_ready(&queue, 4);
    client.ack(&messages[3]);
    let order: Vec<_> = std::iter::from_fn(|| client.take(&queue))
        .map(|message| (body(&message), message.redelivered))
        .collect();
    let expected = [("0", true), ("1", true), ("2", true), ("4", false)];
    assert_eq!(order, expected.map(|(body, redelivered)| (body.to_owned(), redelivered)));
}

#[test]
fn nack_multiple_requeues_in_order() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 4);
    let messages: Vec<_> = (0..3).filter_map(|_| client.get(&queue)).collect();
    client.nack_up_to(&messages[2], true);
    client.await_ready(&queue, 4);
    assert_eq!(client.drain(&queue), ["0", "1", "2", "3"]);
}

#[test]
fn rejected_with_requeue_comes_back_as_redelivered() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 1);
    let consumer = client.consume(&queue);
    let message = consumer.next();
    assert!(!message.redelivered);
    client.reject(&message, true);
    let again = consumer.next();
    assert!(again.redelivered);
    client.reject(&again, false);
    consumer.quiet();
}

#[test]
fn closing_a_connection_requeues_what_is_unsettled() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 3);
    let other = broker.client();
    let consumer = other.consume(&queue);
    let first = consumer.next();
    assert_eq!(consumer.bodies(2), ["1", "2"]);
    other.ack(&first);
    other.round_trip();
    other.close();
    client.await_ready(&queue, 2);
    let message = client.take(&queue).expect("a message");
    assert_eq!((body(&message).as_str(), message.redelivered), ("1", true));
}

#[test]
fn recover_redelivers_what_is_unsettled() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 2);
    let channel = client.open();
    assert!(channel.get(&queue).is_some());
    assert!(channel.get(&queue).is_some());
    assert_eq!(client.ready_count(&queue), 0);
    channel.recover();
    client.await_ready(&queue, 2);
    let message = client.take(&queue).expect("a message");
    assert_eq!((body(&message).as_str(), message.redelivered), ("0", true));
}

#[test]
fn recover_without_requeue_is_not_implemented() {
    let broker = shared();
    let client = broker.client();
    client.refuses(540, Level::Connection, |channel| {
        block(channel.lapin().basic_recover(BasicRecoverOptions { requeue: false }))
    });
}

#[test]
fn auto_delete_queue_goes_with_its_last_consumer() {
    let broker = shared();
    let client = broker.client();
    let queue = unique("q");
    let options = QueueDeclareOptions::default().auto_delete();
    client.try_declare(&queue, options, FieldTable::default()).expect("a queue");
    client.publish("", &queue, "waits");
    assert!(client.take(&queue).is_some(), "it stays while it never had a consumer");
    let first = client.consume(&queue);
    let second = client.consume(&queue);
    client.cancel(&first);
    assert_eq!(client.passive(&queue).consumer_count(), 1);
    client.cancel(&second);
    client.refuses(404, Level::Channel, |channel| {
        let options = QueueDeclareOptions::default().passive();
        channel.try_declare(&queue, options, FieldTable::default())
    });
}

#[test]
fn queue_declare_counts_consumers_and_ready_messages() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 3);
    client.prefetch(1, false);
    let consumer = client.consume(&queue);
    consumer.next();
    let answer = client.passive(&queue);
    assert_eq!((answer.message_count(), answer.consumer_count()), (2, 1));
}

#[test]
fn consuming_and_getting_from_a_missing_queue_is_not_found() {
    let broker = shared();
    let client = broker.client();
    let missing = unique("missing");
    client.refuses(404, Level::Channel, |channel| {
        channel
            .try_consume(&missing, BasicConsumeOptions::default(), FieldTable::default())
            .map(drop)
    });
    client.refuses(404, Level::Channel, |channel| channel.try_get(&missing, true).map(drop));
}

#[test]
fn delete_says_how_many_messages_went_with_it() {
    let broker = shared();
    let client = broker.client();
    let queue = filled(&client, 3);
    let options = QueueDeleteOptions::default();
    let count = block(client.lapin().queue_delete(queue.as_str().into(), options));
    assert_eq!(count.expect("a deletion"), 3);
}
