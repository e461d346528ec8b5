//! Clients that write each publish and each ack with a write of its own, as fast as they can. The
//! server reads from them at intervals, and slows publishers that leave fast consumers behind; neither
//! may lose, reorder or hold up anything.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use end_to_end::raw::{Args, Raw, publish_with};
use end_to_end::{Broker, shared, unique};

const PERSISTENT: u16 = 0x1000;

fn message(queue: &str, number: u64, persistent: bool) -> Vec<u8> {
    let properties = match persistent {
        true => Args::new().u16(PERSISTENT).u8(2),
        false => Args::new().u16(0),
    };
    publish_with(1, "", queue, &number.to_be_bytes(), &properties)
}

fn consume(raw: &mut Raw, queue: &str, prefetch: u16) {
    raw.method(1, 60, 10, &Args::new().u32(0).u16(prefetch).u8(0));
    raw.expect(60, 11);
    raw.consume(1, queue);
}

/// The number in the next message, and its tag.
fn delivery(raw: &mut Raw) -> (u64, u64) {
    let frame = raw.expect(60, 60);
    let mut fields = frame.fields();
    let (_, tag) = (fields.short(), fields.u64());
    (u64::from_be_bytes(raw.content().try_into().expect("eight bytes")), tag)
}

fn depth(raw: &mut Raw, queue: &str) -> u64 {
    raw.method(1, 50, 10, &Args::new().u16(0).short(queue).u8(1).table(&Args::new()));
    let frame = raw.expect(50, 11);
    let mut fields = frame.fields();
    fields.short();
    fields.u32().into()
}

/// Writes messages with these numbers, one write each.
fn stream(
    mut writer: TcpStream,
    queue: &str,
    numbers: impl Iterator<Item = u64>,
    persistent: bool,
) {
    writer.set_nodelay(true).expect("open");
    for number in numbers {
        writer.write_all(&message(queue, number, persistent)).expect("it reads");
    }
}

fn wait_for_confirms(raw: &mut Raw, last: u64) {
    while raw.expect(60, 80).fields().u64() < last {}
}

fn delete(broker: &Broker, queue: &str) {
    let mut raw = broker.raw();
    raw.method(1, 50, 40, &Args::new().u16(0).short(queue).u8(0));
    raw.expect(50, 41);
}

#[test]
fn what_is_streamed_is_confirmed_delivered_in_order_and_settled() {
    const COUNT: u64 = 20_000;
    let broker = shared();
    for prefetch in [1, 3, 200] {
        let queue = unique("streamed");
        let (mut publisher, mut consumer) = (broker.raw(), broker.raw());
        publisher.declare(1, &queue);
        publisher.confirm_select(1);
        consume(&mut consumer, &queue, prefetch);
        std::thread::scope(|scope| {
            let writer = publisher.writer();
            scope.spawn(|| stream(writer, &queue, 1..=COUNT, true));
            scope.spawn(|| wait_for_confirms(&mut publisher, COUNT));
            for number in 1..=COUNT {
                assert_eq!(delivery(&mut consumer), (number, number), "prefetch {prefetch}");
                consumer.ack(1, number, false);
            }
        });
        // After a stream, a question is answered, and everything before it is done.
        consumer.method(1, 60, 10, &Args::new().u32(0).u16(1).u8(0));
        consumer.expect(60, 11);
        assert_eq!(depth(&mut publisher, &queue), 0);
        drop(consumer);
        assert_eq!(depth(&mut publisher, &queue), 0, "nothing came back");
        delete(&broker, &queue);
    }
}

/// A stream may end anywhere: in the middle of a frame that is completed later, with a question, or
/// with the connection.
#[test]
fn a_stream_that_stops_is_answered_and_its_end_is_noticed() {
    let broker = shared();
    let queue = unique("stopped");
    let mut publisher = broker.raw();
    publisher.declare(1, &queue);
    publisher.confirm_select(1);
    let mut total = 0;
    for length in [1, 5, 100, 3000, 7, 2000] {
        stream(publisher.writer(), &queue, total + 1..=total + length, false);
        total += length + 1;
        let last = message(&queue, total, false);
        let (begin, end) = last.split_at(last.len() / 2);
        publisher.send(begin);
        std::thread::sleep(std::time::Duration::from_millis(3));
        publisher.send(end);
        wait_for_confirms(&mut publisher, total);
    }
    assert_eq!(depth(&mut publisher, &queue), total);
    // What was written before the end counts, and what is unsettled comes back.
    let mut consumer = broker.raw();
    consume(&mut consumer, &queue, 0);
    for number in 1..=total {
        assert_eq!(delivery(&mut consumer).0, number);
        if number % 2 == 0 {
            consumer.ack(1, number, false);
        }
    }
    drop(consumer);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while depth(&mut publisher, &queue) != total - total / 2 {
        assert!(std::time::Instant::now() < patience, "{}", depth(&mut publisher, &queue));
    }
    delete(&broker, &queue);
}

/// A publisher at full speed does not leave a consumer behind that does nothing but ack.
#[test]
fn a_queue_that_can_be_drained_stays_short() {
    const COUNT: u64 = 100_000;
    let broker = shared();
    let queue = unique("drained");
    let (mut publisher, mut consumer, mut watcher) = (broker.raw(), broker.raw(), broker.raw());
    publisher.declare(1, &queue);
    consume(&mut consumer, &queue, 20);
    let is_over = AtomicBool::new(false);
    let longest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Many messages a write: nothing but the server slows it.
            let many: Vec<u8> = (0..1000).flat_map(|n| message(&queue, n, false)).collect();
            (0..COUNT / 1000).for_each(|_| publisher.send(&many));
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                longest.fetch_max(depth(&mut watcher, &queue), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        for number in 0..COUNT {
            assert_eq!(delivery(&mut consumer), (number % 1000, number + 1));
            consumer.ack(1, number + 1, false);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // Until it is known that the consumer is fast, and a few reads more; otherwise it would be most.
    let longest = longest.into_inner();
    assert!(longest < COUNT / 2, "{longest} of {COUNT} messages were in the queue");
    delete(&broker, &queue);
}

/// Consumers that take their time, or none, do not slow anybody.
#[test]
fn a_queue_whose_consumer_takes_nothing_takes_everything() {
    const COUNT: u64 = 40_000;
    let broker = shared();
    let queue = unique("slow");
    let (mut publisher, mut consumer) = (broker.raw(), broker.raw());
    publisher.declare(1, &queue);
    publisher.confirm_select(1);
    consume(&mut consumer, &queue, 1);
    let many: Vec<u8> = (0..1000).flat_map(|n| message(&queue, n, false)).collect();
    for batch in 1..=COUNT / 1000 {
        publisher.send(&many);
        wait_for_confirms(&mut publisher, batch * 1000);
    }
    assert_eq!(delivery(&mut consumer), (0, 1));
    assert_eq!(depth(&mut publisher, &queue), COUNT - 1);
    delete(&broker, &queue);
}
