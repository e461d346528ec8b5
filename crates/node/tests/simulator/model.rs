//! What was promised, in the simplest possible form: every copy of every message in every queue,
//! and what is known about it.
//!
//! The model does not predict when messages expire or are dropped at a limit: it knows when that
//! may happen, and then requires that they be found in the sink. A message is tracked from the
//! queue it was routed to; its dead-letter copies are recognised by their `x-death` when they are
//! seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{Published, Seen};
use crate::told::Report;
use crate::topology::{Kind, Name, Overflow, Topology};
use crate::window::{Known, Verdict};

/// A copy of a message in a queue: message number, queue, history (`x-death`).
pub(crate) type Key = (u32, Name, String);

/// Why a copy left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A client acked it, or took it without acks.
    Taken,
    /// A client rejected it.
    Rejected,
    /// Purged, or its queue was deleted.
    Removed,
    /// It was found as a dead letter.
    Died,
    /// A crash intervened; the ledger knows.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// Delivered and not settled, as far as the client knows.
    Held,
    Gone {
        cause: Cause,
        /// Certain not to come back after a crash.
        is_stored: bool,
    },
}

/// One copy.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub state: State,
    /// Certain to be there after a crash.
    pub is_stored: bool,
    /// A queue may have refused it.
    pub may_be_refused: bool,
    /// Its queue may know its id and so not have taken it in.
    pub may_be_duplicate: bool,
    /// It was given back, and may have to wait for its next attempt.
    pub waits: bool,
    /// Delivered since the node was opened.
    pub was_delivered: bool,
    /// Found in the store when the node was opened.
    pub was_restored: bool,
    pub delivery_count: u32,
    /// Returns that are certain to be counted after a crash, and those that are not yet.
    pub return_count_stored: u32,
    pub return_count: u32,
    /// The queue that first held the message.
    pub origin: Name,
    pub enqueued_at_step: u64,
    /// When it may expire and when it must have expired; `None` for never.
    pub expires_ms: Option<(u64, u64)>,
}

impl Item {
    /// A message that is in a queue and ready, as far as anybody knows.
    pub(crate) fn new(origin: Name, step: u64) -> Self {
        Self {
            state: State::Ready,
            is_stored: false,
            may_be_refused: false,
            may_be_duplicate: false,
            waits: false,
            was_delivered: false,
            was_restored: false,
            delivery_count: 0,
            return_count_stored: 0,
            return_count: 0,
            origin,
            enqueued_at_step: step,
            expires_ms: None,
        }
    }

    /// Whether it may never have been in its queue.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.may_be_refused || self.may_be_duplicate
    }
}

/// A transaction that was committed.
#[derive(Debug)]
pub(crate) struct Group {
    pub is_stored: bool,
    pub published: Vec<Key>,
    pub settled: Vec<(Key, Cause)>,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Model {
    pub now_ms: u64,
    pub step: u64,
    pub topology: Topology,
    pub messages: Vec<Published>,
    pub items: BTreeMap<Key, Item>,
    pub groups: Vec<Group>,
    /// The kind of each shared queue whenever it exists.
    pub kinds: BTreeMap<Name, Kind>,
    /// Messages by the ids that their producers gave them.
    pub ids: BTreeMap<String, Vec<u32>>,
    /// Ids that queues remember.
    pub window: BTreeMap<(String, Name), Known>,
    /// For messages dropped as duplicates, the ones that were not dropped.
    pub originals: BTreeMap<u32, Vec<Key>>,
    /// What workers reported on messages that they then settled.
    pub reports: BTreeMap<(u32, Name), Report>,
    /// Tracked messages that reached no queue since the node was opened.
    pub unroutable: Vec<u32>,
    /// Outcomes in the ledger without the message, by id and queue.
    pub torn: BTreeMap<(String, String), usize>,
    /// Where the ledger may have missed that a deadline passed, by id and queue.
    pub torn_deadlines: BTreeSet<(String, String)>,
    /// Outcomes that were found in the ledger, by message id, in order: queue, outcome, late.
    pub outcomes: BTreeMap<String, Vec<crate::audit::Fact>>,
}

impl Model {
    /// A message reaches these queues.
    pub(crate) fn enqueue(&mut self, number: u32, queues: &BTreeSet<Name>) {
        let message = &self.messages[number as usize];
        let published_at_ms = message.published_at_ms;
        if message.queue_count == 0 && message.is_tracked {
            self.unroutable.push(number);
        }
        let all: Vec<Name> = queues.iter().copied().collect();
        for name in all.iter().copied() {
            if !self.topology.queues.contains_key(name) {
                continue;
            }
            let verdict = self.judge(number, name, &all);
            if let Verdict::Duplicate(original) = verdict {
                self.originals.entry(number).or_default().extend(original);
                continue;
            }
            let message = &self.messages[number as usize];
            let Some(queue) = self.topology.queues.get(name) else { continue };
            let ttl_ms = [message.expiration_ms, queue.kind.ttl_ms].into_iter().flatten().min();
            let expiry = |ttl_ms| (published_at_ms + ttl_ms, self.now_ms + ttl_ms);
            let item = Item {
                may_be_refused: queue.kind.overflow != Overflow::DropHead,
                may_be_duplicate: verdict == Verdict::Doubtful,
                expires_ms: ttl_ms.map(expiry),
                ..Item::new(name, self.step)
            };
            let before = self.items.insert((number, name, String::new()), item);
            assert!(before.is_none(), "m{number} is published once");
        }
    }

