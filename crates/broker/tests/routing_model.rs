//! Random topologies, changed and routed over, against a model that scans a list of bindings.

use std::collections::BTreeSet;

use amqp::{BStr, FieldTable, FieldValue, TableRef};
use broker::QueueId;
use broker::exchange::ExchangeKind;
use broker::topology::{Destination, ExchangeDeclaration, QueueDeclaration, Topology};
use proptest::prelude::*;

const CONNECTION: u64 = 1;
const KINDS: [ExchangeKind; 4] =
    [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers];
const KEYS: [&str; 7] = ["", "a", "b", "a.b", "*", "#", "a.#"];
const QUEUES: u8 = 5;
const EXCHANGES: u8 = 6;

#[derive(Debug, Clone)]
enum Command {
    DeclareQueue(u8),
    DeleteQueue(u8),
    DeclareExchange {
        number: u8,
        kind: usize,
        auto_delete: bool,
        alternate: Option<u8>,
    },
    DeleteExchange {
        number: u8,
        if_unused: bool,
    },
    Bind(Link),
    Unbind(Link),
    /// Removes an existing binding, counted from the first.
    UnbindExisting(usize),
}

#[derive(Debug, Clone, PartialEq)]
struct Link {
    source: u8,
    to_queue: bool,
    destination: u8,
    key: usize,
    /// The value of the header `h` that a headers exchange asks for.
    header: Option<u8>,
}

impl Link {
    fn destination(&self) -> Destination {
        match self.to_queue {
            true => Destination::queue(&queue(self.destination)),
            false => Destination::exchange(&exchange(self.destination)),
        }
    }
}

fn queue(number: u8) -> String {
    format!("q{}", number % QUEUES)
}

fn exchange(number: u8) -> String {
    format!("e{}", number % EXCHANGES)
}

fn headers(header: Option<u8>) -> FieldTable {
    header.map(|value| ("h", FieldValue::from(value))).into_iter().collect()
}

#[derive(Debug, Clone)]
struct ModelExchange {
    name: String,
    kind: ExchangeKind,
    auto_delete: bool,
    alternate: Option<String>,
}

/// The rules of AMQP and RabbitMQ over plain lists.
#[derive(Debug, Default)]
struct Model {
    queues: Vec<(String, QueueId)>,
    exchanges: Vec<ModelExchange>,
    bindings: Vec<Link>,
}

impl Model {
    fn has_queue(&self, name: &str) -> bool {
        self.queues.iter().any(|(queue, _)| queue == name)
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.exchanges.iter().any(|exchange| exchange.name == name)
    }

    fn has_ends(&self, link: &Link) -> bool {
        self.has_exchange(&exchange(link.source))
            && match link.destination() {
                Destination::Queue(name) => self.has_queue(&name),
                Destination::Exchange(name) => self.has_exchange(&name),
            }
    }

    /// Removes the bindings that `gone` selects, and whatever must be deleted then.
    fn remove_bindings(&mut self, gone: impl Fn(&Link) -> bool) {
        let sources: BTreeSet<String> =
            self.bindings.iter().filter(|link| gone(link)).map(|l| exchange(l.source)).collect();
        self.bindings.retain(|link| !gone(link));
        for source in sources {
            let unused = !self.bindings.iter().any(|link| exchange(link.source) == source);
            let goes = self.exchanges.iter().any(|e| e.name == source && e.auto_delete);
            if unused && goes {
                self.delete_exchange(&source);
            }
        }
    }

    fn delete_exchange(&mut self, name: &str) {
        self.exchanges.retain(|exchange| exchange.name != name);
        self.bindings.retain(|link| exchange(link.source) != name);
        let destination = Destination::exchange(name);
        self.remove_bindings(|link| link.destination() == destination);
    }

    /// Whether a headers exchange can be reached through bindings and alternate exchanges.
    fn reaches_headers(&self, start: &str) -> bool {
        let mut seen = vec![start.to_owned()];
        let mut at = 0;
        while at < seen.len() {
            let name = seen[at].clone();
            at += 1;
            let links = self.bindings.iter().filter(|link| exchange(link.source) == name);
            let bound = links.filter(|link| !link.to_queue).map(|link| exchange(link.destination));
            let alternate = self.exchanges.iter().filter(|e| e.name == name);
            let alternate = alternate.filter_map(|e| e.alternate.clone());
            for next in bound.chain(alternate) {
                if !seen.contains(&next) {
                    seen.push(next);
                }
            }
        }
        let headers = |e: &&ModelExchange| e.kind == ExchangeKind::Headers;
        self.exchanges.iter().filter(headers).any(|e| seen.contains(&e.name))
    }

