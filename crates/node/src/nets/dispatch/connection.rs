//! A connection with consumers, of one of four kinds, and what it checks of what comes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};

use super::{MESSAGES_MAX, PROBE, Run, Upheaval};
use crate::nets::{Came, Wire, flush, live, take};
use crate::{Consume, Session, Settlement};

/// What its consumers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Two consumers share a prefetch.
    SharedPrefetch,
    /// Two consumers share the room of their connection; one of them never acks.
    RoomOnly,
    /// The same, and none acks: after a delivery nothing more is heard of them.
    NoAck,
    /// One consumer with a prefetch of its own; it is the one to be cancelled.
    OwnPrefetch,
}

impl Kind {
    const ALL: [Self; 4] = [Self::SharedPrefetch, Self::RoomOnly, Self::NoAck, Self::OwnPrefetch];

    /// Some of them, or one alone, where nobody else makes up for what it misses.
    pub(super) fn some() -> Vec<Self> {
        let is_in = match thread_rng().gen_bool(0.5) {
            true => 1 << thread_rng().gen_range(0..4),
            false => thread_rng().gen_range(1..16),
        };
        let all = Self::ALL.into_iter().enumerate();
        all.filter(|(bit, _)| is_in & 1 << bit != 0).map(|(_, kind)| kind).collect()
    }

    /// Whether its consumer of this tag acks.
    fn acks(self, tag: &str) -> bool {
        self != Self::NoAck && !tag.starts_with("RoomOnly-1")
    }

    /// Whether it has a consumer for each of two queues.
    pub(super) fn is_pair(self) -> bool {
        self != Self::OwnPrefetch
    }
}

/// See the module's documentation.
pub(super) struct Connection {
    run: Arc<Run>,
    kind: Kind,
    session: Session,
    /// By consumer tag, which of its consumers that is, and its queue.
    consumers: HashMap<String, (usize, &'static str)>,
    /// Those that were cancelled, and all that they were sent was taken.
    gone: HashSet<String>,
    /// How often there was an upheaval here.
    upheavals: u8,
    /// The last tag that came.
    last_tag: u64,
    /// Number of the last message of each publisher that came to each consumer for the first time.
    last: HashMap<(String, u8), u8>,
    /// Consumers that have got one of the last batch.
    pub probed: Vec<String>,
    /// Its outbox's room when it was empty.
    room: usize,
}

impl Connection {
    pub(super) fn new(run: &Arc<Run>, kind: Kind) -> Self {
        let session = run.rig.session();
        let room = session.outbox().room();
        let mut connection = Self {
            run: Arc::clone(run),
            kind,
            session,
            consumers: HashMap::new(),
            gone: HashSet::new(),
            upheavals: 0,
            last_tag: 0,
            last: HashMap::new(),
            probed: Vec::new(),
            room,
        };
        connection.consume_all();
        connection
    }

    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    pub(super) fn count_on(&self, queue: &str) -> usize {
        self.consumers.values().filter(|(_, of)| *of == queue).count()
    }

    fn consume_all(&mut self) {
        let (prefetch, is_global) = match self.kind {
            // One for each, of the same queue; one for both, of two queues.
            Kind::SharedPrefetch => (3 - self.run.queues.len() as u16, true),
            Kind::RoomOnly | Kind::NoAck => (0, false),
            Kind::OwnPrefetch => (1, false),
        };
        self.session.set_prefetch(1, prefetch, is_global).expect("open");
        (0..1 + usize::from(self.kind.is_pair())).for_each(|place| self.consume(place));
    }

    fn consume(&mut self, place: usize) {
        let tag = format!("{:?}-{place}-{}", self.kind, self.upheavals);
        let options = Consume { tag: &tag, no_ack: !self.kind.acks(&tag), ..Consume::default() };
        let queue = self.run.queues[place % self.run.queues.len()];
        self.session.consume(1, queue, &options).expect("the queue is there");
        self.consumers.insert(tag, (place, queue));
    }

