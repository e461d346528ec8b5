//! Ten thousand queues: the structures stay correct when sets get indexes, and nothing scans.

use amqp::FieldTable;
use broker::QueueId;
use broker::exchange::ExchangeKind;
use broker::topology::{Destination, ExchangeDeclaration, QueueDeclaration, Topology};

const COUNT: u32 = 10_000;
const CONNECTION: u64 = 1;

fn name(number: u32) -> String {
    format!("queue-{number}")
}

#[test]
fn ten_thousand_queues_are_bound_routed_to_and_deleted() {
    let mut topology = Topology::new("/");
    let declaration = ExchangeDeclaration {
        name: "gone-last",
        kind: ExchangeKind::Fanout,
        durable: true,
        auto_delete: true,
        internal: false,
        arguments: FieldTable::new(),
    };
    topology.declare_exchange(declaration).unwrap();
    let none = FieldTable::new();
    for number in 0..COUNT {
        let name = name(number);
        let declaration = QueueDeclaration {
            id: QueueId(number),
            name: &name,
            server_named: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            connection: CONNECTION,
        };
        topology.declare_queue(declaration).unwrap();
        let to = Destination::queue(&name);
        topology.bind("amq.direct", &to, &name, &none, CONNECTION).unwrap();
        topology.bind("amq.topic", &to, "#.common", &none, CONNECTION).unwrap();
        topology.bind("gone-last", &to, "", &none, CONNECTION).unwrap();
    }
    let route = |topology: &Topology, exchange: &str, key: &str| {
        let mut out = Vec::new();
        topology.route(exchange, key.into(), &[], None, &mut out).unwrap();
        out.sort();
        out
    };
    let all: Vec<QueueId> = (0..COUNT).map(QueueId).collect();
    assert_eq!(route(&topology, "gone-last", "x"), all);
    assert_eq!(route(&topology, "amq.topic", "very.common"), all);
    assert_eq!(route(&topology, "amq.direct", "queue-77"), [QueueId(77)]);
    // From the front, so that every removal moves another target.
    for number in 0..COUNT - 1 {
        let removed = topology.delete_queue(&name(number)).unwrap();
        assert_eq!(removed.removal.bindings.len(), 3);
        assert!(removed.removal.exchanges.is_empty());
    }
    assert_eq!(route(&topology, "gone-last", "x"), [QueueId(COUNT - 1)]);
    let removed = topology.delete_queue(&name(COUNT - 1)).unwrap();
    assert_eq!(removed.removal.exchanges.len(), 1);
    assert!(route(&topology, "amq.topic", "common").is_empty());
}