    fn route(&self, start: &str, keys: &[&str], header: Option<u8>) -> BTreeSet<QueueId> {
        let mut found = BTreeSet::new();
        let mut seen = vec![start.to_owned()];
        let mut at = 0;
        while at < seen.len() {
            let name = seen[at].clone();
            at += 1;
            let Some(source) = self.exchanges.iter().find(|exchange| exchange.name == name) else {
                continue;
            };
            let taken: Vec<&Link> = self
                .bindings
                .iter()
                .filter(|link| exchange(link.source) == name && takes(source, link, keys, header))
                .collect();
            for link in &taken {
                match link.destination() {
                    Destination::Queue(name) => {
                        found.extend(self.queues.iter().filter(|q| q.0 == *name).map(|q| q.1));
                    }
                    Destination::Exchange(name) => {
                        if !seen.contains(&name.to_string()) {
                            seen.push(name.to_string());
                        }
                    }
                }
            }
            match &source.alternate {
                Some(alternate) if taken.is_empty() && !seen.contains(alternate) => {
                    seen.push(alternate.clone());
                }
                _ => {}
            }
        }
        found
    }
}

fn takes(source: &ModelExchange, link: &Link, keys: &[&str], header: Option<u8>) -> bool {
    let pattern = KEYS[link.key];
    match source.kind {
        ExchangeKind::Direct => keys.contains(&pattern),
        ExchangeKind::Fanout => true,
        ExchangeKind::Topic => keys.iter().any(|key| matches(&words(pattern), &words(key))),
        ExchangeKind::Headers => link.header.is_none() || link.header == header,
    }
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            matches(rest, key) || matches!(key, [_, key @ ..] if matches(pattern, key))
        }
        ([word, rest @ ..], [first, key @ ..]) => {
            (*word == "*" || word == first) && matches(rest, key)
        }
        _ => false,
    }
}

fn apply(command: &Command, topology: &mut Topology, model: &mut Model, next_id: &mut u32) {
    match command {
        Command::DeclareQueue(number) => {
            *next_id += 1;
            let name = queue(*number);
            let declared = topology.declare_queue(QueueDeclaration {
                id: QueueId(*next_id),
                name: &name,
                server_named: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: FieldTable::new(),
                connection: CONNECTION,
            });
            assert_eq!(
                declared.expect("a sound declaration").is_created(),
                !model.has_queue(&name)
            );
            if !model.has_queue(&name) {
                model.queues.push((name, QueueId(*next_id)));
            }
        }
        Command::DeleteQueue(number) => {
            let name = queue(*number);
            let removed = topology.delete_queue(&name);
            assert_eq!(removed.is_some(), model.has_queue(&name));
            model.queues.retain(|(queue, _)| *queue != name);
            let destination = Destination::queue(&name);
            model.remove_bindings(|link| link.destination() == destination);
        }
        Command::DeclareExchange { number, kind, auto_delete, alternate } => {
            let name = exchange(*number);
            let alternate = alternate.map(exchange);
            let arguments = alternate
                .iter()
                .map(|name| ("alternate-exchange", FieldValue::from(name.as_str())))
                .collect();
            let declared = topology.declare_exchange(ExchangeDeclaration {
                name: &name,
                kind: KINDS[*kind],
                durable: true,
                auto_delete: *auto_delete,
                internal: false,
                arguments,
            });
            if !model.has_exchange(&name) {
                assert!(declared.expect("a sound declaration").is_created());
                let kind = KINDS[*kind];
                let auto_delete = *auto_delete;
                model.exchanges.push(ModelExchange { name, kind, auto_delete, alternate });
            }
        }
        Command::DeleteExchange { number, if_unused } => {
            let name = exchange(*number);
            let in_use = model.bindings.iter().any(|link| exchange(link.source) == name);
            let deleted = topology.delete_exchange(&name, *if_unused);
            assert_eq!(deleted.is_err(), *if_unused && in_use);
            if deleted.is_ok() {
                model.delete_exchange(&name);
            }
        }
        Command::Bind(link) => {
            let source = exchange(link.source);
            let arguments = headers(link.header);
            let bound =
                topology.bind(&source, &link.destination(), KEYS[link.key], &arguments, CONNECTION);
            assert_eq!(bound.is_ok(), model.has_ends(link));
            if model.has_ends(link) {
                let is_new = !model.bindings.iter().any(|other| same(other, link));
                assert_eq!(bound.expect("both ends are there").is_created(), is_new);
                if is_new {
                    model.bindings.push(link.clone());
                }
            }
        }
        Command::UnbindExisting(at) => {
            if !model.bindings.is_empty() {
                let link = model.bindings[at % model.bindings.len()].clone();
                apply(&Command::Unbind(link), topology, model, next_id);
            }
        }
        Command::Unbind(link) => {
            let source = exchange(link.source);
            let arguments = headers(link.header);
            let removal = topology.unbind(
                &source,
                &link.destination(),
                KEYS[link.key],
                &arguments,
                CONNECTION,
            );
            let was_there = model.bindings.iter().any(|other| same(other, link));
            assert_eq!(!removal.expect("unbinding is always allowed").is_empty(), was_there);
            model.remove_bindings(|other| same(other, link));
        }
    }
}

