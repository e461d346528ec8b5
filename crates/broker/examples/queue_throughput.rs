//! What a message costs in the queue alone: publish, assign, dispatch, settle; without log, network
//! or locks.
//!
//! ```sh
//! cargo run --release -p wilco-broker --example queue_throughput [messages [part of a name]]
//! ```

// An example tells its user what it found.
#![allow(clippy::print_stdout)]
// The broker must not ask for the time, but a benchmark has to. `expect`, not `allow`, also proves
// that clippy finds such calls.
#![expect(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use amqp::Properties;
use broker::queue::{
    ConsumerSettings, Delivery, Effects, Endpoint, Incoming, Outgoing, Queue, Settings, Settlement,
};
use broker::{Message, QueueId};

/// Messages between two reads of the socket.
const BATCH: usize = 256;
const ROUNDS: usize = 25;

/// A consumer that always has room.
#[derive(Clone)]
struct Nowhere;

impl Endpoint for Nowhere {
    fn reserve(&self, _body_bytes: u32) -> bool {
        true
    }
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let ack = ConsumerSettings { prefetch: 1000, ..ConsumerSettings::default() };
    let no_ack = ConsumerSettings { no_ack: true, ..ConsumerSettings::default() };
    let plain = Settings::default;
    let wanted = std::env::args().nth(2).unwrap_or_default();
    if "messages".contains(&wanted) {
        let build = best(|| build(count));
        println!("messages, built and dropped: {build} ns");
    }
    for (name, settings, consumers) in [
        ("ack, one consumer", plain(), vec![ack]),
        ("ack, ten consumers", plain(), vec![ack; 10]),
        ("no ack, one consumer", plain(), vec![no_ack]),
        (
            "ack, message time to live",
            Settings { message_ttl_ms: Some(60_000), ..plain() },
            vec![ack],
        ),
        ("ack, 10 priorities", Settings { priority_max: 10, ..plain() }, vec![ack]),
        ("ack, 255 priorities", Settings { priority_max: 255, ..plain() }, vec![ack]),
    ] {
        if !name.contains(&wanted) {
            continue;
        }
        let flow = best(|| flow(count, &settings, &consumers));
        println!("{name}: {flow} ns");
    }
    if "backlog".contains(&wanted) {
        let [fill, drain] = backlog(count);
        println!("backlog of {count}: fill {fill} ns, drain {drain} ns");
    }
}

/// Nanoseconds per message of the best round.
fn best(mut round: impl FnMut() -> u64) -> u64 {
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn nanoseconds(since: Instant, count: usize) -> u64 {
    (since.elapsed().as_nanos() / count as u128) as u64
}

struct Source {
    properties: Vec<u8>,
    scratch: Vec<u8>,
}

impl Source {
    fn new() -> Self {
        let mut properties = Vec::new();
        Properties::default().encode(&mut properties);
        Self { properties, scratch: Vec::new() }
    }

    fn message(&mut self) -> Message {
        let content = ("", "q", self.properties.as_slice(), &b"sixteen bytes..."[..]);
        Message::new(0, &Properties::default(), content, &mut self.scratch)
    }
}

fn build(count: usize) -> u64 {
    let mut source = Source::new();
    let mut messages = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for _ in 0..count / BATCH {
        messages.extend((0..BATCH).map(|_| source.message()));
        black_box(&messages);
        messages.clear();
    }
    nanoseconds(start, count)
}

/// Batches come in, are delivered and settled.
fn flow(count: usize, settings: &Settings, consumers: &[ConsumerSettings]) -> u64 {
    let mut queue = Queue::new(QueueId(1), settings.clone(), 0);
    for consumer in consumers {
        queue.add_consumer(0, Nowhere, *consumer).expect("the queue is free");
    }
    let mut source = Source::new();
    let (mut effects, mut outgoing) = (Effects::default(), Outgoing::default());
    let start = Instant::now();
    for now_ms in 0..(count / BATCH) as u64 {
        for _ in 0..BATCH {
            let message = source.message();
            let incoming = Incoming { message, position: None, keep_body: true };
            queue.publish(now_ms, incoming, &mut effects);
        }
        dispatch(&mut queue, now_ms, &mut outgoing, &mut effects);
    }
    assert_eq!(queue.depth().ready_count, 0);
    nanoseconds(start, count)
}

fn backlog(count: usize) -> [u64; 2] {
    let mut queue = Queue::new(QueueId(1), Settings::default(), 0);
    let mut source = Source::new();
    let (mut effects, mut outgoing) = (Effects::default(), Outgoing::default());
    let start = Instant::now();
    for _ in 0..count {
        let message = source.message();
        let incoming = Incoming { message, position: None, keep_body: true };
        queue.publish(0, incoming, &mut effects);
    }
    let fill = nanoseconds(start, count);
    let consumer = ConsumerSettings { prefetch: 1000, ..ConsumerSettings::default() };
    queue.add_consumer(0, Nowhere, consumer).expect("the queue is free");
    let start = Instant::now();
    while queue.depth().ready_count > 0 {
        dispatch(&mut queue, 0, &mut outgoing, &mut effects);
    }
    [fill, nanoseconds(start, count)]
}

/// Dispatches what is ready and settles it, like a consumer that acks at once.
fn dispatch(
    queue: &mut Queue<Nowhere>,
    now_ms: u64,
    outgoing: &mut Outgoing<Nowhere>,
    effects: &mut Effects,
) {
    let mut settled = Vec::with_capacity(BATCH);
    queue.assign(now_ms, effects);
    if !queue.begin_dispatch() {
        return;
    }
    while queue.take_outgoing(outgoing) {
        for delivery in outgoing.deliveries.drain(..) {
            let Delivery { id, consumer, .. } = delivery;
            black_box(&delivery.message);
            settled.push((id, consumer));
        }
        outgoing.clear();
        for (id, consumer) in settled.drain(..) {
            queue.settle(now_ms, id, consumer, Settlement::Ack, effects);
        }
        queue.assign(now_ms, effects);
    }
    effects.removed.clear();
}