    pub(crate) fn kind(&self, queue: Name) -> Kind {
        self.topology.queues.get(queue).map_or(crate::topology::PLAIN, |queue| queue.kind)
    }

    pub(crate) fn is_durable(&self, key: &Key) -> bool {
        self.messages[key.0 as usize].survives(key)
            && self.topology.queues.get(key.1).is_some_and(|queue| queue.is_durable())
    }

    /// Whether a ready copy may have died with no client involved.
    pub(crate) fn may_have_died(&self, key: &Key, item: &Item) -> bool {
        let kind = self.kind(key.1);
        item.expires_ms.is_some_and(|(from_ms, _)| self.now_ms >= from_ms)
            || kind.length_max.is_some() && kind.overflow == Overflow::DropHead
            || kind.redeliveries_max().is_some_and(|max| item.delivery_count > max)
    }

    /// Whether a ready copy must be where it is, because only a client can take it from there.
    pub(crate) fn is_certain(&self, key: &Key, item: &Item) -> bool {
        item.state == State::Ready
            && !item.is_doubtful()
            && !item.waits
            && !self.may_have_died(key, item)
    }

    /// The copies in a queue.
    pub(crate) fn items_in(&self, queue: Name) -> impl Iterator<Item = (&Key, &Item)> {
        self.items.iter().filter(move |(key, _)| key.1 == queue)
    }

    /// Everything that a queue holds is removed.
    pub(crate) fn empty_queue(&mut self, queue: Name, with_held: bool) {
        for (_, item) in self.items.iter_mut().filter(|(key, _)| key.1 == queue) {
            if item.state == State::Ready || (with_held && item.state == State::Held) {
                item.state = State::Gone { cause: Cause::Removed, is_stored: false };
            }
        }
        if let Some(state) = self.topology.queues.get_mut(queue) {
            state.emptied_at_step = self.step;
        }
    }

    /// A copy leaves its queue.
    pub(crate) fn remove(&mut self, key: &Key, cause: Cause) {
        if let Some(item) = self.items.get_mut(key)
            && !matches!(item.state, State::Gone { .. })
        {
            item.state = State::Gone { cause, is_stored: false };
        }
    }

    /// A client gives a copy back.
    pub(crate) fn give_back(&mut self, key: &Key) {
        if let Some(item) = self.items.get_mut(key)
            && item.state == State::Held
        {
            item.state = State::Ready;
            item.return_count += 1;
            item.waits = self.kinds.get(key.1).is_some_and(|kind| kind.retry_ms.is_some());
        }
    }

    /// Everything done so far is durable.
    pub(crate) fn store_all(&mut self) {
        self.topology.store_all();
        let messages = &self.messages;
        let queues = &self.topology.queues;
        for (key, item) in &mut self.items {
            let queue = queues.get(key.1);
            item.is_stored |= messages[key.0 as usize].survives(key)
                && queue.is_some_and(|queue| queue.is_durable())
                && !item.is_doubtful();
            item.return_count_stored = item.return_count;
            if let State::Gone { is_stored, .. } = &mut item.state {
                *is_stored = true;
            }
        }
        self.groups.iter_mut().for_each(|group| group.is_stored = true);
    }