fn same(left: &Link, right: &Link) -> bool {
    exchange(left.source) == exchange(right.source)
        && left.destination() == right.destination()
        && left.key == right.key
        && left.header == right.header
}

fn check(topology: &Topology, model: &Model) {
    assert_eq!(topology.queue_count(), model.queues.len());
    assert_eq!(topology.bindings().count(), model.bindings.len());
    let declared = topology.exchanges().filter(|exchange| !exchange.is_predeclared());
    assert_eq!(declared.count(), model.exchanges.len());
    for start in &model.exchanges {
        assert_eq!(topology.is_cacheable(&start.name), !model.reaches_headers(&start.name));
        for keys in [&["a"][..], &["a.b"], &[""], &["b", "a"], &["c", "a.b.c", ""]] {
            for header in [None, Some(0), Some(1)] {
                let mut bytes = Vec::new();
                headers(header).encode_with_length(&mut bytes);
                let table = TableRef::new(&bytes[4..]);
                let mut out = Vec::new();
                let bytes: Vec<&BStr> = keys.iter().map(BStr::new).collect();
                let routed =
                    topology.route(&start.name, bytes[0], &bytes[1..], Some(table), &mut out);
                routed.expect("the exchange is there");
                let found: BTreeSet<QueueId> = out.iter().copied().collect();
                assert_eq!(found.len(), out.len(), "a queue was found twice");
                assert_eq!(found, model.route(&start.name, keys, header));
            }
        }
    }
}

fn link() -> impl Strategy<Value = Link> {
    let header = prop::option::of(0u8..2);
    (0..EXCHANGES, any::<bool>(), 0..EXCHANGES, 0..KEYS.len(), header).prop_map(
        |(source, to_queue, destination, key, header)| Link {
            source,
            to_queue,
            destination,
            key,
            header,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let declare_exchange =
        (0..EXCHANGES, 0..KINDS.len(), prop::bool::weighted(0.3), prop::option::of(0..EXCHANGES))
            .prop_map(|(number, kind, auto_delete, alternate)| Command::DeclareExchange {
                number,
                kind,
                auto_delete,
                alternate,
            });
    let delete_exchange = (0..EXCHANGES, any::<bool>())
        .prop_map(|(number, if_unused)| Command::DeleteExchange { number, if_unused });
    prop_oneof![
        3 => (0..QUEUES).prop_map(Command::DeclareQueue),
        1 => (0..QUEUES).prop_map(Command::DeleteQueue),
        4 => declare_exchange,
        1 => delete_exchange,
        12 => link().prop_map(Command::Bind),
        1 => link().prop_map(Command::Unbind),
        4 => any::<usize>().prop_map(Command::UnbindExisting),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn routing_agrees_with_the_model(commands in prop::collection::vec(command(), 1..80)) {
        let mut topology = Topology::new("/");
        let mut model = Model::default();
        let mut next_id = 0;
        for command in &commands {
            apply(command, &mut topology, &mut model, &mut next_id);
        }
        check(&topology, &model);
    }
}
