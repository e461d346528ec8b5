//! Shared resources are handed out in turn: the room of a connection, a prefetch, a queue, the
//! disk.
//!
//! A backlog in one place must not make a client elsewhere wait for its end. Shares are counted,
//! never timed, except for a confirm that has to come within a second.

mod lonely;

use end_to_end::{
    Broker, broker,
    raw::{Args, Event, Frame, Raw, publish_with},
    shared, unique,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Fills a queue with transient messages and waits until all of them are in it.
fn fill(broker: &Broker, queue: &str, count: usize, body: &[u8]) {
    let mut raw = broker.raw();
    raw.declare(1, queue);
    raw.confirm_select(1);
    let message = publish_with(1, "", queue, body, &Args::new().u16(0));
    let mut left = count;
    let mut published = 0;
    while left > 0 {
        let batch = left.min(1000);
        raw.send(&message.repeat(batch));
        left -= batch;
        published += batch as u64;
        // One confirm may cover many.
        while raw.expect(60, 80).fields().u64() < published {}
    }
}

fn consume(channel: u16, queue: &str, tag: &str, no_ack: bool) -> Vec<u8> {
    let arguments = Args::new().u16(0).short(queue).short(tag).u8(u8::from(no_ack) << 1);
    Frame::method(channel, 60, 20, &arguments.table(&Args::new()))
}

fn qos(raw: &mut Raw, channel: u16, count: u16, global: bool) {
    raw.method(channel, 60, 10, &Args::new().u32(0).u16(count).u8(global.into()));
    raw.expect(60, 11);
}

fn cancel_and_delete(broker: &Broker, queues: &[String]) {
    let mut raw = broker.raw();
    for queue in queues {
        raw.method(1, 50, 40, &Args::new().u16(0).short(queue).u8(0));
        raw.expect(50, 41);
    }
}

/// The consumer tag and delivery tag of the next delivery, whose body is read as well.
fn delivery(raw: &mut Raw) -> (String, u64) {
    loop {
        let frame = raw.next_frame().expect("a frame");
        if frame.is(60, 60) {
            let mut fields = frame.fields();
            let tags = (fields.short(), fields.u64());
            raw.content();
            return tags;
        }
        assert!(frame.is(60, 21), "{frame:?}");
    }
}

/// A global prefetch over queues with this many messages each: after `deliveries`, each queue must
/// have had `at_least` that many, or all it has.
struct Shares {
    prefetch: u16,
    messages: &'static [u64],
    deliveries: u64,
    at_least: u64,
}

const SHARES: [Shares; 4] = [
    Shares { prefetch: 1, messages: &[40, 40, 40], deliveries: 60, at_least: 15 },
    Shares { prefetch: 10, messages: &[100, 100, 100, 100], deliveries: 200, at_least: 30 },
    Shares { prefetch: 1, messages: &[10, 50, 200], deliveries: 100, at_least: 30 },
    Shares { prefetch: 10, messages: &[300, 20, 60, 60], deliveries: 180, at_least: 35 },
];

#[test]
fn global_prefetch_is_shared_by_all_queues_with_messages() {
    let broker = shared();
    for Shares { prefetch, messages, deliveries, at_least } in SHARES {
        let queues: Vec<_> = messages.iter().map(|_| unique("shared")).collect();
        for (queue, count) in queues.iter().zip(messages) {
            fill(&broker, queue, *count as usize, b"m");
        }
        let mut raw = broker.raw();
        qos(&mut raw, 1, prefetch, true);
        let consumers = queues.iter().flat_map(|queue| consume(1, queue, queue, false));
        raw.send(&consumers.collect::<Vec<_>>());
        let mut shares: BTreeMap<_, _> = queues.iter().map(|queue| (queue.clone(), 0)).collect();
        for _ in 0..deliveries {
            let (queue, tag) = delivery(&mut raw);
            *shares.entry(queue).or_default() += 1;
            raw.ack(1, tag, false);
        }
        let shares: Vec<u64> = queues.iter().map(|queue| shares[queue]).collect();
        // RabbitMQ chooses at random.
        let at_least = if broker::is_external() { at_least / 2 } else { at_least };
        let is_fair = shares.iter().zip(messages).all(|(had, count)| *had >= at_least.min(*count));
        assert!(is_fair, "prefetch {prefetch}: {shares:?} of {messages:?}, {at_least} each");
        drop(raw);
        cancel_and_delete(&broker, &queues);
    }
}

#[test]
fn connections_on_one_queue_get_fair_shares_of_its_backlog() {
    const CONNECTIONS: u64 = 8;
    const MESSAGES: u64 = 8_000;
    // Near the end there is not enough for everybody.
    const COUNTED: u64 = 7_000;
    let broker = shared();
    let queue = unique("one");
    fill(&broker, &queue, MESSAGES as usize, b"m");
    // All are connected before the first one acknowledges.
    let connect = |_| {
        let mut raw = broker.raw();
        qos(&mut raw, 1, 10, false);
        raw.send(&consume(1, &queue, "c", false));
        raw.expect(60, 21);
        raw
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    let total = AtomicU64::new(0);
    let work = |mut raw: Raw| {
        let mut had = 0;
        // What one consumer holds keeps nobody from getting the rest.
        while total.fetch_add(1, Ordering::Relaxed) < COUNTED {
            let (_, tag) = delivery(&mut raw);
            raw.ack(1, tag, false);
            had += 1;
            // All are equally fast, whatever the scheduler does to their threads.
            std::thread::sleep(Duration::from_millis(1));
        }
        had
    };
    let shares: Vec<u64> = std::thread::scope(|scope| {
        let work = &work;
        let workers = connections.into_iter().map(|raw| scope.spawn(move || work(raw)));
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect()
    });
    let fair = COUNTED / CONNECTIONS;
    assert!(shares.iter().all(|had| *had >= fair / 4), "{shares:?}, {fair} would be fair");
    cancel_and_delete(&broker, &[queue]);
}

/// Stops the busy clients, even after a failure.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn confirm_of_a_quiet_publisher_does_not_wait_for_busy_ones() {
    const PUBLISHERS: usize = 3;
    let broker = shared();
    let queue = unique("busy");
    broker.raw().declare(1, &queue);
    let is_over = AtomicBool::new(false);
    let publish_busily = || {
        let mut raw = broker.raw();
        raw.confirm_select(1);
        let message = end_to_end::raw::publish(1, "", &queue, &[b'x'; 1024]);
        let mut published = 0;
        while !is_over.load(Ordering::Relaxed) {
            raw.send(&message.repeat(100));
            published += 100;
            while raw.expect(60, 80).fields().u64() < published {}
        }
    };
    let consume_busily = || {
        let mut raw = broker.raw();
        qos(&mut raw, 1, 200, false);
        raw.send(&consume(1, &queue, "c", false));
        while !is_over.load(Ordering::Relaxed) {
            match raw.read(Duration::from_millis(100)) {
                Event::Frame(frame) if frame.is(60, 60) => {
                    let mut fields = frame.fields();
                    fields.short();
                    raw.ack(1, fields.u64(), false);
                }
                Event::Closed => panic!("the consumer's connection is closed"),
                _ => {}
            }
        }
    };
    let waits: Vec<Duration> = std::thread::scope(|scope| {
        let end = End(&is_over);
        (0..PUBLISHERS).for_each(|_| drop(scope.spawn(publish_busily)));
        scope.spawn(consume_busily);
        let mut raw = broker.raw();
        raw.confirm_select(1);
        let waits = (0..20).map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            raw.publish_confirmed(1, &queue, b"now and then");
            start.elapsed()
        });
        let waits = waits.collect();
        drop(end);
        waits
    });
    let longest = waits.iter().max().expect("a wait");
    assert!(*longest < Duration::from_secs(1), "{waits:?}");
    cancel_and_delete(&broker, &[queue]);
}
