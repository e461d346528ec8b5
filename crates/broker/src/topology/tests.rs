//! Tests of declaring, binding and deleting, and the error of each misuse.

use amqp::{FieldTable, FieldValue, ReplyCode};

use super::*;
use crate::exchange::{ExchangeDefinition, ExchangeKind};
use crate::{BrokerError, QueueId};

const ME: u64 = 1;
const OTHER: u64 = 2;

fn none() -> FieldTable {
    FieldTable::new()
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().collect()
}

/// A durable, shared queue without arguments.
fn queue(name: &str) -> QueueDeclaration<'_> {
    QueueDeclaration {
        id: QueueId(name.bytes().fold(7, |id: u32, byte| id.wrapping_mul(31) + u32::from(byte))),
        name,
        server_named: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: none(),
        connection: ME,
    }
}

fn exchange(name: &str, kind: ExchangeKind) -> ExchangeDeclaration<'_> {
    ExchangeDeclaration {
        name,
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: none(),
    }
}

fn topology(queues: &[&str], exchanges: &[(&str, ExchangeKind)]) -> Topology {
    let mut topology = Topology::new("/");
    for name in queues {
        assert!(topology.declare_queue(queue(name)).unwrap().is_created());
    }
    for (name, kind) in exchanges {
        assert!(topology.declare_exchange(exchange(name, *kind)).unwrap().is_created());
    }
    topology
}

fn routed(topology: &Topology, exchange: &str, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    topology.route(exchange, key.into(), &[], None, &mut out).unwrap();
    let name = |id: &QueueId| topology.queue_by_id(*id).unwrap().name.to_string();
    let mut names: Vec<String> = out.iter().map(name).collect();
    names.sort();
    names
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, BrokerError>, code: ReplyCode, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), text);
    assert_eq!(error.reply_code(), code, "{text}");
}

const LOCKED: &str = "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                      originally declared on another connection or the exclusive property value \
                      does not match that of the original declaration.";

#[test]
fn declaring_a_queue_again_differently_is_refused() {
    let mut topology = topology(&["q"], &[]);
    assert!(!topology.declare_queue(queue("q")).unwrap().is_created());
    let id = topology.queue_named("q").unwrap().id;
    let cases = [
        (
            QueueDeclaration { durable: false, ..queue("q") },
            ReplyCode::PreconditionFailed,
            "inequivalent arg 'durable' for queue 'q' in vhost '/': \
             received 'false' but current is 'true'",
        ),
        (
            QueueDeclaration { auto_delete: true, ..queue("q") },
            ReplyCode::PreconditionFailed,
            "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': \
             received 'true' but current is 'false'",
        ),
        (
            QueueDeclaration {
                arguments: table([("x-message-ttl", 2000i32.into())]),
                ..queue("q")
            },
            ReplyCode::PreconditionFailed,
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': \
             received the value '2000' of type 'signedint' but current is none",
        ),
        (QueueDeclaration { exclusive: true, ..queue("q") }, ReplyCode::ResourceLocked, LOCKED),
    ];
    for (declaration, code, text) in cases {
        refused(topology.declare_queue(declaration), code, text);
    }
    let again = QueueDeclaration { id: QueueId(9999), ..queue("q") };
    assert_eq!(topology.declare_queue(again).unwrap().into_inner().id, id);
}

#[test]
fn wrong_declarations_of_queues_are_refused() {
    let mut topology = topology(&[], &[]);
    refused(
        topology.declare_queue(queue("amq.x")),
        ReplyCode::AccessRefused,
        "queue name 'amq.x' contains reserved prefix 'amq.*'",
    );
    let generated = QueueDeclaration { server_named: true, ..queue("amq.gen-1") };
    assert!(topology.declare_queue(generated.clone()).unwrap().is_created());
    let quorum = || table([("x-queue-type", "quorum".into())]);
    refused(
        topology.declare_queue(QueueDeclaration { arguments: quorum(), ..generated }),
        ReplyCode::PreconditionFailed,
        "Cannot declare a server-named queue for type rabbit_quorum_queue",
    );
    refused(
        topology.declare_queue(QueueDeclaration {
            arguments: table([("x-dead-letter-exchange", 1i32.into())]),
            ..queue("q")
        }),
        ReplyCode::PreconditionFailed,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
    );
    refused(
        topology.declare_queue(QueueDeclaration {
            arguments: table([("x-dead-letter-routing-key", "k".into())]),
            ..queue("q")
        }),
        ReplyCode::PreconditionFailed,
        "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': \
         routing_key_but_no_dlx_defined",
    );
    refused(
        topology.declare_queue(QueueDeclaration {
            durable: false,
            arguments: quorum(),
            ..queue("q")
        }),
        ReplyCode::PreconditionFailed,
        "invalid property 'non-durable' for queue 'q' in vhost '/'",
    );
    assert_eq!(topology.queue_count(), 1);
}

