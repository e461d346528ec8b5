//! Nets for what can go wrong between threads only: a node's own code, sessions and all, under the
//! interleavings that shuttle finds (see [`interleaving`](crate::interleaving)).
//!
//! Everything runs as it is, in the store on a disk in memory too; nothing is modelled. Each thread
//! sleeps as a connection's task does, and only the outbox wakes it: if a wake-up is lost, nobody
//! is left to go on, and shuttle says so.

mod dispatch;
mod held_confirms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use segment_log::FaultyDisk;
use shuttle::thread::{JoinHandle, Thread};

use crate::clock::Clock;
use crate::interleaving::waker;
use crate::registry::LiveQueue;
use crate::sink::{Delivered, Sink};
use crate::{DeclareQueue, Node, Options, Outbox, Publish, Session, StoreOptions};

/// A clock that stands still until it is set.
pub(super) struct StillClock(pub AtomicU64);

impl Clock for StillClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A node without threads.
pub(super) struct Rig {
    pub node: Arc<Node>,
    pub clock: Arc<StillClock>,
}

impl Rig {
    /// Outside of shuttle: to make the default user takes long.
    pub(super) fn new() -> Self {
        let clock = Arc::new(StillClock(AtomicU64::new(1_000_000)));
        let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
        let options = Options { store, clock: clock.clone(), ..Options::default() };
        let node = Node::open_on(FaultyDisk::new(7), options).expect("an empty disk");
        Self { node, clock }
    }

    /// A session with channel 1.
    pub(super) fn session(&self) -> Session {
        let wire = Box::<Wire>::default();
        let mut session = self.node.open_session("/", "guest", wire).expect("guest may");
        session.open_channel(1).expect("a new channel");
        session
    }

    /// A queue of that name that is not there yet.
    pub(super) fn queue(&self, name: &str, session: &mut Session) -> Arc<LiveQueue> {
        session.declare_queue(name, &DeclareQueue::default()).expect("a good declaration");
        let vhost = self.node.engine.registry.vhost("/").expect("the default one");
        vhost.queue_named(name).expect("it was declared")
    }
}

/// Publishes to a queue, with the next flush.
pub(super) fn publish(session: &mut Session, queue: &str, properties: &[u8], body: &[u8]) {
    let publish =
        Publish { exchange: "", routing_key: queue.into(), mandatory: false, properties, body };
    session.publish(1, &publish).expect("may be published");
}

pub(super) fn flush(session: &mut Session) {
    let errors = session.flush();
    assert!(errors.is_empty(), "{errors:?}");
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Came {
    pub consumer: String,
    pub tag: u64,
    pub redelivered: bool,
    /// The beginning of its body: who published it, and its number there.
    pub by: u8,
    pub number: u8,
}

/// The client's end of the wire.
#[derive(Default)]
pub(super) struct Wire {
    came: Vec<Came>,
    cancelled: Vec<String>,
    /// Channel, number, whether up to it, whether accepted.
    confirms: Vec<(u16, u64, bool, bool)>,
}

impl Sink for Wire {
    fn confirmed(&mut self, channel: u16, number: u64, multiple: bool) {
        self.confirms.push((channel, number, multiple, true));
    }

    fn refused(&mut self, channel: u16, number: u64) {
        self.confirms.push((channel, number, false, false));
    }

    fn cancelled(&mut self, _: u16, consumer_tag: &str) {
        self.cancelled.push(consumer_tag.to_owned());
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        let body = delivered.message.body();
        self.came.push(Came {
            consumer: delivered.consumer_tag.to_owned(),
            tag: delivered.delivery_tag,
            redelivered: delivered.redelivered,
            by: body[0],
            number: body[1],
        });
    }
}

/// Takes what has arrived, as if it were written; its room is free again.
pub(super) fn take(session: &mut Session) -> Wire {
    let taken = session.outbox().with_sink(|wire: &mut Wire, room: &mut usize| {
        (std::mem::take(wire), std::mem::take(room))
    });
    let (wire, room) = taken.expect("a wire");
    session.after_write(room);
    wire
}

/// Tells sleeping threads that all is over, without a word to their outboxes.
#[derive(Default)]
pub(super) struct End {
    is_over: AtomicBool,
    sleepers: parking_lot::Mutex<Vec<Thread>>,
}

impl End {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        let sleepers = std::mem::take(&mut *self.sleepers.lock());
        sleepers.iter().for_each(Thread::unpark);
    }
}

/// A connection's life: a turn whenever its outbox is dirty, and asleep in between.
pub(super) fn live(outbox: &Outbox, end: &End, mut turn: impl FnMut()) {
    outbox.register(&waker());
    end.sleepers.lock().push(shuttle::thread::current());
    while !end.is_over() {
        if outbox.take_dirty() {
            turn();
            continue;
        }
        outbox.register(&waker());
        if !outbox.take_dirty() {
            shuttle::thread::park();
        } else {
            turn();
        }
    }
}

/// A thread that looks at the queues that are due, until the end.
pub(super) fn keeper(rig: &Arc<Rig>, end: &Arc<End>) -> JoinHandle<()> {
    let (rig, end) = (Arc::clone(rig), Arc::clone(end));
    shuttle::thread::spawn(move || {
        let engine = &rig.node.engine;
        let far = std::time::Instant::now() + std::time::Duration::from_secs(3600);
        while !end.is_over() {
            engine.deadlines.wait(engine.now_ms(), far);
            engine.look_at_due_queues();
        }
    })
}
