//! Confirms that are held until an ack: a publisher on channel 1, which is closed in between and
//! opened again; workers on two queues; the clock, which lets some of the messages come too late; the
//! committer.
//!
//! What must hold: the publisher is told of each message of the open channel, once, and only what is
//! true of that very message then; of a closed one it is told nothing any more. In the end nothing is
//! held.
//!
//! Here the committer looks by itself whether there is something to write, so what is lost between
//! it and the publisher shows as a scenario without end, not as one in which all sleep.

use std::collections::BTreeMap;

use amqp::{FieldTable, FieldValue, OwnedProperties};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{spawn, yield_now};

use super::*;
use crate::interleaving::explore;
use crate::{Consume, Settlement};

const QUEUES: [&str; 2] = ["h1", "h2"];
/// Published on the channel that is closed, and on the one that is not, at most.
const MESSAGES_MAX: u8 = 4;
/// A deadline that passes, ms.
const SOON_MS: i32 = 1000;

/// What is known of a message.
#[derive(Debug, Default)]
struct Known {
    /// Settlements that are needed to accept it.
    awaited: usize,
    acked: usize,
    is_rejected: bool,
    /// Its deadline may have passed.
    may_be_late: bool,
    is_told: bool,
}

/// What the threads of a scenario share.
#[derive(Default)]
struct Run {
    end: Arc<End>,
    /// By channel, the first or the second, and number.
    known: parking_lot::Mutex<BTreeMap<(u8, u8), Known>>,
    time_has_passed: AtomicBool,
}

struct Publisher {
    run: Arc<Run>,
    session: Session,
    /// Which of the channels is open.
    channel: u8,
    /// Messages to be published on each.
    counts: [u8; 2],
}

impl Publisher {
    fn open(&mut self) {
        if !self.session.has_channel(1) {
            self.session.open_channel(1).expect("it is closed");
        }
        self.session.select_confirms(1).expect("open");
    }

    /// A few at a time, most of them held.
    fn publish_all(&mut self) {
        for number in 1..=self.counts[usize::from(self.channel)] {
            let (is_held, is_late) = (thread_rng().gen_bool(0.8), thread_rng().gen_bool(0.4));
            let queues = [&QUEUES[..1], &QUEUES[1..], &QUEUES][thread_rng().gen_range(0..3)];
            let awaited = if is_held { queues.len() } else { 0 };
            let known = Known { awaited, may_be_late: is_held && is_late, ..Known::default() };
            self.run.known.lock().insert((self.channel, number), known);
            let properties = properties(is_held, is_late, &queues[1..]);
            publish(&mut self.session, queues[0], &properties, &[self.channel, number]);
            if thread_rng().gen_bool(0.6) {
                flush(&mut self.session);
                self.look();
            }
        }
        flush(&mut self.session);
        self.look();
    }

    fn look(&mut self) {
        self.session.release_confirms();
        let wire = take(&mut self.session);
        for (channel, last, multiple, is_accepted) in wire.confirms {
            assert_eq!(channel, 1);
            let first = if multiple { 1 } else { last };
            (first..=last).for_each(|number| self.told(number, multiple, is_accepted));
        }
        let known = self.run.known.lock();
        let mut of_last = known.iter().filter(|((channel, _), _)| *channel == 1);
        if known.contains_key(&(1, self.counts[1])) && of_last.all(|(_, known)| known.is_told) {
            drop(known);
            self.run.end.tell();
        }
    }

    fn told(&self, number: u64, multiple: bool, is_accepted: bool) {
        let mut known = self.run.known.lock();
        let key = (self.channel, number as u8);
        let known = known.get_mut(&key).expect("it was published on this channel");
        if multiple && known.is_told {
            // Confirmed before, by itself or with others.
            return;
        }
        assert!(!std::mem::replace(&mut known.is_told, true), "{key:?} is told twice");
        let is_true = match is_accepted {
            true => known.awaited == 0 || known.acked >= known.awaited && !known.is_rejected,
            false => {
                let has_passed = self.run.time_has_passed.load(Ordering::Relaxed);
                known.awaited > 0 && (known.is_rejected || known.may_be_late && has_passed)
            }
        };
        assert!(is_true, "{key:?} is told as accepted: {is_accepted}, {known:?}");
    }

    fn live(mut self) -> Self {
        self.publish_all();
        (0..thread_rng().gen_range(0..8)).for_each(|_| crate::interleaving::offer());
        self.session.close_channel(1).expect("nothing was wrong");
        self.look();
        self.channel = 1;
        self.open();
        self.publish_all();
        let (outbox, end) = (Arc::clone(self.session.outbox()), Arc::clone(&self.run.end));
        live(&outbox, &end, || self.look());
        self
    }
}