#[test]
fn an_exclusive_queue_is_its_connections_alone_and_never_durable() {
    let mut topology = topology(&[], &[]);
    let mine = QueueDeclaration { exclusive: true, ..queue("q") };
    let definition = topology.declare_queue(mine.clone()).unwrap().into_inner();
    assert!(!definition.durable);
    assert_eq!(definition.exclusive_owner, Some(ME));
    assert!(!topology.declare_queue(mine.clone()).unwrap().is_created());
    assert!(topology.queue("q", ME).is_ok());
    refused(topology.queue("q", OTHER), ReplyCode::ResourceLocked, LOCKED);
    refused(topology.declare_queue(queue("q")), ReplyCode::ResourceLocked, LOCKED);
    let theirs = QueueDeclaration { connection: OTHER, ..mine };
    refused(topology.declare_queue(theirs), ReplyCode::ResourceLocked, LOCKED);
    let to = Destination::queue("q");
    refused(
        topology.bind("amq.fanout", &to, "", &none(), OTHER),
        ReplyCode::ResourceLocked,
        LOCKED,
    );
    topology.bind("amq.fanout", &to, "", &none(), ME).unwrap();
    refused(
        topology.unbind("amq.fanout", &to, "", &none(), OTHER),
        ReplyCode::ResourceLocked,
        LOCKED,
    );
    let owned: Vec<_> = topology.exclusive_queues(ME).map(|queue| queue.name.clone()).collect();
    assert_eq!(owned, ["q".into()]);
    topology.delete_queue("q").unwrap();
    assert_eq!(topology.exclusive_queues(ME).count(), 0);
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut topology = topology(&["q"], &[("e", ExchangeKind::Direct)]);
    let no_queue = "no queue 'nq' in vhost '/'";
    let no_exchange = "no exchange 'ne' in vhost '/'";
    refused(topology.queue("nq", ME), ReplyCode::NotFound, no_queue);
    refused(topology.exchange("ne"), ReplyCode::NotFound, no_exchange);
    refused(topology.declare_exchange_passive("ne"), ReplyCode::NotFound, no_exchange);
    refused(topology.exchange_for_publish("ne"), ReplyCode::NotFound, no_exchange);
    let mut out = Vec::new();
    refused(topology.route("ne", "".into(), &[], None, &mut out), ReplyCode::NotFound, no_exchange);
    let binds = [
        ("ne", Destination::queue("q"), no_exchange),
        ("e", Destination::queue("nq"), no_queue),
        ("ne", Destination::queue("nq"), no_exchange),
        ("e", Destination::exchange("ne"), no_exchange),
    ];
    for (source, destination, text) in binds {
        refused(topology.bind(source, &destination, "", &none(), ME), ReplyCode::NotFound, text);
        assert!(topology.unbind(source, &destination, "", &none(), ME).unwrap().is_empty());
    }
    assert!(topology.delete_queue("nq").is_none());
    assert!(topology.delete_exchange("ne", false).unwrap().is_empty());
}

