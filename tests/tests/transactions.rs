//! Transactions: publishes and settlements take effect together at commit, or not at all.

use end_to_end::{Channel, Level, client::block, shared, unique};
use lapin::{BasicProperties, ExchangeKind, types::FieldTable};

fn transactional(channel: Channel) -> Channel {
    block(channel.lapin().tx_select()).expect("a transaction");
    channel
}

fn commit(channel: &Channel) {
    block(channel.lapin().tx_commit()).expect("a commit");
}

fn roll_back(channel: &Channel) {
    block(channel.lapin().tx_rollback()).expect("a rollback");
}

#[test]
fn publishes_are_invisible_until_commit() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let channel = transactional(client.open());
    for body in ["one", "two"] {
        channel.publish("", &queue, body);
    }
    channel.round_trip();
    assert_eq!(client.ready_count(&queue), 0);
    commit(&channel);
    assert_eq!(client.drain(&queue), ["one", "two"]);
}

#[test]
fn commit_covers_all_queues_of_the_transaction() {
    let broker = shared();
    let client = broker.client();
    let queues = [(); 4].map(|()| client.queue("q", FieldTable::default()));
    let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    for queue in &queues {
        client.bind(queue, &exchange, "");
    }
    let channel = transactional(client.open());
    let persistent = BasicProperties::default().with_delivery_mode(2);
    channel.publish_with(&exchange, "", "all", persistent);
    for queue in &queues {
        channel.publish("", queue, queue);
    }
    commit(&channel);
    for queue in &queues {
        assert_eq!(client.drain(queue), ["all", queue.as_str()]);
    }
}

#[test]
fn rolled_back_publishes_never_appear() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let channel = transactional(client.open());
    channel.publish("", &queue, "never");
    roll_back(&channel);
    channel.publish("", &queue, "after");
    commit(&channel);
    assert_eq!(client.drain(&queue), ["after"]);
}

#[test]
fn closing_the_channel_rolls_back() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish("", &queue, "kept");
    let channel = transactional(client.open());
    channel.publish("", &queue, "never");
    let message = channel.get(&queue).expect("the message");
    channel.ack(&message);
    channel.close_channel();
    client.await_ready(&queue, 1);
    assert_eq!(client.drain(&queue), ["kept"]);
}

#[test]
fn acks_settle_at_commit() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    for body in ["one", "two", "three"] {
        client.publish("", &queue, body);
    }
    client.await_ready(&queue, 3);
    let channel = transactional(client.open());
    let _first = channel.get(&queue).expect("the first");
    let second = channel.get(&queue).expect("the second");
    channel.ack_up_to(&second);
    commit(&channel);
    channel.close_channel();
    client.await_ready(&queue, 1);
    assert_eq!(client.drain(&queue), ["three"]);
}

#[test]
fn rolled_back_ack_leaves_the_delivery_unsettled() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish("", &queue, "again");
    client.await_ready(&queue, 1);
    let channel = transactional(client.open());
    let message = channel.get(&queue).expect("the message");
    channel.ack(&message);
    roll_back(&channel);
    // Still unsettled on this channel: it can be acknowledged a second time.
    assert_eq!(client.ready_count(&queue), 0);
    channel.ack(&message);
    commit(&channel);
    channel.close_channel();
    client.round_trip();
    assert!(client.take(&queue).is_none());
}

#[test]
fn nack_with_requeue_takes_effect_at_commit() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.publish("", &queue, "back");
    client.await_ready(&queue, 1);
    let channel = transactional(client.open());
    let message = channel.get(&queue).expect("the message");
    channel.nack(&message, true);
    channel.round_trip();
    assert_eq!(client.ready_count(&queue), 0);
    commit(&channel);
    client.await_ready(&queue, 1);
    assert!(client.take(&queue).expect("the message").redelivered);
}

#[test]
fn publish_and_ack_take_effect_together() {
    let broker = shared();
    let client = broker.client();
    let input = client.queue("in", FieldTable::default());
    let output = client.queue("out", FieldTable::default());
    client.publish("", &input, "work");
    client.await_ready(&input, 1);
    let channel = transactional(client.open());
    let work = channel.get(&input).expect("the work");
    channel.publish("", &output, "result");
    channel.ack(&work);
    channel.round_trip();
    assert_eq!(client.ready_count(&output), 0);
    commit(&channel);
    channel.close_channel();
    assert_eq!(client.drain(&output), ["result"]);
    assert!(client.take(&input).is_none());
}

#[test]
fn mandatory_publish_returns_at_commit() {
    let broker = shared();
    let client = broker.client();
    let channel = transactional(client.open());
    drop(channel.send("", &unique("nowhere"), "back", BasicProperties::default(), true));
    channel.round_trip();
    assert!(channel.await_confirms().is_empty(), "nothing returns before the commit");
    commit(&channel);
    channel.round_trip();
    let returned = channel.await_confirms();
    assert_eq!(returned.len(), 1);
    assert_eq!(returned[0].reply_code, 312);
}

#[test]
fn commit_and_rollback_need_a_transaction() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| block(channel.lapin().tx_commit()));
    client.refuses(406, Level::Channel, |channel| block(channel.lapin().tx_rollback()));
}

#[test]
fn selecting_twice_keeps_the_open_transaction() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let channel = transactional(client.open());
    channel.publish("", &queue, "one");
    let channel = transactional(channel);
    channel.publish("", &queue, "two");
    commit(&channel);
    assert_eq!(client.drain(&queue), ["one", "two"]);
}

#[test]
fn rollback_gives_back_to_the_queues_the_deliveries_came_from() {
    let broker = shared();
    let client = broker.client();
    let [first, second] = [(); 2].map(|()| client.queue("q", FieldTable::default()));
    client.publish("", &first, "a");
    client.publish("", &second, "b");
    client.publish("", &second, "c");
    let channel = transactional(client.open());
    channel.get_soon(&first);
    let b = channel.get_soon(&second);
    let c = channel.get_soon(&second);
    // Nothing is unsettled on the channel now, so tags are noted from the beginning again.
    channel.ack_up_to(&c);
    client.publish("", &first, "d");
    channel.get_soon(&first);
    roll_back(&channel);
    channel.ack(&b);
    commit(&channel);
    channel.close_channel();
    client.await_ready(&first, 2);
    assert_eq!(client.drain(&first), ["a", "d"]);
    assert_eq!(client.drain(&second), ["c"]);
}
