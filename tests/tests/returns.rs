//! Mandatory publishes that reach no queue are returned.

use end_to_end::{Level, client::block, int, shared, table, text, unique};
use lapin::{BasicProperties, ExchangeKind, options::BasicPublishOptions, types::FieldTable};

#[test]
fn unroutable_mandatory_publish_returns_with_no_route() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let key = unique("nowhere");
    let headers = table([("n", int(7))]);
    let properties = BasicProperties::default()
        .with_headers(headers.clone())
        .with_message_id("id".into())
        .with_content_type("text/plain".into());
    let confirm = client.send("amq.direct", &key, "back", properties.clone(), true);
    let returned =
        block(confirm).expect("a confirm").take_message().expect("the message came back");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.exchange.as_str(), "amq.direct");
    assert_eq!(returned.routing_key.as_str(), key);
    assert_eq!(returned.data, b"back");
    assert_eq!(returned.properties, properties);
}

#[test]
fn unroutable_mandatory_publish_is_confirmed_after_its_return() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let confirm = client.send("", &unique("nowhere"), "back", BasicProperties::default(), true);
    let confirmation = block(confirm).expect("a confirm");
    assert!(confirmation.is_ack());
    assert!(confirmation.take_message().is_some(), "the return comes before the confirm");
}

#[test]
fn routed_mandatory_publish_does_not_return() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let confirm = client.send("", &queue, "kept", BasicProperties::default(), true);
    assert!(block(confirm).expect("a confirm").take_message().is_none());
    assert_eq!(client.drain(&queue), ["kept"]);
}

#[test]
fn unroutable_publish_without_mandatory_is_dropped() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let confirm = client.send("", &unique("nowhere"), "lost", BasicProperties::default(), false);
    assert!(block(confirm).expect("a confirm").take_message().is_none());
}

#[test]
fn mandatory_publish_returns_without_confirms_too() {
    let broker = shared();
    let client = broker.client();
    for body in ["one", "two"] {
        drop(client.send("", &unique("nowhere"), body, BasicProperties::default(), true));
    }
    client.round_trip();
    let returned = client.await_confirms();
    let bodies: Vec<_> = returned.iter().map(|message| message.data.as_slice()).collect();
    assert_eq!(bodies, [b"one", b"two"]);
}

#[test]
fn mandatory_publish_taken_by_an_alternate_exchange_does_not_return() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let alternate = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let exchange =
        client.exchange(ExchangeKind::Direct, table([("alternate-exchange", text(&alternate))]));
    let queue = client.queue("q", FieldTable::default());
    client.bind(&queue, &alternate, "");
    let confirm = client.send(&exchange, "none", "kept", BasicProperties::default(), true);
    assert!(block(confirm).expect("a confirm").take_message().is_none());
    assert_eq!(client.drain(&queue), ["kept"]);
}

#[test]
fn mandatory_publish_through_an_empty_chain_of_exchanges_returns() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let first = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let second = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    block(client.lapin().exchange_bind(
        second.as_str().into(),
        first.as_str().into(),
        "".into(),
        Default::default(),
        FieldTable::default(),
    ))
    .expect("a binding");
    let confirm = client.send(&first, "", "back", BasicProperties::default(), true);
    let returned = block(confirm).expect("a confirm").take_message().expect("a return");
    assert_eq!(returned.exchange.as_str(), first);
}

#[test]
fn immediate_is_not_implemented_and_closes_the_connection() {
    let broker = shared();
    let client = broker.client();
    client.refuses_unasked(540, Level::Connection, |channel| {
        let options = BasicPublishOptions { immediate: true, ..Default::default() };
        let properties = BasicProperties::default();
        let publish =
            channel.lapin().basic_publish("".into(), "q".into(), options, b"x", properties);
        drop(block(publish).expect("written"));
    });
}
