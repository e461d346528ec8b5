//! Publisher confirms.

use end_to_end::{Level, client::block, int, shared, table, text, unique};
use lapin::{
    BasicProperties, Confirmation, ExchangeKind, options::ConfirmSelectOptions, types::FieldTable,
};

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

#[test]
fn persistent_publish_to_a_durable_queue_is_confirmed() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let confirm = client.send("", &queue, "kept", persistent(), false);
    assert_eq!(block(confirm).expect("a confirm"), Confirmation::Ack(None));
    assert_eq!(client.drain(&queue), ["kept"]);
}

#[test]
fn transient_publish_is_confirmed() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    assert!(client.confirmed("", &queue, "light").is_ack());
}

#[test]
fn unroutable_publish_is_confirmed() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    assert!(client.confirmed("", &unique("nowhere"), "lost").is_ack());
}

#[test]
fn empty_body_is_confirmed_and_delivered() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    assert!(client.confirmed("", &queue, "").is_ack());
    assert_eq!(client.drain(&queue), [""]);
}

#[test]
fn body_of_many_frames_arrives_whole() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    assert!(client.confirmed("", &queue, &body).is_ack());
    let message = client.take(&queue).expect("the message");
    assert!(message.data == body, "{} bytes came", message.data.len());
}

#[test]
fn every_publish_of_a_burst_is_confirmed_and_in_order() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let sent: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let confirms: Vec<_> =
        sent.iter().map(|body| client.send("", &queue, body, persistent(), false)).collect();
    for confirm in confirms {
        assert!(block(confirm).expect("a confirm").is_ack());
    }
    let consumer = client.consume(&queue);
    assert_eq!(consumer.bodies(sent.len()), sent);
}

#[test]
fn publish_to_several_queues_is_confirmed_once() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let queues = [(); 3].map(|()| client.queue("q", FieldTable::default()));
    for queue in &queues {
        client.bind(queue, &exchange, "");
    }
    let confirm = client.send(&exchange, "", "to all", persistent(), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    // lapin fails the channel on a confirm for a delivery tag it does not know.
    assert!(client.confirmed(&exchange, "", "again").is_ack());
    for queue in &queues {
        assert_eq!(client.drain(queue), ["to all", "again"]);
    }
}

#[test]
fn one_full_queue_of_several_makes_the_confirm_negative() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let open = client.queue("open", FieldTable::default());
    let limits = table([("x-max-length", int(1)), ("x-overflow", text("reject-publish"))]);
    let full = client.queue("full", limits);
    client.bind(&open, &exchange, "");
    client.bind(&full, &exchange, "");
    assert!(client.confirmed(&exchange, "", "first").is_ack());
    assert!(client.confirmed(&exchange, "", "second").is_nack());
    assert_eq!(client.drain(&full), ["first"]);
    assert_eq!(client.drain(&open), ["first", "second"]);
}

#[test]
fn selecting_twice_keeps_the_count_of_publishes() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    assert!(client.confirmed("", &queue, "one").is_ack());
    client.confirm_select();
    assert!(client.confirmed("", &queue, "two").is_ack());
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        channel.confirm_select();
        block(channel.lapin().tx_select())
    });
    client.refuses(406, Level::Channel, |channel| {
        block(channel.lapin().tx_select()).expect("a transaction");
        block(channel.lapin().confirm_select(ConfirmSelectOptions::default()))
    });
}

#[test]
fn publish_to_a_missing_exchange_closes_the_channel_without_a_confirm() {
    let broker = shared();
    let client = broker.client();
    client.refuses(404, Level::Channel, |channel| {
        channel.confirm_select();
        block(channel.send(&unique("missing"), "", "x", persistent(), false))
    });
}
