//! Exchanges, queues and bindings: how they come and go, and what is refused with which code.

use end_to_end::{
    Channel, Level,
    client::block,
    int, shared,
    table::{table, text},
    unique,
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};
const PASSIVE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: true,
    durable: false,
    auto_delete: false,
    internal: false,
    nowait: false,
};

fn none() -> FieldTable {
    FieldTable::default()
}

fn passive(channel: &Channel, queue: &str) -> lapin::Result<lapin::Queue> {
    channel.try_declare(queue, QueueDeclareOptions::default().passive(), none())
}

fn delete(channel: &Channel, queue: &str, options: QueueDeleteOptions) -> lapin::Result<u32> {
    block(channel.lapin().queue_delete(queue.into(), options))
}

fn delete_exchange(channel: &Channel, exchange: &str, if_unused: bool) -> lapin::Result<()> {
    let options = ExchangeDeleteOptions { if_unused, nowait: false };
    block(channel.lapin().exchange_delete(exchange.into(), options))
}

fn chain(channel: &Channel, destination: &str, source: &str, key: &str) -> lapin::Result<()> {
    block(channel.lapin().exchange_bind(
        destination.into(),
        source.into(),
        key.into(),
        Default::default(),
        none(),
    ))
}

fn unbind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    block(channel.lapin().queue_unbind(queue.into(), exchange.into(), key.into(), none()))
}

#[test]
fn unbinding_what_is_not_bound_is_no_error() {
    let broker = shared();
    let client = broker.client();
    let exchange = client.exchange(ExchangeKind::Direct, none());
    let queue = client.queue("q", none());
    unbind(&client, &queue, &exchange, "never").expect("unbind-ok");
}

#[test]
fn internal_exchange_takes_no_publishes() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let internal = unique("internal");
    let options = ExchangeDeclareOptions { internal: true, ..DURABLE };
    client.try_exchange(&internal, ExchangeKind::Fanout, options, none()).expect("an exchange");
    client.refuses(403, Level::Channel, |channel| {
        channel.confirm_select();
        block(channel.send(&internal, "", "m", BasicProperties::default(), false))
    });
    let entry = client.exchange(ExchangeKind::Fanout, none());
    let queue = client.queue("q", none());
    chain(&client, &internal, &entry, "").expect("a binding");
    client.bind(&queue, &internal, "");
    client.confirmed(&entry, "", "through");
    assert_eq!(client.drain(&queue), ["through"]);
}

#[test]
fn auto_delete_exchange_goes_with_its_last_binding() {
    let broker = shared();
    let client = broker.client();
    let exchange = unique("exchange");
    let options = ExchangeDeclareOptions { auto_delete: true, ..DURABLE };
    client.try_exchange(&exchange, ExchangeKind::Fanout, options, none()).expect("an exchange");
    let [first, second] = [(); 2].map(|()| client.queue("q", none()));
    client.bind(&first, &exchange, "");
    client.bind(&second, &exchange, "");
    unbind(&client, &first, &exchange, "").expect("unbind-ok");
    client.try_exchange(&exchange, ExchangeKind::Fanout, PASSIVE, none()).expect("still there");
    client.delete(&second);
    client.refuses(404, Level::Channel, |channel| {
        channel.try_exchange(&exchange, ExchangeKind::Fanout, PASSIVE, none())
    });
}

#[test]
fn predeclared_exchanges_are_there() {
    let broker = shared();
    let client = broker.client();
    let predeclared = [
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ];
    for (name, kind) in predeclared {
        client.try_exchange(name, kind.clone(), PASSIVE, none()).expect("predeclared");
        client.try_exchange(name, kind, DURABLE, none()).expect("the same declaration");
        client.refuses(403, Level::Channel, |channel| delete_exchange(channel, name, false));
    }
}

#[test]
fn default_exchange_is_neither_declared_nor_deleted() {
    let broker = shared();
    let client = broker.client();
    for options in [PASSIVE, DURABLE] {
        client.refuses(403, Level::Channel, |channel| {
            channel.try_exchange("", ExchangeKind::Direct, options, none())
        });
    }
    client.refuses(403, Level::Channel, |channel| delete_exchange(channel, "", false));
}

#[test]
fn inequivalent_queue_declaration_is_refused() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-length", int(10))]));
    let durable = QueueDeclareOptions::durable();
    let cases = [
        (durable, none()),
        (durable, table([("x-max-length", int(11))])),
        (durable, table([("x-max-length", int(10)), ("x-message-ttl", int(1))])),
        (QueueDeclareOptions::default(), table([("x-max-length", int(10))])),
        (durable.auto_delete(), table([("x-max-length", int(10))])),
    ];
    for (options, arguments) in cases {
        client.refuses(406, Level::Channel, |channel| {
            channel.try_declare(&queue, options, arguments)
        });
    }
    let wider = table([("x-max-length", AMQPValue::LongLongInt(10))]);
    client.try_declare(&queue, durable, wider).expect("an equal number of another width");
    passive(&client, &queue).expect("passive declares regardless of arguments");
}

