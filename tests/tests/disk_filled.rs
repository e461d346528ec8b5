//! A disk that wilco itself has filled recovers by anything that takes messages away.
//!
//! With default settings, a tmpfs of 300 MB, and two publishers that do not wait for confirms.

use end_to_end::{
    Broker, SmallDisk,
    client::block,
    raw::{Args, Event, Raw, publish, publish_with},
    turn,
};
use lapin::{options::QueuePurgeOptions, types::FieldTable};
use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How soon publishing must work again.
const BOUND: Duration = Duration::from_secs(30);

/// The default of `store.disk_free_bytes_min`, and what may be written between two checks.
const LOW_MB: u64 = 60;

/// A thousand persistent messages of a kilobyte, and the offsets of ids in them. Tracked ones ask
/// for all outcomes.
fn batch(is_tracked: bool) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        if !is_tracked {
            bytes.extend(publish(1, "", "q", &[b'x'; 1000]));
            continue;
        }
        let headers = Args::new().short("x-notify").u8(b'S').long(b"all");
        let start = Args::new().u16(0x3280).table(&headers).u8(2).short("answers");
        let message = publish_with(1, "", "q", &[b'x'; 1000], &start.short("000000000000"));
        let id = message.windows(12).position(|window| window == b"000000000000");
        ids.push(bytes.len() + id.expect("an id"));
        bytes.extend(message);
    }
    (bytes, ids)
}

/// Publishes as fast as it can until the broker no longer reads from it; stays connected.
fn publish_until_held(broker: &Broker, is_tracked: bool, next_id: &AtomicU64) -> Raw {
    let raw = broker.raw();
    let mut writer = raw.writer();
    writer.set_write_timeout(Some(Duration::from_secs(3))).expect("a write time-out");
    let (mut bytes, ids) = batch(is_tracked);
    let start = Instant::now();
    loop {
        let first = next_id.fetch_add(1000, Ordering::Relaxed);
        for (id, at) in (first..).zip(&ids) {
            bytes[*at..at + 12].copy_from_slice(format!("{id:012}").as_bytes());
        }
        if writer.write_all(&bytes).is_err() {
            return raw;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the disk does not fill up");
    }
}

/// A broker that has filled its disk. Its publishers are held, connected, in the middle of a frame.
struct Filled {
    broker: Broker,
    disk: SmallDisk,
    publishers: Vec<Raw>,
}

#[track_caller]
fn filled(test: &str, is_tracked: bool) -> Option<Filled> {
    let disk = SmallDisk::mount(test, 300)?;
    let broker = Broker::own_with(test, Some(&disk.path().join("data")), &[])?;
    let client = broker.client();
    client.declare("q", FieldTable::default());
    client.declare("answers", FieldTable::default());
    let next_id = AtomicU64::new(0);
    let publishers = std::thread::scope(|scope| {
        let publish = || publish_until_held(&broker, is_tracked, &next_id);
        let threads = [scope.spawn(publish), scope.spawn(publish)];
        threads.map(|thread| thread.join().expect("a held publisher")).into()
    });
    let free = disk.free_mb();
    assert!(free < LOW_MB, "publishers stopped, though {free} MB are free");
    Some(Filled { broker, disk, publishers })
}

/// Tells consumers, when dropped, that the test is over, even if an assertion failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until a new publisher has had three confirms in a row: the first message still passes a
/// hold.
fn goes_on(broker: &Broker, is_over: &AtomicBool) -> Result<(), String> {
    let _over = Over(is_over);
    let start = Instant::now();
    let mut raw = broker.raw();
    raw.confirm_select(1);
    let mut confirmed = 0;
    let mut events = Vec::new();
    raw.send(&publish(1, "", "q", b"again"));
    loop {
        if confirmed == 3 {
            break Ok(());
        }
        if start.elapsed() > BOUND {
            break Err(format!(
                "publishing does not work again: {confirmed} confirmed, {events:?}"
            ));
        }
        match raw.read(Duration::from_millis(100)) {
            Event::Frame(frame) if frame.is(60, 80) => {
                confirmed += 1;
                raw.send(&publish(1, "", "q", b"again"));
            }
            Event::Frame(frame) if frame.is(10, 60) => events.push("blocked"),
            Event::Frame(frame) if frame.is(10, 61) => events.push("unblocked"),
            Event::Silence => {}
            other => break Err(format!("{other:?}")),
        }
    }
}

/// Consumes and acknowledges, a hundred at a time or whatever there is, until told to stop.
fn consume(broker: &Broker, queue: &str, is_over: &AtomicBool) -> u64 {
    let mut raw = broker.raw();
    raw.method(1, 60, 10, &Args::new().u32(0).u16(500).u8(0));
    raw.expect(60, 11);
    raw.consume(1, queue);
    let (mut seen, mut settled) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let is_idle = match raw.read(Duration::from_millis(20)) {
            Event::Frame(frame) => {
                seen += u64::from(frame.is(60, 60));
                false
            }
            Event::Silence => true,
            Event::Closed => panic!("the consumer was thrown out"),
        };
        if seen >= settled + 100 || (is_idle && seen > settled) {
            raw.ack(1, seen, true);
            settled = seen;
        }
    }
    settled
}

