//! A node without threads on a disk that can crash, and a client for it: shared by the
//! deterministic tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amqp::{FieldTable, FieldValue, OwnedProperties};
use node::clock::Clock;
use node::{
    Consume, DeclareQueue, Delivered, Node, Options, Publish, Session, Settlement, Sink,
    StoreOptions,
};
use segment_log::FaultyDisk;

/// A clock that a test sets.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A node with its disk and clock.
pub(crate) struct Rig {
    pub disk: FaultyDisk,
    pub clock: Arc<TestClock>,
    pub options: Options,
    pub node: Arc<Node>,
}

impl Rig {
    /// With segments of this size, and no bodies in memory, so that everything is read back from
    /// the log.
    pub(crate) fn new(segment_bytes_max: u64) -> Self {
        let clock = Arc::new(TestClock::default());
        clock.0.store(1_000_000, Ordering::Relaxed);
        let store = StoreOptions {
            segment_bytes_max,
            body_cache_bytes: 0,
            disk_free_bytes_min: 0,
            relaxed: false,
            ..StoreOptions::default()
        };
        let options = Options { store, clock: clock.clone(), ..Options::default() };
        let disk = FaultyDisk::new(7);
        let node = Node::open_on(disk.clone(), options.clone()).expect("an empty disk");
        node.commit().expect("a disk that works");
        Self { disk, clock, options, node }
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Makes everything durable.
    pub(crate) fn commit(&self) {
        assert!(self.node.commit().expect("a disk that works"), "a disk with room");
    }

    /// Rounds of maintenance, each made durable.
    pub(crate) fn maintain(&self, rounds: usize) {
        for _ in 0..rounds {
            self.node.maintain();
            self.commit();
        }
    }

    /// Switches the power off and on.
    pub(crate) fn crash(&mut self) {
        self.disk.crash();
        self.node = Node::open_on(self.disk.clone(), self.options.clone()).expect("a good disk");
    }

    pub(crate) fn client(&self) -> Client {
        let wire = Box::new(Inbox::default());
        let mut session = self.node.open_session("/", "guest", wire).expect("guest may");
        session.open_channel(1).expect("a new channel");
        Client { session }
    }
}

/// A message that came out of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub body: String,
    pub tag: u64,
    pub channel: u16,
    pub redelivered: bool,
    /// `x-delivery-count`.
    pub delivery_count: Option<i64>,
}

/// The client's end of the connection.
#[derive(Default)]
pub(crate) struct Inbox {
    got: VecDeque<Got>,
}

impl Inbox {
    fn push(&mut self, channel: u16, tag: u64, redelivered: bool, properties: &[u8], body: &[u8]) {
        let headers = OwnedProperties::decode(properties).expect("well-formed").headers;
        let delivery_count = headers.and_then(|headers| headers.get("x-delivery-count")?.as_i64());
        let body = String::from_utf8_lossy(body).into_owned();
        self.got.push_back(Got { body, tag, channel, redelivered, delivery_count });
    }
}

impl Sink for Inbox {
    fn got(&mut self, channel: u16, got: &node::Got<'_>) {
        let node::Got { delivery_tag, redelivered, properties, message, .. } = *got;
        self.push(channel, delivery_tag, redelivered, properties, message.body());
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        let Delivered { channel, delivery_tag, redelivered, properties, message, .. } = *delivered;
        self.push(channel, delivery_tag, redelivered, properties, message.body());
    }
}

/// A connection with channel 1.
pub(crate) struct Client {
    pub session: Session,
}

impl Client {
    /// Declares a durable queue.
    pub(crate) fn declare(&mut self, name: &str, arguments: &[(&str, FieldValue)]) {
        let mut table = FieldTable::new();
        arguments.iter().for_each(|(name, value)| table.insert(*name, value.clone()));
        let options = DeclareQueue { durable: true, arguments: table, ..DeclareQueue::default() };
        self.session.declare_queue(name, &options).expect("a good declaration");
    }

    /// Publishes persistent messages with these bodies.
    pub(crate) fn publish(&mut self, exchange: &str, key: &str, bodies: &[&str]) {
        self.publish_on(1, exchange, key, bodies);
    }

    pub(crate) fn publish_on(&mut self, channel: u16, exchange: &str, key: &str, bodies: &[&str]) {
        let mut properties = Vec::new();
        OwnedProperties { delivery_mode: Some(2), ..OwnedProperties::default() }
            .encode(&mut properties);
        for body in bodies {
            let publish = Publish {
                exchange,
                routing_key: key.into(),
                mandatory: false,
                properties: &properties,
                body: body.as_bytes(),
            };
            self.session.publish(channel, &publish).expect("may be published");
        }
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        let errors = self.session.flush();
        assert!(errors.is_empty(), "{errors:?}");
    }

    pub(crate) fn get(&mut self, queue: &str) -> Option<Got> {
        self.session.get(1, queue, false).expect("the queue is there");
        self.take().pop()
    }

    /// The bodies in a queue; the messages go back into it.
    pub(crate) fn bodies(&mut self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(got) = self.get(queue) {
            bodies.push(got.body);
        }
        self.session.recover(1).expect("open");
        bodies
    }

    pub(crate) fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        let options = Consume { tag, no_ack, ..Consume::default() };
        self.session.consume(channel, queue, &options).expect("the queue is there");
    }

    pub(crate) fn settle(&mut self, got: &Got, settlement: Settlement) {
        self.session.settle(got.channel, got.tag, false, settlement).expect("open");
        self.flush();
    }

    pub(crate) fn ack(&mut self, got: &Got) {
        self.settle(got, Settlement::Ack);
    }

    /// What has arrived.
    pub(crate) fn take(&mut self) -> Vec<Got> {
        let taken = self.session.outbox().with_sink(|inbox: &mut Inbox, pushed| {
            (std::mem::take(&mut inbox.got), std::mem::take(pushed))
        });
        let (got, pushed_bytes) = taken.expect("the wire is an inbox");
        self.session.after_write(pushed_bytes);
        got.into()
    }
}

/// `prefix-0`, `prefix-1`, ... with something appended to make them long.
pub(crate) fn bodies(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number:-<80}")).collect()
}