#[test]
fn arguments_nobody_knows_are_accepted() {
    let broker = shared();
    let client = broker.client();
    client.queue("q", table([("x-something-else", int(1)), ("x-queue-mode", text("lazy"))]));
    client.exchange(ExchangeKind::Direct, table([("x-something-else", int(1))]));
}

#[test]
fn unknown_queue_type_is_refused() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        let arguments = table([("x-queue-type", text("wonderful"))]);
        channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments)
    });
}

#[test]
fn classic_and_quorum_queues_differ_in_type() {
    let broker = shared();
    let client = broker.client();
    let [classic, quorum] = ["classic", "quorum"].map(|kind| {
        let arguments = table([("x-queue-type", text(kind))]);
        (client.queue(kind, arguments.clone()), arguments)
    });
    client.declare(&classic.0, classic.1.clone());
    client.declare(&quorum.0, quorum.1.clone());
    client.declare(&classic.0, none());
    for (name, other) in [(&classic.0, quorum.1.clone()), (&quorum.0, classic.1.clone())] {
        client.refuses(406, Level::Channel, |channel| {
            channel.try_declare(name, QueueDeclareOptions::durable(), other)
        });
    }
}

#[test]
fn stream_queues_are_refused() {
    if end_to_end::broker::is_external() {
        return end_to_end::skip("stream_queues_are_refused", "other brokers have streams");
    }
    let broker = shared();
    let client = broker.client();
    let channel = client.open();
    let arguments = table([("x-queue-type", text("stream"))]);
    let refused = channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments);
    let refusal = client.refusal(refused);
    assert!(refusal.text.contains("stream"), "the text names what is refused: {refusal:?}");
}

#[test]
fn inequivalent_exchange_declaration_is_refused() {
    let broker = shared();
    let client = broker.client();
    let exchange = client.exchange(ExchangeKind::Direct, none());
    let cases = [
        (ExchangeKind::Fanout, DURABLE, none()),
        (ExchangeKind::Direct, ExchangeDeclareOptions::default(), none()),
        (ExchangeKind::Direct, ExchangeDeclareOptions { auto_delete: true, ..DURABLE }, none()),
        (ExchangeKind::Direct, ExchangeDeclareOptions { internal: true, ..DURABLE }, none()),
        (ExchangeKind::Direct, DURABLE, table([("alternate-exchange", text("x"))])),
    ];
    for (kind, options, arguments) in cases {
        client.refuses(406, Level::Channel, |channel| {
            channel.try_exchange(&exchange, kind, options, arguments)
        });
    }
    client.try_exchange(&exchange, ExchangeKind::Direct, DURABLE, none()).expect("the same");
}

#[test]
fn unknown_exchange_type_closes_the_channel_only() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        let kind = ExchangeKind::Custom("x-wonderful".into());
        channel.try_exchange(&unique("exchange"), kind, DURABLE, none())
    });
}

#[test]
fn names_with_the_reserved_prefix_are_refused() {
    let broker = shared();
    let client = broker.client();
    let name = format!("amq.{}", unique("mine"));
    client.refuses(403, Level::Channel, |channel| {
        channel.try_declare(&name, QueueDeclareOptions::durable(), none())
    });
    client.refuses(403, Level::Channel, |channel| {
        channel.try_exchange(&name, ExchangeKind::Direct, DURABLE, none())
    });
    client.refuses(404, Level::Channel, |channel| passive(channel, &name));
}

#[test]
fn what_is_missing_is_not_found() {
    let broker = shared();
    let client = broker.client();
    let missing = unique("missing");
    let queue = client.queue("q", none());
    let exchange = client.exchange(ExchangeKind::Direct, none());
    client.refuses(404, Level::Channel, |channel| passive(channel, &missing));
    client.refuses(404, Level::Channel, |channel| {
        channel.try_exchange(&missing, ExchangeKind::Direct, PASSIVE, none())
    });
    client
        .refuses(404, Level::Channel, |channel| channel.try_bind(&missing, &exchange, "", none()));
    client.refuses(404, Level::Channel, |channel| channel.try_bind(&queue, &missing, "", none()));
    client.refuses(404, Level::Channel, |channel| chain(channel, &exchange, &missing, ""));
    client.refuses(404, Level::Channel, |channel| chain(channel, &missing, &exchange, ""));
    client.refuses(404, Level::Channel, |channel| {
        block(channel.lapin().queue_purge(missing.as_str().into(), Default::default()))
    });
    client.refuses(404, Level::Channel, |channel| channel.try_bind("", &exchange, "", none()));
}

#[test]
fn deleting_what_is_missing_is_no_error() {
    let broker = shared();
    let client = broker.client();
    let missing = unique("missing");
    let options = QueueDeleteOptions::default();
    assert_eq!(delete(&client, &missing, options).expect("delete-ok"), 0);
    delete_exchange(&client, &missing, false).expect("delete-ok");
    unbind(&client, &missing, &missing, "").expect("unbind-ok");
}

