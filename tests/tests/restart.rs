//! What a stop with SIGTERM keeps.

use end_to_end::{
    Broker, Level,
    client::block,
    int,
    raw::{self, Event},
    table, text, unique,
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use std::{collections::BTreeSet, thread::sleep, time::Duration};

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

fn restart(broker: &mut Broker) {
    let status = broker.stop();
    assert!(status.success(), "{status}");
    broker.start();
}

#[test]
fn durable_things_survive_a_restart_and_others_do_not() {
    let test = "durable_things_survive_a_restart_and_others_do_not";
    let Some(mut broker) = Broker::own(test) else { return };
    let client = broker.client();
    client.confirm_select();
    let limits = || table([("x-max-length", int(3)), ("x-max-priority", int(5))]);
    let queue = client.queue("durable", limits());
    let exchange = client.exchange(ExchangeKind::Topic, FieldTable::default());
    client.bind(&queue, &exchange, "a.#");
    let inner = client.exchange(ExchangeKind::Fanout, FieldTable::default());
    let outer =
        client.exchange(ExchangeKind::Direct, table([("alternate-exchange", text(&inner))]));
    client.bind(&queue, &inner, "");
    let [transient, exclusive] = ["transient", "exclusive"].map(unique);
    let options = QueueDeclareOptions::default();
    client.try_declare(&transient, options, FieldTable::default()).expect("a queue");
    let options = QueueDeclareOptions { exclusive: true, durable: true, ..options };
    client.try_declare(&exclusive, options, FieldTable::default()).expect("a queue");
    let fleeting = unique("exchange");
    let options = ExchangeDeclareOptions::default();
    client
        .try_exchange(&fleeting, ExchangeKind::Fanout, options, FieldTable::default())
        .expect("an exchange");
    let properties = persistent().with_headers(table([("mine", text("kept"))]));
    let low = properties.clone().with_priority(1);
    let high = properties.clone().with_priority(4);
    for (body, properties) in [("low", low), ("high", high), ("light", BasicProperties::default())]
    {
        let confirm = client.send(&exchange, "a.b", body, properties, false);
        assert!(block(confirm).expect("a confirm").is_ack());
    }
    drop(client);

    restart(&mut broker);
    let client = broker.client();
    client.confirm_select();
    client.declare(&queue, limits());
    let message = client.take(&queue).expect("a persistent message");
    assert_eq!(message.data, b"high");
    assert_eq!(message.exchange.as_str(), exchange);
    assert_eq!(message.routing_key.as_str(), "a.b");
    assert_eq!(message.properties, properties.with_priority(4));
    assert_eq!(client.drain(&queue), ["low"], "transient messages end with the broker");
    for missing in [&transient, &exclusive] {
        client.refuses(404, Level::Channel, |channel| {
            let options = QueueDeclareOptions::default().passive();
            channel.try_declare(missing, options, FieldTable::default())
        });
    }
    client.refuses(404, Level::Channel, |channel| {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        channel.try_exchange(&fleeting, ExchangeKind::Fanout, options, FieldTable::default())
    });
    // Bindings, the alternate exchange and the limit are as they were.
    for body in ["1", "2", "3", "4"] {
        client.confirmed(&outer, "unroutable", body);
    }
    assert_eq!(client.drain(&queue), ["2", "3", "4"]);
}

#[test]
fn unsettled_messages_are_ready_again_in_their_place() {
    let test = "unsettled_messages_are_ready_again_in_their_place";
    let Some(mut broker) = Broker::own(test) else { return };
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    for n in 0..6 {
        let confirm = client.send("", &queue, n.to_string(), persistent(), false);
        assert!(block(confirm).expect("a confirm").is_ack());
    }
    let consumer = client.consume(&queue);
    let messages: Vec<_> = (0..4).map(|_| consumer.next()).collect();
    client.ack(&messages[1]);
    client.confirmed("", &queue, "light");
    drop(consumer);
    restart(&mut broker);
    assert_eq!(broker.client().drain(&queue), ["0", "2", "3", "4", "5"]);
}

#[test]
fn messages_expire_while_the_broker_is_down() {
    let test = "messages_expire_while_the_broker_is_down";
    let Some(mut broker) = Broker::own(test) else { return };
    let client = broker.client();
    client.confirm_select();
    let graveyard = client.queue("graveyard", FieldTable::default());
    let arguments =
        [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&graveyard))];
    let queue = client.queue("q", table(arguments));
    for (body, properties) in
        [("short", persistent().with_expiration("300".into())), ("long", persistent())]
    {
        let confirm = client.send("", &queue, body, properties, false);
        assert!(block(confirm).expect("a confirm").is_ack());
    }
    assert!(broker.stop().success());
    sleep(Duration::from_millis(400));
    broker.start();
    let client = broker.client();
    assert_eq!(client.take_soon(&graveyard).data, b"short");
    assert_eq!(client.drain(&queue), ["long"]);
}