    /// A message was confirmed: it is stored wherever it went, if it was to be stored.
    pub(crate) fn confirm(&mut self, number: u32, is_ack: bool) {
        for key in self.covered(number) {
            let is_durable = self.is_durable(&key);
            if let Some(item) = self.items.get_mut(&key) {
                item.may_be_refused &= !is_ack;
                item.is_stored |= is_ack && is_durable && !item.may_be_duplicate;
            }
        }
    }

    /// Whether a message is certainly settled in all its queues.
    pub(crate) fn is_settled(&self, number: u32) -> bool {
        let keys = self.covered(number);
        let is_gone = |key: &Key| {
            let item = self.items.get(key);
            item.is_some_and(|item| matches!(item.state, State::Gone { .. }) && !item.is_doubtful())
        };
        !self.originals.contains_key(&number)
            && keys.len() == self.messages[number as usize].queue_count
            && keys.iter().all(is_gone)
    }

    /// The copies that stand for a message; for a duplicate, those of the original.
    pub(crate) fn covered(&self, number: u32) -> Vec<Key> {
        let own = self
            .items
            .keys()
            .filter(|key| key.0 == number && key.2.is_empty() && key.1 != crate::topology::REPLIES);
        own.chain(self.originals.get(&number).into_iter().flatten()).cloned().collect()
    }

    /// A copy came out of a queue: checks that it may, and returns which one it is.
    pub(crate) fn observe(&mut self, queue: Name, seen: &Seen) -> Key {
        let number = seen.number;
        let key = (number, queue, seen.history());
        if seen.deaths.is_empty() {
            assert!(self.items.contains_key(&key), "m{number} never went to {queue}");
        } else {
            self.observe_dead(&key, seen);
        }
        let (now_ms, kind) = (self.now_ms, self.kind(queue));
        let item = self.items.get_mut(&key).expect("just looked");
        match item.state {
            State::Ready => {}
            state => panic!("{key:?} comes out of {queue} although it is {state:?}"),
        }
        if let Some((_, until_ms)) = item.expires_ms {
            assert!(now_ms <= until_ms, "{key:?} expired at {until_ms} and comes out at {now_ms}");
        }
        item.may_be_refused = false;
        item.may_be_duplicate = false;
        item.waits = false;
        if kind.counts_deliveries() {
            let count = seen.delivery_count.unwrap_or(0);
            let (least, most) = (item.return_count, item.delivery_count);
            assert!(
                (i64::from(least)..=i64::from(most)).contains(&count),
                "{key:?} was delivered {most} times, returned {least} times, and says {count}"
            );
        }
        key
    }

    fn observe_dead(&mut self, key: &Key, seen: &Seen) {
        let (number, queue, _) = *key;
        let origin = seen.origin.expect("a dead letter names the queue it died in first");
        let last = &seen.deaths[0];
        let first_key = (number, origin, String::new());
        let Some(first) = self.items.get_mut(&first_key) else {
            panic!("m{number} was never in {origin} and comes dead-lettered from there");
        };
        match first.state {
            State::Ready => first.state = State::Gone { cause: Cause::Died, is_stored: false },
            State::Gone { cause: Cause::Taken, .. } => {
                panic!("{key:?} was dead-lettered from {origin} although it was acked there")
            }
            State::Held => panic!("{key:?} was dead-lettered from {origin} and is held there"),
            State::Gone { .. } => {}
        }
        if self.items.contains_key(key) {
            return;
        }
        let (expiration_ms, kind) = (self.now_ms, self.kind(queue));
        let ttl_ms = kind.ttl_ms.map(|ttl_ms| (0, expiration_ms + ttl_ms));
        assert_ne!(last.reason, "", "a death has a reason");
        let item = Item { expires_ms: ttl_ms, ..Item::new(origin, self.step) };
        self.items.insert(key.clone(), item);
    }

    /// Whether a message that is not where it was routed to may be nowhere: it died where dead
    /// letters are not kept, or its dead-letter copy was seen and is gone.
    pub(crate) fn may_be_nowhere(&self, key: &Key, item: &Item) -> bool {
        let (number, name, _) = *key;
        let followed = |(other, copy): (&Key, &Item)| {
            other.0 == number && !other.2.is_empty() && copy.origin == name
        };
        let sinks = self.topology.sinks(&self.kind(name), item.enqueued_at_step);
        !sinks || !self.messages[number as usize].sinks() || self.items.iter().any(followed)
    }
}