#[test]
fn declaring_an_exchange_again_differently_is_refused() {
    let mut topology = topology(&[], &[("e", ExchangeKind::Topic)]);
    let same = exchange("e", ExchangeKind::Topic);
    assert!(!topology.declare_exchange(same.clone()).unwrap().is_created());
    let cases = [
        (exchange("e", ExchangeKind::Fanout), "'type'", "received 'fanout' but current is 'topic'"),
        (
            ExchangeDeclaration { durable: false, ..same.clone() },
            "'durable'",
            "received 'false' but current is 'true'",
        ),
        (
            ExchangeDeclaration { auto_delete: true, ..same.clone() },
            "'auto_delete'",
            "received 'true' but current is 'false'",
        ),
        (
            ExchangeDeclaration { internal: true, ..same.clone() },
            "'internal'",
            "received 'true' but current is 'false'",
        ),
        (
            ExchangeDeclaration {
                arguments: table([("alternate-exchange", "ae".into())]),
                ..same.clone()
            },
            "'alternate-exchange'",
            "received the value 'ae' of type 'longstr' but current is none",
        ),
    ];
    for (declaration, key, rest) in cases {
        let text = format!("inequivalent arg {key} for exchange 'e' in vhost '/': {rest}");
        refused(topology.declare_exchange(declaration), ReplyCode::PreconditionFailed, &text);
    }
    let other = ExchangeDeclaration { arguments: table([("x", 1i32.into())]), ..same };
    assert!(!topology.declare_exchange(other).unwrap().is_created(), "other arguments are free");
}

#[test]
fn wrong_declarations_of_exchanges_are_refused() {
    let mut topology = topology(&[], &[]);
    let default = "operation not permitted on the default exchange";
    refused(
        topology.declare_exchange(exchange("", ExchangeKind::Direct)),
        ReplyCode::AccessRefused,
        default,
    );
    refused(topology.declare_exchange_passive(""), ReplyCode::AccessRefused, default);
    refused(
        topology.declare_exchange(exchange("amq.mine", ExchangeKind::Direct)),
        ReplyCode::AccessRefused,
        "exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    refused(
        topology.declare_exchange(ExchangeDeclaration {
            arguments: table([("alternate-exchange", 1i64.into())]),
            ..exchange("e", ExchangeKind::Direct)
        }),
        ReplyCode::PreconditionFailed,
        "invalid type 'long' for arg 'alternate-exchange' in exchange 'e' in vhost '/'",
    );
    refused(
        ExchangeKind::parse("x-random"),
        ReplyCode::PreconditionFailed,
        "unknown exchange type 'x-random'",
    );
}

#[test]
fn predeclared_exchanges_are_there_and_stay() {
    let mut topology = topology(&["q"], &[]);
    let names = [
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
        ("amq.wilco.outcomes", ExchangeKind::Topic),
        ("amq.wilco.query", ExchangeKind::Direct),
        ("amq.wilco.report", ExchangeKind::Direct),
    ];
    for (name, kind) in names {
        assert!(!topology.declare_exchange(exchange(name, kind)).unwrap().is_created());
        let text = format!("deletion of system exchange '{name}' in vhost '/' not allowed");
        refused(topology.delete_exchange(name, false), ReplyCode::AccessRefused, &text);
    }
    refused(
        topology.delete_exchange("", false),
        ReplyCode::AccessRefused,
        "operation not permitted on the default exchange",
    );
    assert!(topology.is_internal("amq.rabbitmq.trace"));
    refused(
        topology.exchange_for_publish("amq.rabbitmq.trace"),
        ReplyCode::AccessRefused,
        "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
    );
    assert_eq!(topology.exchanges().count(), 10);
    assert!(topology.exchange_for_publish("").is_ok());
    assert_eq!(routed(&topology, "", "q"), ["q"]);
    assert!(routed(&topology, "", "nq").is_empty());
}

#[test]
fn the_default_exchange_cannot_be_bound() {
    let mut topology = topology(&["q"], &[("e", ExchangeKind::Direct)]);
    for (source, destination) in [
        ("", Destination::queue("q")),
        ("", Destination::exchange("e")),
        ("e", Destination::exchange("")),
    ] {
        let text = "operation not permitted on the default exchange";
        let bound = topology.bind(source, &destination, "q", &none(), ME);
        refused(bound, ReplyCode::AccessRefused, text);
        let unbound = topology.unbind(source, &destination, "q", &none(), ME);
        refused(unbound, ReplyCode::AccessRefused, text);
    }
}

