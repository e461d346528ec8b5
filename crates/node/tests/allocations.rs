//! The hot path allocates once per message: the message itself.

#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use amqp::OwnedProperties;
use node::{
    Consume, DeclareQueue, Delivered, Node, Options, Publish, Session, Settlement, Sink,
    StoreOptions,
};
use segment_log::RealDisk;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages that are counted.
const MESSAGES: usize = 10_000;
/// Messages that a connection reads at a time: they share the other costs of a batch.
const BATCH: usize = 200;

/// Remembers the last tags and nothing else.
#[derive(Default)]
struct Tags {
    delivered_count: usize,
    last_tag: u64,
    last_confirm: u64,
}

impl Sink for Tags {
    fn confirmed(&mut self, _: u16, number: u64, _: bool) {
        self.last_confirm = number;
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        self.delivered_count += 1;
        self.last_tag = delivered.delivery_tag;
    }
}

struct Run {
    node: Arc<Node>,
    session: Session,
    properties: Vec<u8>,
    acks: bool,
    acked: u64,
}

impl Run {
    fn new(directory: &std::path::Path, persistent: bool) -> Self {
        let disk = RealDisk::new(directory).expect("a directory");
        let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
        let node = Node::open_on(disk, Options { store, ..Options::default() }).expect("empty");
        let sink = Box::new(Tags::default());
        let mut session = node.open_session("/", "guest", sink).expect("guest may");
        session.open_channel(1).expect("a new channel");
        if persistent {
            session.select_confirms(1).expect("a new channel");
            session.set_prefetch(1, 200, false).expect("open");
        }
        let options = DeclareQueue { durable: true, ..DeclareQueue::default() };
        session.declare_queue("q", &options).expect("a new name");
        let no_ack = !persistent;
        let options = Consume { tag: "consumer", no_ack, ..Consume::default() };
        session.consume(1, "q", &options).expect("it is there");
        let mut properties = Vec::new();
        let delivery_mode = Some(if persistent { 2 } else { 1 });
        OwnedProperties { delivery_mode, ..OwnedProperties::default() }.encode(&mut properties);
        Self { node, session, properties, acks: persistent, acked: 0 }
    }

    /// What a connection does with what it has read: publishes, then acks of earlier messages.
    fn batch(&mut self) {
        for _ in 0..BATCH {
            let publish = Publish {
                exchange: "",
                routing_key: "q".into(),
                mandatory: false,
                properties: &self.properties,
                body: b"sixteen bytes ..",
            };
            self.session.publish(1, &publish).expect("may be published");
        }
        let look = |tags: &mut Tags, pushed: &mut usize| (tags.last_tag, std::mem::take(pushed));
        let (last_tag, written_bytes) =
            self.session.outbox().with_sink(look).expect("the sink is Tags");
        self.session.after_write(written_bytes);
        if self.acks && last_tag > 0 {
            for tag in self.acked + 1..=last_tag {
                self.session.settle(1, tag, false, Settlement::Ack).expect("open");
            }
            self.acked = last_tag;
        }
        assert!(self.session.flush().is_empty());
        assert!(self.node.commit().expect("a disk that works"));
        self.session.release_confirms();
    }

    /// Allocations per message, once everything has reached its final size.
    fn measure(&mut self) -> f64 {
        for _ in 0..MESSAGES / BATCH {
            self.batch();
        }
        let before = ALLOCATIONS.get();
        for _ in 0..MESSAGES / BATCH {
            self.batch();
        }
        let allocations = ALLOCATIONS.get() - before;
        let count = |tags: &mut Tags, _: &mut usize| (tags.delivered_count, tags.last_confirm);
        let (delivered, confirmed) =
            self.session.outbox().with_sink(count).expect("the sink is Tags");
        assert_eq!(delivered, 2 * MESSAGES);
        assert_eq!(confirmed, if self.acks { 2 * MESSAGES as u64 } else { 0 });
        allocations as f64 / MESSAGES as f64
    }
}

#[test]
fn a_transient_message_costs_one_allocation() {
    let directory = tempfile::tempdir().expect("a directory");
    let per_message = Run::new(directory.path(), false).measure();
    assert!(per_message < 1.1, "{per_message} allocations per message");
}

#[test]
fn a_persistent_confirmed_and_acked_message_costs_one_allocation() {
    let directory = tempfile::tempdir().expect("a directory");
    let per_message = Run::new(directory.path(), true).measure();
    assert!(per_message < 1.1, "{per_message} allocations per message");
}