#[test]
fn deleted_and_purged_things_stay_gone() {
    let test = "deleted_and_purged_things_stay_gone";
    let Some(mut broker) = Broker::own(test) else { return };
    let client = broker.client();
    client.confirm_select();
    let [purged, deleted] = ["purged", "deleted"].map(|stem| {
        let queue = client.queue(stem, FieldTable::default());
        let confirm = client.send("", &queue, "old", persistent(), false);
        assert!(block(confirm).expect("a confirm").is_ack());
        queue
    });
    block(client.lapin().queue_purge(purged.as_str().into(), Default::default())).expect("a purge");
    client.delete(&deleted);
    client.declare(&deleted, FieldTable::default());
    let confirm = client.send("", &deleted, "new", persistent(), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    broker.restart();
    let client = broker.client();
    assert_eq!(client.drain(&purged), [""; 0]);
    assert_eq!(client.drain(&deleted), ["new"], "a queue of the same name is another queue");
}

#[test]
fn sigterm_flushes_confirms_of_what_was_stored() {
    let test = "sigterm_flushes_confirms_of_what_was_stored";
    let Some(mut broker) = Broker::own(test) else { return };
    let queue = unique("q");
    let mut publisher = broker.raw();
    publisher.declare(1, &queue);
    publisher.confirm_select(1);
    let mut writer = publisher.writer();
    let count = 20_000;
    let bytes: Vec<u8> = (1..=count)
        .flat_map(|n: u32| raw::publish(1, "", &queue, n.to_string().as_bytes()))
        .collect();
    let writing = std::thread::spawn(move || {
        // Cut short by the end of the connection.
        let _ = std::io::Write::write_all(&mut writer, &bytes);
    });
    let mut confirmed = BTreeSet::new();
    let mut close = None;
    let mut terminated = false;
    while let Some(frame) = publisher.next_frame() {
        if frame.is(10, 50) {
            close = Some((frame.reply_code(), frame.reply_text()));
            publisher.method(0, 10, 51, &raw::Args::new());
            continue;
        }
        assert!(frame.is(60, 80), "{frame:?}");
        let mut fields = frame.fields();
        let (tag, multiple) = (fields.u64() as u32, fields.u8() == 1);
        let first = if multiple { confirmed.last().map_or(1, |last| last + 1) } else { tag };
        confirmed.extend(first..=tag);
        if !terminated {
            broker.terminate();
            terminated = true;
        }
    }
    writing.join().expect("the writer ends");
    assert!(broker.wait().success());
    let (code, text) = close.expect("a word before the end");
    assert_eq!(code, 320, "{text}");

    broker.start();
    let mut reader = broker.raw();
    reader.consume(1, &queue);
    let mut kept = BTreeSet::new();
    while let Event::Frame(frame) = reader.read(Duration::from_millis(500)) {
        assert!(frame.is(60, 60), "{frame:?}");
        let body = String::from_utf8(reader.content()).expect("text");
        kept.insert(body.parse::<u32>().expect("a number"));
    }
    let lost: Vec<_> = confirmed.difference(&kept).collect();
    assert!(lost.is_empty(), "confirmed and lost: {} of {}", lost.len(), confirmed.len());
    let silent: Vec<_> = kept.difference(&confirmed).collect();
    assert!(silent.is_empty(), "stored without a confirm: {} of {}", silent.len(), kept.len());
}

#[test]
fn sigterm_tells_connections_and_ends_soon() {
    let test = "sigterm_tells_connections_and_ends_soon";
    let Some(mut broker) = Broker::own(test) else { return };
    let mut polite = broker.raw();
    // This one never answers the close.
    let deaf = broker.raw();
    let start = std::time::Instant::now();
    broker.terminate();
    assert_eq!(polite.expect_connection_close().0, 320);
    assert!(broker.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    drop(deaf);
}
