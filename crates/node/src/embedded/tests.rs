//! A link publishes no faster than the node can take it.

use std::sync::atomic::{AtomicUsize, Ordering};

use segment_log::RealDisk;

use super::*;
use crate::options::{Options, StoreOptions};
use crate::store::APPENDED_BYTES_MAX;

const BODY_BYTES: usize = 256 << 10;
/// The room a message takes besides its body; more than enough.
const OVERHEAD_BYTES: usize = 4 << 10;

/// A node without threads that keeps no bodies in memory.
fn node(directory: &std::path::Path) -> Arc<Node> {
    let store =
        StoreOptions { disk_free_bytes_min: 0, body_cache_bytes: 0, ..StoreOptions::default() };
    let disk = RealDisk::new(directory).expect("a directory");
    Node::open_on(disk, Options { store, ..Options::default() }).expect("a new store")
}

fn link(node: &Arc<Node>) -> (Link, u16) {
    let mut link = Link::open(node, "/", "guest").expect("guest may");
    let channel = link.open_channel().expect("new");
    let options = DeclareQueue { durable: true, ..DeclareQueue::default() };
    link.session().declare_queue("q", &options).expect("new");
    (link, channel)
}

fn persistent() -> Properties<'static> {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_waits_to_be_written_stays_bounded_without_confirms() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node(directory.path());
    let (mut link, channel) = link(&node);
    let count = (200 << 20) / BODY_BYTES;
    let publisher = {
        let node = Arc::clone(&node);
        std::thread::spawn(move || {
            let body = vec![0; BODY_BYTES];
            let mut waiting_max = 0;
            for _ in 0..count {
                link.publish(channel, "", "q", &persistent(), &body).expect("taken");
                waiting_max = waiting_max.max(node.engine.store.appended_bytes());
            }
            waiting_max
        })
    };
    while !publisher.is_finished() {
        // Slower than anyone publishes.
        std::thread::sleep(Duration::from_millis(30));
        assert!(node.commit().expect("the disk works"));
    }
    let waiting_max = publisher.join().expect("it published") as usize;
    assert!(waiting_max >= APPENDED_BYTES_MAX, "{waiting_max}: it never had to wait");
    assert!(waiting_max < APPENDED_BYTES_MAX + BODY_BYTES + OVERHEAD_BYTES, "{waiting_max}");
    assert_eq!(node.message_count(), count as u64);
}

#[test]
fn whoever_must_not_wait_is_told_and_woken() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node(directory.path());
    let (mut link, channel) = link(&node);
    let body = vec![0; 1 << 20];
    let mut count = 0;
    while link.try_publish(channel, "", "q", &persistent(), &body).expect("good") {
        count += 1;
        assert!(count <= APPENDED_BYTES_MAX >> 20);
    }
    let woken = Arc::new(Counting::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(link.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    assert!(node.commit().expect("the disk works"));
    assert!(woken.0.load(Ordering::SeqCst) > 0, "there is room");
    assert_eq!(link.poll_ready(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
    assert_eq!(link.try_publish(channel, "", "q", &persistent(), &body), Ok(true));
    assert_eq!(node.message_count(), count as u64 + 1);
}

#[test]
fn a_node_that_holds_publishers_blocks_a_link_and_lets_it_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node(directory.path());
    let (mut link, channel) = link(&node);
    node.engine.hold_publishers(true, false);
    assert_eq!(link.try_publish(channel, "", "q", &persistent(), b"x"), Ok(false));
    let publisher = std::thread::spawn(move || {
        link.publish(channel, "", "q", &persistent(), b"x").expect("taken");
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!publisher.is_finished(), "it is held");
    assert_eq!(node.message_count(), 0);
    node.engine.release_publishers();
    publisher.join().expect("it published");
    assert_eq!(node.message_count(), 1);
}

#[test]
fn a_message_under_way_makes_a_publisher_and_an_open_transaction_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = node(directory.path());
    let (mut link, channel) = link(&node);
    node.engine.hold_publishers(false, true);
    let session = link.session();
    assert!(session.is_ready(), "who only consumes makes room");
    session.select_transactions(channel).expect("a new channel");
    session.take_memory_of_transaction(channel);
    assert!(session.is_ready(), "what it gathered is to make room, too");
    session.take_unfinished(1).expect("not too much");
    assert!(!session.is_ready() && !session.is_held());
    session.give_back_unfinished(1);
    assert!(session.is_ready());
}
