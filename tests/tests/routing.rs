//! Which queues a message reaches.

use end_to_end::{
    Channel, Level,
    client::block,
    int, shared,
    table::{table, text},
    unique,
};
use lapin::{
    BasicProperties, ExchangeKind,
    types::{AMQPValue, FieldTable},
};

fn none() -> FieldTable {
    FieldTable::default()
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

fn unchain(channel: &Channel, destination: &str, source: &str, key: &str) -> lapin::Result<()> {
    block(channel.lapin().exchange_unbind(
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

/// Asserts for each routing key whether a message reaches a queue bound with `pattern`.
fn check_routing(kind: ExchangeKind, pattern: &str, keys: &[(&str, bool)]) {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(kind, none());
    let queue = client.queue("q", none());
    client.bind(&queue, &exchange, pattern);
    for (key, expected) in keys {
        client.confirmed(&exchange, key, key);
        let arrived = client.drain(&queue);
        assert_eq!(arrived.len(), usize::from(*expected), "{pattern:?} and {key:?}");
    }
}

#[test]
fn direct_exchange_matches_the_whole_key() {
    let keys = [("a", true), ("A", false), ("a.b", false), ("", false)];
    check_routing(ExchangeKind::Direct, "a", &keys);
    check_routing(ExchangeKind::Direct, "", &[("", true), ("a", false)]);
}

#[test]
fn fanout_exchange_ignores_the_key() {
    check_routing(ExchangeKind::Fanout, "ignored", &[("a", true), ("", true)]);
}

#[test]
fn topic_exchange_matches_words() {
    let check = |pattern, keys: &[(&str, bool)]| check_routing(ExchangeKind::Topic, pattern, keys);
    check("a.b", &[("a.b", true), ("a", false), ("a.b.c", false), ("a.", false)]);
    check("*", &[("a", true), ("a.b", false), ("", false)]);
    check("a.*", &[("a.b", true), ("a", false), ("a.b.c", false), ("a.", true)]);
    check("*.b.*", &[("a.b.c", true), ("b", false), ("a.b", false)]);
    check("#", &[("", true), ("a", true), ("a.b.c", true)]);
    check("a.#", &[("a", true), ("a.b", true), ("a.b.c", true), ("b.a", false)]);
    check("#.c", &[("c", true), ("a.c", true), ("a.b.c", true), ("a.c.d", false)]);
    check("a.#.z", &[("a.z", true), ("a.b.c.z", true), ("a", false), ("a.z.b", false)]);
    check("#.#", &[("", true), ("a", true), ("a.b", true)]);
    check("*.#", &[("a", true), ("a.b", true)]);
    check("a*", &[("ab", false), ("a*", true)]);
}

#[test]
fn headers_exchange_matches_as_x_match_says() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Headers, none());
    let bound = |mode: Option<&str>, with_x: bool| {
        let queue = client.queue("q", none());
        let mut arguments = table([("n", int(1)), ("s", text("v"))]);
        if let Some(mode) = mode {
            arguments.insert("x-match".into(), text(mode));
        }
        if with_x {
            arguments.insert("x-h".into(), text("special"));
        }
        client.bind_with(&queue, &exchange, "", arguments);
        queue
    };
    let all = bound(Some("all"), true);
    let default = bound(None, false);
    let any = bound(Some("any"), true);
    let queues = [&all, &default, &any];
    let cases = [
        (table([("n", int(1)), ("s", text("v")), ("more", int(9))]), [true, true, true]),
        (table([("n", int(1))]), [false, false, true]),
        (table([("n", int(2)), ("s", text("w"))]), [false, false, false]),
        (table([("x-h", text("special"))]), [false, false, false]),
        (none(), [false, false, false]),
    ];
    for (headers, expected) in cases {
        let properties = BasicProperties::default().with_headers(headers.clone());
        block(client.send(&exchange, "", "m", properties, false)).expect("a confirm");
        let arrived = queues.map(|queue| client.drain(queue).len() == 1);
        assert_eq!(arrived, expected, "{headers:?}");
    }
}

#[test]
fn headers_exchange_matches_x_headers_when_told() {
    let broker = shared();
    if broker.lacks("headers_exchange_matches_x_headers_when_told", "x-match all-with-x") {
        return;
    }
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Headers, none());
    let [all, any] = ["all-with-x", "any-with-x"].map(|mode| {
        let queue = client.queue("q", none());
        let arguments = [("x-match", text(mode)), ("n", int(1)), ("x-h", text("special"))];
        client.bind_with(&queue, &exchange, "", table(arguments));
        queue
    });
    let cases = [
        (table([("n", int(1)), ("x-h", text("special"))]), [true, true]),
        (table([("n", int(1))]), [false, true]),
        (table([("x-h", text("special"))]), [false, true]),
        (table([("x-h", text("other"))]), [false, false]),
    ];
    for (headers, expected) in cases {
        let properties = BasicProperties::default().with_headers(headers.clone());
        block(client.send(&exchange, "", "m", properties, false)).expect("a confirm");
        let arrived = [&all, &any].map(|queue| client.drain(queue).len() == 1);
        assert_eq!(arrived, expected, "{headers:?}");
    }
}

#[test]
fn headers_binding_with_an_empty_value_matches_presence() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Headers, none());
    let queue = client.queue("q", none());
    client.bind_with(&queue, &exchange, "", table([("k", AMQPValue::Void)]));
    for (headers, expected) in [(table([("k", text("anything"))]), 1), (table([("j", int(1))]), 0)]
    {
        let properties = BasicProperties::default().with_headers(headers);
        block(client.send(&exchange, "", "m", properties, false)).expect("a confirm");
        assert_eq!(client.drain(&queue).len(), expected);
    }
}