fn properties(is_held: bool, is_late: bool, copies: &[&str]) -> Vec<u8> {
    let mut headers = FieldTable::new();
    if is_held {
        headers.insert("x-confirm-on", FieldValue::from("ack"));
        if is_late {
            headers.insert("x-deadline", FieldValue::I32(SOON_MS));
        }
    }
    if !copies.is_empty() {
        let copies = copies.iter().map(|&queue| queue.into()).collect();
        headers.insert("CC", FieldValue::Array(copies));
    }
    let mut encoded = Vec::new();
    OwnedProperties { headers: Some(headers), ..OwnedProperties::default() }.encode(&mut encoded);
    encoded
}

struct Worker {
    run: Arc<Run>,
    session: Session,
}

impl Worker {
    fn work(&mut self) {
        let wire = take(&mut self.session);
        for came in wire.came {
            let is_acked = thread_rng().gen_bool(0.8);
            let mut known = self.run.known.lock();
            let of_this = known.get_mut(&(came.by, came.number)).expect("it was published");
            of_this.acked += usize::from(is_acked);
            of_this.is_rejected |= !is_acked;
            drop(known);
            let settlement = if is_acked { Settlement::Ack } else { Settlement::Reject };
            self.session.settle(1, came.tag, false, settlement).expect("open");
        }
        flush(&mut self.session);
    }

    fn live(mut self) -> Self {
        let (outbox, end) = (Arc::clone(self.session.outbox()), Arc::clone(&self.run.end));
        live(&outbox, &end, || self.work());
        self
    }
}

/// Time passes, and whoever looks at deadlines does.
fn let_time_pass(rig: &Rig, run: &Run, queues: &[Arc<LiveQueue>]) {
    run.time_has_passed.store(true, Ordering::Relaxed);
    rig.clock.0.fetch_add(2 * SOON_MS as u64, Ordering::Relaxed);
    let engine = &rig.node.engine;
    for _ in 0..thread_rng().gen_range(0..4) {
        engine.expire_held_confirms();
    }
    queues.iter().for_each(|queue| engine.schedule(queue, 0));
    for _ in 0..4 {
        engine.expire_held_confirms();
    }
}

fn scenario(rig: &Arc<Rig>) {
    let run = Arc::<Run>::default();
    let counts = [(); 2].map(|()| thread_rng().gen_range(1..=MESSAGES_MAX));
    let mut publisher =
        Publisher { run: Arc::clone(&run), session: rig.session(), channel: 0, counts };
    publisher.open();
    let queues = QUEUES.map(|queue| rig.queue(queue, &mut publisher.session));
    let workers = QUEUES.map(|queue| {
        let mut session = rig.session();
        session.consume(1, queue, &Consume::default()).expect("the queue is there");
        Worker { run: Arc::clone(&run), session }
    });
    let keeper = keeper(rig, &run.end);
    let committer = {
        let (rig, run) = (Arc::clone(rig), Arc::clone(&run));
        spawn(move || {
            while !run.end.is_over() {
                assert!(rig.node.commit().expect("a good disk"));
                yield_now();
            }
        })
    };
    let clock = {
        let (rig, run, queues) = (Arc::clone(rig), Arc::clone(&run), queues.clone());
        spawn(move || let_time_pass(&rig, &run, &queues))
    };
    let publisher = spawn(|| publisher.live());
    let workers = workers.map(|worker| spawn(|| worker.live()));
    let publisher = publisher.join().expect("it publishes");
    let workers = workers.map(|worker| worker.join().expect("it works"));
    clock.join().expect("it passes");
    committer.join().expect("it commits");
    queues.iter().for_each(|queue| rig.node.engine.schedule(queue, 0));
    keeper.join().expect("it keeps");
    settle_down(rig, publisher, workers);
}

/// What was woken has its turns until nobody is, and nobody is told a second time.
fn settle_down(rig: &Rig, mut publisher: Publisher, mut workers: [Worker; 2]) {
    loop {
        rig.node.engine.look_at_due_queues();
        assert!(rig.node.commit().expect("a good disk"));
        let is_dirty = publisher.session.outbox().take_dirty();
        publisher.look();
        let mut dirty = workers.iter_mut().filter(|worker| worker.session.outbox().take_dirty());
        if dirty.by_ref().map(Worker::work).count() == 0 && !is_dirty {
            break;
        }
    }
    assert_eq!(rig.node.engine.outcomes.held_confirms.held_count(), 0);
    workers.into_iter().for_each(|mut worker| drop(worker.session.close()));
    for queue in QUEUES {
        publisher.session.delete_queue(queue, false, false).expect("it is there");
    }
    publisher.session.close();
    // Whoever waits for what was settled is woken now, and not in another scenario.
    assert!(rig.node.commit().expect("a good disk"));
}

#[test]
fn each_held_confirm_is_told_once_and_on_its_own_channel() {
    let rig = Arc::new(Rig::new());
    explore(2000, move || scenario(&rig));
}