/// Asserts that consuming from these queues alone frees the disk.
#[track_caller]
fn comes_back_by_consuming(broker: &Broker, disk: &SmallDisk, queues: &[&str]) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let consume = |queue| scope.spawn(move || consume(broker, queue, is_over));
        let consumers: Vec<_> = queues.iter().map(|queue| consume(*queue)).collect();
        let result = goes_on(broker, is_over);
        let settled: Vec<_> = consumers.into_iter().map(|consumer| consumer.join().ok()).collect();
        let free = disk.free_mb();
        result.unwrap_or_else(|why| panic!("{why}; {settled:?} settled, {free} MB free"));
    });
}

/// Asserts that publishing works again after what has been done.
#[track_caller]
fn comes_back(broker: &Broker, disk: &SmallDisk) {
    let result = goes_on(broker, &AtomicBool::new(false));
    result.unwrap_or_else(|why| panic!("{why}; {} MB free", disk.free_mb()));
}

#[test]
fn full_disk_comes_back_by_consuming() {
    let _turn = turn();
    let Some(Filled { broker, disk, publishers }) =
        filled("full_disk_comes_back_by_consuming", false)
    else {
        return;
    };
    comes_back_by_consuming(&broker, &disk, &["q"]);
    drop(publishers);
}

#[test]
fn full_disk_comes_back_by_purge() {
    let _turn = turn();
    let Some(Filled { broker, disk, publishers }) = filled("full_disk_comes_back_by_purge", false)
    else {
        return;
    };
    let client = broker.client();
    let purge = client.lapin().queue_purge("q".into(), QueuePurgeOptions::default());
    assert!(block(purge).expect("an answer") > 100_000);
    comes_back(&broker, &disk);
    drop(publishers);
}

#[test]
fn full_disk_comes_back_by_deleting_the_queue() {
    let test = "full_disk_comes_back_by_deleting_the_queue";
    let _turn = turn();
    let Some(Filled { broker, disk, publishers }) = filled(test, false) else { return };
    let client = broker.client();
    assert!(client.delete("q") > 100_000);
    comes_back(&broker, &disk);
    drop(publishers);
    // And a queue can be declared again.
    client.declare("q", FieldTable::default());
}

#[test]
fn full_disk_comes_back_by_consuming_tracked_messages() {
    let test = "full_disk_comes_back_by_consuming_tracked_messages";
    let _turn = turn();
    let Some(Filled { broker, disk, publishers }) = filled(test, true) else { return };
    comes_back_by_consuming(&broker, &disk, &["q", "answers"]);
    drop(publishers);
}

#[test]
fn full_disk_comes_back_by_purging_tracked_messages() {
    let test = "full_disk_comes_back_by_purging_tracked_messages";
    let _turn = turn();
    let Some(Filled { broker, disk, publishers }) = filled(test, true) else { return };
    let client = broker.client();
    for queue in ["q", "answers"] {
        let purge = client.lapin().queue_purge(queue.into(), QueuePurgeOptions::default());
        block(purge).expect("an answer");
    }
    comes_back(&broker, &disk);
    drop(publishers);
}

/// Everything the broker has on this disk is in the segment being written.
#[test]
fn small_full_disk_comes_back() {
    let test = "small_full_disk_comes_back";
    let _turn = turn();
    for how in ["purge", "delete", "consume"] {
        let Some(disk) = SmallDisk::mount(test, 100) else { return };
        let data = disk.path().join("data");
        let Some(broker) = Broker::own_with(test, Some(&data), &[]) else { return };
        let client = broker.client();
        client.declare("q", FieldTable::default());
        drop(publish_until_held(&broker, false, &AtomicU64::new(0)));
        match how {
            "purge" => {
                let purge = client.lapin().queue_purge("q".into(), QueuePurgeOptions::default());
                block(purge).expect("an answer");
                comes_back(&broker, &disk);
            }
            "delete" => {
                client.delete("q");
                client.declare("q", FieldTable::default());
                comes_back(&broker, &disk);
            }
            _ => comes_back_by_consuming(&broker, &disk, &["q"]),
        }
        assert!(disk.free_mb() > LOW_MB, "{how}: {} MB free", disk.free_mb());
    }
}

#[test]
fn full_disk_comes_back_after_a_crash() {
    let _turn = turn();
    let Some(Filled { mut broker, disk, publishers }) =
        filled("full_disk_comes_back_after_a_crash", false)
    else {
        return;
    };
    drop(publishers);
    broker.restart();
    assert!(broker.client().ready_count("q") > 100_000);
    comes_back_by_consuming(&broker, &disk, &["q"]);
}