#[test]
fn unknown_x_match_is_refused() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", none());
    client.refuses(406, Level::Channel, |channel| {
        channel.try_bind(&queue, "amq.headers", "", table([("x-match", text("most"))]))
    });
}

#[test]
fn default_exchange_routes_to_the_queue_named_by_the_key() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", none());
    client.publish("", &queue, "m");
    assert_eq!(client.take_soon(&queue).exchange.as_str(), "");
}

#[test]
fn several_bindings_of_one_queue_deliver_once() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Topic, none());
    let queue = client.queue("q", none());
    for key in ["a.*", "a.#", "#"] {
        client.bind(&queue, &exchange, key);
    }
    client.confirmed(&exchange, "a.b", "once");
    assert_eq!(client.drain(&queue), ["once"]);
}

#[test]
fn binding_twice_is_one_binding() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let exchange = client.exchange(ExchangeKind::Direct, none());
    let queue = client.queue("q", none());
    client.bind(&queue, &exchange, "k");
    client.bind(&queue, &exchange, "k");
    unbind(&client, &queue, &exchange, "k").expect("unbind-ok");
    client.confirmed(&exchange, "k", "m");
    assert!(client.drain(&queue).is_empty());
}

#[test]
fn exchanges_bind_to_exchanges() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let entry = client.exchange(ExchangeKind::Topic, none());
    let middle = client.exchange(ExchangeKind::Direct, none());
    let queue = client.queue("q", none());
    chain(&client, &middle, &entry, "a.#").expect("a binding");
    client.bind(&queue, &middle, "a.b");
    for key in ["a.b", "a.c", "b"] {
        client.confirmed(&entry, key, key);
    }
    let message = client.take(&queue).expect("the message");
    assert_eq!((message.exchange.as_str(), message.data.as_slice()), (&*entry, &b"a.b"[..]));
    assert!(client.take(&queue).is_none());
    unchain(&client, &middle, &entry, "a.#").expect("unbind-ok");
    client.confirmed(&entry, "a.b", "cut off");
    assert!(client.take(&queue).is_none());
}

#[test]
fn circle_of_exchanges_delivers_once() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let [first, second] = [(); 2].map(|()| client.exchange(ExchangeKind::Fanout, none()));
    chain(&client, &second, &first, "").expect("a binding");
    chain(&client, &first, &second, "").expect("a binding");
    let queue = client.queue("q", none());
    client.bind(&queue, &first, "");
    client.bind(&queue, &second, "");
    client.confirmed(&second, "", "once");
    assert_eq!(client.drain(&queue), ["once"]);
}

#[test]
fn alternate_exchange_takes_only_what_is_unroutable() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let last = client.exchange(ExchangeKind::Fanout, none());
    let second =
        client.exchange(ExchangeKind::Direct, table([("alternate-exchange", text(&last))]));
    let first =
        client.exchange(ExchangeKind::Direct, table([("alternate-exchange", text(&second))]));
    let [routed, caught] = [(); 2].map(|()| client.queue("q", none()));
    client.bind(&routed, &first, "known");
    client.bind(&caught, &last, "");
    client.confirmed(&first, "known", "routed");
    client.confirmed(&first, "other", "caught");
    assert_eq!(client.drain(&routed), ["routed"]);
    assert_eq!(client.drain(&caught), ["caught"]);
}

#[test]
fn missing_alternate_exchange_loses_the_message_only() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let missing = table([("alternate-exchange", text(&unique("missing")))]);
    let exchange = client.exchange(ExchangeKind::Direct, missing);
    assert!(client.confirmed(&exchange, "nowhere", "m").is_ack());
}