#[test]
fn a_wrong_x_match_is_refused_only_where_it_counts() {
    let mut topology = topology(&["q"], &[]);
    let to = Destination::queue("q");
    let arguments = table([("x-match", "most".into())]);
    refused(
        topology.bind("amq.headers", &to, "", &arguments, ME),
        ReplyCode::PreconditionFailed,
        "Invalid x-match field value <<\"most\">>; \
         expected all, any, all-with-x, or any-with-x",
    );
    assert!(topology.bind("amq.direct", &to, "", &arguments, ME).is_ok());
}

#[test]
fn in_use_and_not_empty_are_said_as_rabbitmq_says_them() {
    let mut topology = topology(&["q"], &[("e", ExchangeKind::Direct)]);
    let use_it = topology.bind("e", &Destination::queue("q"), "k", &none(), ME);
    assert!(use_it.unwrap().is_created());
    refused(
        topology.delete_exchange("e", true),
        ReplyCode::PreconditionFailed,
        "exchange 'e' in vhost '/' in use",
    );
    let texts = [
        (topology.queue_in_use("q"), "queue 'q' in vhost '/' in use"),
        (topology.queue_not_empty("q"), "queue 'q' in vhost '/' not empty"),
        (topology.queue_in_exclusive_use("q"), "queue 'q' in vhost '/' in exclusive use"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
    topology.delete_queue("q").unwrap();
    assert_eq!(topology.delete_exchange("e", true).unwrap().exchanges.len(), 1);
}

#[test]
fn the_same_binding_twice_is_one() {
    let mut topology = topology(&["q"], &[("e", ExchangeKind::Direct)]);
    let to = Destination::queue("q");
    let ab = table([("a", 1i32.into()), ("b", 2i32.into())]);
    let ba = table([("b", 2i32.into()), ("a", 1i32.into())]);
    assert!(topology.bind("e", &to, "k", &ab, ME).unwrap().is_created());
    let epoch = topology.epoch();
    assert!(!topology.bind("e", &to, "k", &ba, ME).unwrap().is_created());
    assert_eq!(topology.epoch(), epoch);
    assert!(topology.bind("e", &to, "k", &none(), ME).unwrap().is_created());
    assert_eq!(topology.bindings_from("e").count(), 2);
    assert_eq!(routed(&topology, "e", "k"), ["q"]);
    assert_eq!(topology.unbind("e", &to, "k", &ba, ME).unwrap().bindings.len(), 1);
    assert_eq!(routed(&topology, "e", "k"), ["q"], "the other one is still there");
    assert_eq!(topology.unbind("e", &to, "k", &none(), ME).unwrap().bindings.len(), 1);
    assert!(routed(&topology, "e", "k").is_empty());
    assert!(topology.exchange_named("e").is_some());
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_one_after_the_other() {
    let mut topology = topology(&["q"], &[("root", ExchangeKind::Fanout)]);
    for name in ["a", "b"] {
        let declaration =
            ExchangeDeclaration { auto_delete: true, ..exchange(name, ExchangeKind::Fanout) };
        topology.declare_exchange(declaration).unwrap();
    }
    let links = [("root", Destination::exchange("a")), ("a", Destination::exchange("b"))];
    for (source, destination) in &links {
        topology.bind(source, destination, "", &none(), ME).unwrap();
    }
    topology.bind("b", &Destination::queue("q"), "", &none(), ME).unwrap();
    assert_eq!(routed(&topology, "root", ""), ["q"]);
    let removed = topology.delete_queue("q").unwrap();
    let names: Vec<&str> = removed.removal.exchanges.iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(removed.removal.bindings.len(), 3);
    assert_eq!(topology.bindings().count(), 0);
    assert!(topology.exchange_named("root").is_some());
}

#[test]
fn an_alternate_exchange_takes_what_no_binding_takes() {
    let mut topology = topology(&["q", "lost"], &[("ae", ExchangeKind::Fanout)]);
    let with_alternate = |name: &'static str, alternate: &str| ExchangeDeclaration {
        arguments: table([("alternate-exchange", alternate.into())]),
        ..exchange(name, ExchangeKind::Direct)
    };
    topology.declare_exchange(with_alternate("e", "ae")).unwrap();
    topology.declare_exchange(with_alternate("loop1", "loop2")).unwrap();
    topology.declare_exchange(with_alternate("loop2", "loop1")).unwrap();
    topology.declare_exchange(with_alternate("to-default", "")).unwrap();
    topology.declare_exchange(with_alternate("to-nowhere", "none")).unwrap();
    topology.bind("e", &Destination::queue("q"), "k", &none(), ME).unwrap();
    topology.bind("ae", &Destination::queue("lost"), "", &none(), ME).unwrap();
    assert_eq!(routed(&topology, "e", "k"), ["q"]);
    assert_eq!(routed(&topology, "e", "other"), ["lost"]);
    assert!(routed(&topology, "loop1", "k").is_empty());
    assert!(routed(&topology, "to-nowhere", "k").is_empty());
    assert_eq!(routed(&topology, "to-default", "q"), ["q"]);
    // A binding to an exchange counts, wherever that exchange leads.
    topology.bind("e", &Destination::exchange("loop1"), "dead", &none(), ME).unwrap();
    assert!(routed(&topology, "e", "dead").is_empty());
}

#[test]
fn extra_keys_route_as_well_and_a_queue_gets_a_message_once() {
    let mut topology = topology(&["q", "r"], &[]);
    topology.bind("amq.topic", &Destination::queue("q"), "a.#", &none(), ME).unwrap();
    topology.bind("amq.topic", &Destination::queue("q"), "a.*", &none(), ME).unwrap();
    topology.bind("amq.topic", &Destination::queue("r"), "b", &none(), ME).unwrap();
    let id = |name: &str| topology.queue_named(name).unwrap().id;
    let mut out = vec![id("r")];
    topology.route("amq.topic", "a.x".into(), &["b".into(), "a.y".into()], None, &mut out).unwrap();
    let mut expected = vec![id("q"), id("r")];
    expected.sort();
    assert_eq!(out[0], id("r"), "what was there stays");
    assert_eq!(out[1..], expected);
    out.clear();
    topology.route("", "q".into(), &["r".into(), "q".into(), "no".into()], None, &mut out).unwrap();
    assert_eq!(out, expected);
}

#[test]
fn routes_are_cacheable_where_no_headers_exchange_can_be_reached() {
    let mut topology =
        topology(&["q"], &[("a", ExchangeKind::Fanout), ("b", ExchangeKind::Direct)]);
    for name in ["", "a", "b", "amq.topic"] {
        assert!(topology.is_cacheable(name), "{name}");
    }
    assert!(!topology.is_cacheable("amq.headers"));
    assert!(!topology.is_cacheable("none"));
    topology.bind("a", &Destination::exchange("b"), "", &none(), ME).unwrap();
    topology.bind("b", &Destination::exchange("a"), "", &none(), ME).unwrap();
    assert!(topology.is_cacheable("a"));
    topology.bind("b", &Destination::exchange("amq.match"), "", &none(), ME).unwrap();
    assert!(!topology.is_cacheable("a"));
    topology.unbind("b", &Destination::exchange("amq.match"), "", &none(), ME).unwrap();
    assert!(topology.is_cacheable("a"));
    let alternate = ExchangeDeclaration {
        arguments: table([("alternate-exchange", "amq.headers".into())]),
        ..exchange("c", ExchangeKind::Direct)
    };
    topology.declare_exchange(alternate).unwrap();
    assert!(!topology.is_cacheable("c"));
}

#[test]
fn malformed_headers_are_noticed_only_where_they_are_read() {
    let mut topology = topology(&["q"], &[]);
    topology.bind("amq.fanout", &Destination::queue("q"), "", &none(), ME).unwrap();
    let malformed = Some(amqp::TableRef::new(&[9, b'x']));
    let mut out = Vec::new();
    topology.route("amq.fanout", "".into(), &[], malformed, &mut out).unwrap();
    assert_eq!(out.len(), 1);
    let error = topology.route("amq.headers", "".into(), &[], malformed, &mut out).unwrap_err();
    assert_eq!(error.reply_code(), ReplyCode::SyntaxError);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_binding_is_durable_if_both_ends_are() {
    let mut topology = topology(&["q"], &[("e", ExchangeKind::Direct)]);
    let transient = QueueDeclaration { durable: false, ..queue("t") };
    topology.declare_queue(transient).unwrap();
    let volatile = ExchangeDeclaration { durable: false, ..exchange("v", ExchangeKind::Direct) };
    topology.declare_exchange(volatile).unwrap();
    let cases = [("e", "q", true), ("e", "t", false), ("v", "q", false), ("v", "t", false)];
    for (source, name, durable) in cases {
        let destination = Destination::queue(name);
        let bound = topology.bind(source, &destination, "k", &none(), ME).unwrap();
        assert_eq!(bound.into_inner().is_durable(), durable, "{source} to {name}");
    }
}

#[test]
fn what_is_restored_is_what_was() {
    let mut before = topology(&["q"], &[("e", ExchangeKind::Topic), ("f", ExchangeKind::Headers)]);
    before.bind("e", &Destination::queue("q"), "a.*", &none(), ME).unwrap();
    before.bind("e", &Destination::exchange("f"), "#", &none(), ME).unwrap();
    let arguments = table([("h", FieldValue::Void)]);
    before.bind("f", &Destination::queue("q"), "", &arguments, ME).unwrap();
    let mut after = Topology::new("/");
    for exchange in before.exchanges().filter(|exchange| !exchange.is_predeclared()) {
        after.restore_exchange(exchange.clone()).unwrap();
        let taken = after.restore_exchange(exchange.clone()).unwrap_err();
        assert_eq!(taken.reply_code(), ReplyCode::PreconditionFailed);
    }
    for queue in before.queues() {
        after.restore_queue(queue.clone()).unwrap();
        let taken = after.restore_queue(queue.clone()).unwrap_err();
        assert_eq!(taken.reply_code(), ReplyCode::PreconditionFailed);
    }
    for binding in before.bindings() {
        after.restore_binding(binding.clone()).unwrap();
        after.restore_binding(binding.clone()).unwrap();
    }
    assert_eq!(after.bindings().collect::<Vec<_>>(), before.bindings().collect::<Vec<_>>());
    assert_eq!(after.queues().collect::<Vec<_>>(), before.queues().collect::<Vec<_>>());
    assert_eq!(routed(&after, "e", "a.b"), ["q"]);
    let lost =
        BindingDefinition { source: "gone".into(), ..before.bindings().next().unwrap().clone() };
    refused(after.restore_binding(lost), ReplyCode::NotFound, "no exchange 'gone' in vhost '/'");
}

#[test]
fn nothing_is_passed_on_to_where_only_the_broker_speaks() {
    let mut topology = topology(&[], &[]);
    for of_broker in ["amq.wilco.outcomes", "amq.wilco.report"] {
        let text = format!("only the broker passes messages on to exchange '{of_broker}'");
        let to = Destination::exchange(of_broker);
        let bound = topology.bind("amq.topic", &to, "#", &none(), ME).map(drop);
        refused(bound, ReplyCode::AccessRefused, &text);
        let alternate = ExchangeDeclaration {
            arguments: table([("alternate-exchange", of_broker.into())]),
            ..exchange("e", ExchangeKind::Direct)
        };
        let declared = topology.declare_exchange(alternate).map(drop);
        refused(declared, ReplyCode::AccessRefused, &text);
        let dead_letters = QueueDeclaration {
            arguments: table([("x-dead-letter-exchange", of_broker.into())]),
            ..queue("q")
        };
        let declared = topology.declare_queue(dead_letters).map(drop);
        refused(declared, ReplyCode::AccessRefused, &text);
    }
}

#[test]
fn what_was_allowed_once_passes_nothing_on_to_where_only_the_broker_speaks() {
    let mut topology = topology(&["watch"], &[]);
    let arguments = table([("alternate-exchange", "amq.wilco.outcomes".into())]);
    let old = ExchangeDefinition::new("old", ExchangeKind::Fanout, arguments);
    topology.restore_exchange(old).unwrap();
    let watch = Destination::queue("watch");
    topology.bind("amq.wilco.outcomes", &watch, "#", &none(), ME).unwrap();
    assert_eq!(routed(&topology, "old", "k"), [""; 0]);
    assert_eq!(routed(&topology, "amq.wilco.outcomes", "k"), ["watch"]);
}
