//! One queue or two, many threads: publishers, connections with consumers of every kind, the keeper. One of
//! them dispatches at a time, the others leave their deliveries to it.
//!
//! What must hold: everything published is acked, once; each consumer gets its messages in order; at
//! the end nobody who was refused is still out of the ring, so a batch of as many messages as there
//! are consumers goes to each of them; and all room and prefetch has come back.

mod connection;

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::spawn;

use super::*;
use crate::interleaving::explore;
use connection::{Connection, Kind};

/// What comes between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upheaval {
    Nothing,
    /// Messages are given back, each once at most.
    Requeues,
    /// A consumer is cancelled, and another made.
    Cancel,
    /// A channel is closed, and opened again.
    CloseChannel,
    /// The queue is deleted.
    DeleteQueue,
}

const QUEUES: [&str; 2] = ["q", "r"];
const PUBLISHERS: u8 = 2;
/// Of each publisher; few are enough for much, and soon over.
const MESSAGES_MAX: u8 = 6;
/// Two of them fill an outbox.
const LARGE_BYTES: usize = 600 << 10;
/// Publishes the last batch.
const PROBE: u8 = u8::MAX;

/// What the threads of a scenario share.
struct Run {
    rig: Arc<Rig>,
    end: Arc<End>,
    upheaval: Upheaval,
    /// Those with consumers: one that all share, or two.
    queues: &'static [&'static str],
    /// Messages that were acked, by publisher and number.
    settled: parking_lot::Mutex<HashSet<(u8, u8)>>,
    /// Settlements still to come, or consumers to be told that their queue is gone.
    left: AtomicUsize,
}

impl Run {
    fn count_down(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end.tell();
        }
    }

    /// A message came to where it belongs, for good.
    fn settle(&self, came: &Came) {
        if came.by == PROBE {
            return;
        }
        assert!(self.settled.lock().insert((came.by, came.number)), "{came:?} came twice");
        if self.upheaval != Upheaval::DeleteQueue {
            self.count_down();
        }
    }
}

/// Publishes a few at a time.
fn publisher(run: &Arc<Run>, by: u8, count: u8) -> JoinHandle<()> {
    let (mut session, run) = (run.rig.session(), Arc::clone(run));
    spawn(move || {
        for number in 0..count {
            let is_large = thread_rng().gen_bool(0.4);
            let mut body = vec![by, number];
            body.resize(if is_large { LARGE_BYTES } else { 2 }, 0);
            let queue = run.queues[thread_rng().gen_range(0..run.queues.len())];
            publish(&mut session, queue, &NO_PROPERTIES, &body);
            if thread_rng().gen_bool(0.6) {
                flush(&mut session);
            }
        }
        flush(&mut session);
        session.close();
    })
}

const NO_PROPERTIES: [u8; 2] = [0; 2];

fn scenario(rig: &Arc<Rig>, upheaval: Upheaval) {
    let mut owner = rig.session();
    let live_queues = QUEUES.map(|queue| rig.queue(queue, &mut owner));
    let kinds = Kind::some();
    let has_pairs = kinds.iter().any(|kind| kind.is_pair());
    let queues = if has_pairs && thread_rng().gen_bool(0.5) { &QUEUES[..] } else { &QUEUES[..1] };
    let count = thread_rng().gen_range(1..=MESSAGES_MAX);
    let end = Arc::<End>::default();
    let run = Arc::new(Run {
        rig: Arc::clone(rig),
        end: Arc::clone(&end),
        upheaval,
        queues,
        settled: parking_lot::Mutex::default(),
        left: AtomicUsize::new(usize::from(PUBLISHERS * count)),
    });
    let connections: Vec<Connection> =
        kinds.into_iter().map(|kind| Connection::new(&run, kind)).collect();
    if upheaval == Upheaval::DeleteQueue {
        let consumers: usize = connections.iter().map(Connection::consumer_count).sum();
        run.left.store(consumers, Ordering::Relaxed);
    }
    let keeper = keeper(rig, &end);
    let publishers: Vec<_> = (0..PUBLISHERS).map(|by| publisher(&run, by, count)).collect();
    let connections: Vec<_> =
        connections.into_iter().map(|connection| spawn(|| connection.live())).collect();
    if upheaval == Upheaval::DeleteQueue {
        delete_queues(&mut owner);
    }
    publishers.into_iter().for_each(|thread| thread.join().expect("it publishes"));
    let mut connections: Vec<_> =
        connections.into_iter().map(|thread| thread.join().expect("it consumes")).collect();
    // So that it looks whether it is over.
    rig.node.engine.schedule(&live_queues[0], 0);
    keeper.join().expect("it keeps");
    settle_down(&mut connections);
    if upheaval != Upheaval::DeleteQueue {
        queues.iter().for_each(|queue| probe(queue, &mut owner, &mut connections));
        live_queues.iter().for_each(nothing_is_reserved);
        delete_queues(&mut owner);
    }
    connections.into_iter().for_each(Connection::close);
    owner.close();
}

fn delete_queues(owner: &mut Session) {
    for queue in QUEUES {
        owner.delete_queue(queue, false, false).expect("it is there");
    }
}

/// What was woken has its turns until nobody is.
fn settle_down(connections: &mut [Connection]) {
    while connections.iter_mut().any(Connection::turn_if_dirty) {}
}

/// As many messages as the queue has consumers, in one batch: each gets one.
fn probe(queue: &str, owner: &mut Session, connections: &mut [Connection]) {
    let count: usize = connections.iter().map(|connection| connection.count_on(queue)).sum();
    (0..count as u8).for_each(|number| publish(owner, queue, &NO_PROPERTIES, &[PROBE, number]));
    flush(owner);
    settle_down(connections);
    let probed: Vec<_> =
        connections.iter_mut().flat_map(|one| std::mem::take(&mut one.probed)).collect();
    let distinct: HashSet<_> = probed.iter().collect();
    assert!(probed.len() == count && distinct.len() == count, "{count} consumers, {probed:?}");
}

fn nothing_is_reserved(queue: &Arc<LiveQueue>) {
    let state = queue.state.lock();
    let consumers: Vec<_> = state.core.consumers().map(|(_, consumer)| consumer.clone()).collect();
    let depth = state.core.depth();
    drop(state);
    assert_eq!((depth.ready_count, depth.unsettled_count), (0, 0));
    for consumer in consumers {
        assert_eq!(consumer.shared_prefetch.unsettled_count.load(Ordering::Relaxed), 0);
        assert_eq!(consumer.room_place.waits_since(), None, "{}", consumer.tag);
        assert_eq!(consumer.prefetch_place.waits_since(), None, "{}", consumer.tag);
    }
}

fn check(upheaval: Upheaval) {
    let rig = Arc::new(Rig::new());
    explore(500, move || scenario(&rig, upheaval));
}

#[test]
fn nothing_is_left_behind_or_out_of_order() {
    check(Upheaval::Nothing);
}

#[test]
fn what_is_given_back_comes_again() {
    check(Upheaval::Requeues);
}

#[test]
fn what_a_cancelled_consumer_was_assigned_comes_to_others() {
    check(Upheaval::Cancel);
}

#[test]
fn what_a_closed_channel_held_comes_to_others() {
    check(Upheaval::CloseChannel);
}

#[test]
fn consumers_of_a_deleted_queue_are_told_and_their_room_comes_back() {
    check(Upheaval::DeleteQueue);
}