    pub(super) fn live(mut self) -> Self {
        let (outbox, end) = (Arc::clone(self.session.outbox()), Arc::clone(&self.run.end));
        live(&outbox, &end, || self.turn());
        self
    }

    pub(super) fn turn_if_dirty(&mut self) -> bool {
        let is_dirty = self.session.outbox().take_dirty();
        if is_dirty {
            self.turn();
        }
        is_dirty
    }

    fn turn(&mut self) {
        let wire = take(&mut self.session);
        for tag in &wire.cancelled {
            assert!(self.consumers.remove(tag).is_some(), "{tag} is cancelled once");
            self.run.count_down();
        }
        // What was sent to who does not ack is gone with its channel.
        let all_ack = !matches!(self.kind, Kind::RoomOnly | Kind::NoAck);
        let is_upheaval = wire.came.iter().any(|came| came.by != PROBE)
            && self.upheavals < 2
            && thread_rng().gen_bool(0.5);
        match self.run.upheaval {
            Upheaval::CloseChannel if is_upheaval && all_ack => self.reopen(),
            Upheaval::Cancel if is_upheaval => self.replace_consumer(&wire),
            _ => self.settle(&wire),
        }
    }

    fn replace_consumer(&mut self, wire: &Wire) {
        let mut tags: Vec<String> = self.consumers.keys().cloned().collect();
        tags.sort_unstable();
        let tag = tags.swap_remove(thread_rng().gen_range(0..tags.len()));
        self.session.cancel(1, &tag).expect("open");
        self.settle(wire);
        // What came before it was cancelled; there is no more, but of what nobody acks.
        let wire = take(&mut self.session);
        self.settle(&wire);
        self.upheavals += 1;
        let (place, _) = self.consumers.remove(&tag).expect("it was there");
        if self.kind.acks(&tag) {
            self.gone.insert(tag);
        }
        self.consume(place);
    }

    /// What had come and was not settled goes back.
    fn reopen(&mut self) {
        self.session.close_channel(1).expect("open");
        take(&mut self.session);
        self.upheavals += 1;
        self.last_tag = 0;
        self.consumers.clear();
        self.session.open_channel(1).expect("closed");
        self.consume_all();
    }

    fn settle(&mut self, wire: &Wire) {
        let mut acked = Vec::new();
        for came in &wire.came {
            self.check_order(came);
            let acks = self.kind.acks(&came.consumer);
            let is_given_back = self.run.upheaval == Upheaval::Requeues
                && acks
                && !came.redelivered
                && came.by != PROBE
                && thread_rng().gen_bool(0.3);
            let settlement = if is_given_back { Settlement::Requeue } else { Settlement::Ack };
            if acks {
                self.session.settle(1, came.tag, false, settlement).expect("open");
            }
            if !is_given_back {
                acked.push(came);
            }
        }
        flush(&mut self.session);
        acked.into_iter().for_each(|came| self.run.settle(came));
    }

    fn check_order(&mut self, came: &Came) {
        assert!(came.tag > self.last_tag, "tag {} after {}", came.tag, self.last_tag);
        self.last_tag = came.tag;
        assert!(!self.gone.contains(&came.consumer), "{came:?} after the consumer was cancelled");
        if came.by == PROBE {
            self.probed.push(came.consumer.clone());
            return;
        }
        assert!(came.number < MESSAGES_MAX);
        // What was assigned to somebody who is gone comes to others late.
        let is_in_order = !matches!(self.run.upheaval, Upheaval::Cancel | Upheaval::CloseChannel);
        if !came.redelivered && is_in_order {
            let key = (came.consumer.clone(), came.by);
            let last = self.last.insert(key, came.number);
            assert!(last.is_none_or(|last| last < came.number), "{came:?} after {last:?}");
        }
    }

    pub(super) fn close(mut self) {
        take(&mut self.session);
        assert_eq!(self.session.outbox().room(), self.room, "{:?}: room is lost", self.kind);
        self.session.close();
    }
}