#[test]
fn default_exchange_takes_no_bindings() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", none());
    client.refuses(403, Level::Channel, |channel| channel.try_bind(&queue, "", "k", none()));
    client.refuses(403, Level::Channel, |channel| unbind(channel, &queue, "", &queue));
    client.refuses(403, Level::Channel, |channel| chain(channel, "amq.fanout", "", "k"));
}

#[test]
fn queue_in_use_or_not_empty_is_kept_when_asked() {
    let broker = shared();
    let client = broker.client();
    let if_unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    let if_empty = QueueDeleteOptions { if_empty: true, ..Default::default() };
    let used = client.queue("used", none());
    let consumer = client.consume(&used);
    client.refuses(406, Level::Channel, |channel| delete(channel, &used, if_unused));
    client.cancel(&consumer);
    client.publish("", &used, "m");
    client.await_ready(&used, 1);
    client.refuses(406, Level::Channel, |channel| delete(channel, &used, if_empty));
    assert_eq!(delete(&client, &used, if_unused).expect("delete-ok"), 1);
}

#[test]
fn exchange_in_use_is_kept_when_asked() {
    let broker = shared();
    let client = broker.client();
    let exchange = client.exchange(ExchangeKind::Direct, none());
    let queue = client.queue("q", none());
    client.bind(&queue, &exchange, "k");
    client.refuses(406, Level::Channel, |channel| delete_exchange(channel, &exchange, true));
    client.delete(&queue);
    delete_exchange(&client, &exchange, true).expect("nothing is bound any more");
}

#[test]
fn deleted_exchange_takes_its_bindings_with_it() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Fanout, none());
    let queue = client.queue("q", none());
    client.bind(&queue, &exchange, "");
    delete_exchange(&client, &exchange, false).expect("delete-ok");
    client.try_exchange(&exchange, ExchangeKind::Fanout, DURABLE, none()).expect("an exchange");
    client.confirmed(&exchange, "", "m");
    assert!(client.drain(&queue).is_empty());
}

#[test]
fn server_named_queue_is_the_channels_current_queue() {
    let broker = shared();
    let client = broker.client();
    let options = QueueDeclareOptions::exclusive();
    let declare = || client.try_declare("", options, none()).expect("a queue");
    let (first, second) = (declare().name().to_string(), declare().name().to_string());
    assert!(first.starts_with("amq.gen-") && second.starts_with("amq.gen-"));
    assert_ne!(first, second);
    // The empty name stands for the queue last declared on this channel.
    let key = unique("key");
    client.bind("", "amq.direct", &key);
    client.publish("amq.direct", &key, "m");
    assert_eq!(client.take_soon(&second).data, b"m");
    assert_eq!(client.ready_count(&first), 0);
}

#[test]
fn exclusive_queue_is_locked_for_other_connections() {
    let broker = shared();
    let client = broker.client();
    let queue = unique("mine");
    client.try_declare(&queue, QueueDeclareOptions::exclusive(), none()).expect("a queue");
    let other = broker.client();
    let locked = |call: &dyn Fn(&Channel) -> lapin::Result<()>| {
        other.refuses(405, Level::Channel, |channel| call(channel));
    };
    locked(&|channel| passive(channel, &queue).map(drop));
    locked(&|channel| {
        channel.try_declare(&queue, QueueDeclareOptions::exclusive(), none()).map(drop)
    });
    locked(&|channel| {
        channel.try_consume(&queue, BasicConsumeOptions::default(), none()).map(drop)
    });
    locked(&|channel| channel.try_get(&queue, true).map(drop));
    locked(&|channel| channel.try_bind(&queue, "amq.direct", "k", none()));
    locked(&|channel| {
        block(channel.lapin().queue_purge(queue.as_str().into(), Default::default())).map(drop)
    });
    locked(&|channel| delete(channel, &queue, QueueDeleteOptions::default()).map(drop));
    // Everybody may publish to it.
    other.publish("", &queue, "m");
    assert_eq!(client.take_soon(&queue).data, b"m");
}

#[test]
fn exclusive_queue_goes_with_its_connection() {
    let broker = shared();
    let client = broker.client();
    let queue = unique("mine");
    let other = broker.client();
    other.try_declare(&queue, QueueDeclareOptions::exclusive(), none()).expect("a queue");
    other.close();
    end_to_end::eventually("the queue is gone", || {
        passive(&client.open(), &queue).is_err_and(|error| error.to_string().contains("NOT_FOUND"))
    });
}

#[test]
fn purge_removes_what_is_ready_and_leaves_what_is_unsettled() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", none());
    for body in ["held", "gone", "gone"] {
        client.publish("", &queue, body);
    }
    client.await_ready(&queue, 3);
    let held = client.get(&queue).expect("a message");
    let purged = block(client.lapin().queue_purge(queue.as_str().into(), Default::default()));
    assert_eq!(purged.expect("a purge"), 2);
    client.nack(&held, true);
    client.await_ready(&queue, 1);
    assert_eq!(client.drain(&queue), ["held"]);
}
