//! Crashes, and what must be in the store afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use node::definitions::{DefinitionStore, Definitions};
use node::{DeclareQueue, Node};
use segment_log::FaultyDisk;

use crate::audit::Facts;
use crate::message::{self, Seen};
use crate::model::{Cause, Item, Key, State};
use crate::told::Told;
use crate::topology::{Binding, EXCHANGES, KEYS, Name, QUEUES, QueueState, REPLIES};
use crate::wire::{Event, Recorder};
use crate::world::{VirtualClock, World, disk_with, image, options};

/// The shared queues, and the queue of the outcome messages.
const ALL_QUEUES: [Name; 7] =
    [REPLIES, QUEUES[0], QUEUES[1], QUEUES[2], QUEUES[3], QUEUES[4], QUEUES[5]];

/// What is in the queues, with the queue that first held each message.
type Present = BTreeMap<Key, Name>;

/// What a node finds on a disk: the definitions, and every queue's messages in order.
pub(crate) struct Inventory {
    pub definitions: Definitions,
    pub queues: BTreeMap<Name, Vec<Seen>>,
    /// Outcome messages: those that were there, and those created at the start.
    pub replies: Vec<Told>,
    pub later_replies: Vec<Told>,
    pub ledger: Facts,
}

impl World {
    /// The machine stops, and the node is opened again on what reached the disk.
    pub(crate) fn crash(&mut self) {
        self.note(|| "CRASH".to_owned());
        if self.random.chance(50) {
            self.disk.crash();
            self.drop_all();
        } else {
            self.drop_all();
            self.disk.crash();
        }
        self.disk.set_capacity_bytes(None);
        (self.is_poisoned, self.is_faulty, self.is_capacity_limited) = (false, false, false);
        let found = self.take_inventory();
        self.compare(found);
        while self.random.chance(25) {
            let sync = 1 + self.random.below(8);
            self.note(|| format!("opening, with a crash at sync {sync}"));
            self.disk.set_crash_at_sync(sync);
            let result = self.open();
            self.drop_all();
            self.disk.crash();
            if result.is_err() {
                let found = self.take_inventory();
                self.compare(found);
            }
        }
        self.open().expect("a disk that works");
        self.after_open();
    }

    fn drop_all(&mut self) {
        self.clients.clear();
        self.monitor = None;
        self.node = None;
        self.getting = None;
    }

    fn after_open(&mut self) {
        let summary = self.node().recovered().clone();
        let ready = self.model.items.values().filter(|item| item.state == State::Ready).count();
        assert_eq!(summary.message_count, ready as u64, "messages recovered");
        assert_eq!(summary.queue_count, self.model.topology.queues.len(), "queues recovered");
        assert_eq!(self.node().message_count(), ready as u64, "messages in queues");
    }

    /// Finds out what another node would find on a copy of the disk, at a time before anything
    /// expires.
    pub(crate) fn take_inventory(&mut self) -> Inventory {
        let disk = disk_with(1, &image(&self.disk));
        inventory(&disk, &self.model.messages, self.model.ids.keys())
    }

    /// Compares what was found with what was promised; from here on the model is what was found.
    pub(crate) fn compare(&mut self, found: Inventory) {
        self.note(|| found.describe());
        let before = std::mem::take(&mut self.model.items);
        self.model.items.clone_from(&before);
        self.compare_topology(&found.definitions);
        for (queue, all) in &found.queues {
            self.compare_queue(queue, all);
        }
        let keys = |(queue, all): (&Name, &Vec<Seen>)| -> Vec<(Key, Name)> {
            let key = |seen: &Seen| (seen.number, *queue, seen.history());
            all.iter().map(|seen| (key(seen), seen.origin.unwrap_or(queue))).collect()
        };
        let present: Present = found.queues.iter().flat_map(keys).collect();
        let total: usize = found.queues.values().map(Vec::len).sum();
        assert_eq!(present.len(), total, "a message is in a queue twice");
        self.compare_groups(&before, &present);
        for (key, item) in &before {
            self.compare_item(key, item, &present, &before);
        }
        self.audit_after_crash(&before, &found);
        self.restore(before, &found);
        self.remember_ids(&found);
    }

    fn compare_topology(&mut self, found: &Definitions) {
        let topology = &mut self.model.topology;
        let expected = std::mem::take(&mut topology.queues);
        let there: BTreeSet<Name> =
            ALL_QUEUES.into_iter().filter(|name| found.queues.contains_key(&key(name))).collect();
        assert_eq!(there.len(), found.queues.len(), "durable queues: {:?}", found.queues);
        for (name, queue) in &expected {
            assert!(there.contains(name) || !queue.is_stored, "the queue {name} is lost");
        }
        for name in there {
            let is_expected = expected.get(name).is_some_and(|queue| queue.is_durable());
            let doubtful = topology.doubtful_queues.contains(name);
            assert!(is_expected || doubtful, "the queue {name} was deleted and is there");
            let kind = self.kinds[name];
            let emptied_at_step = match expected.get(name) {
                Some(queue) if !doubtful => queue.emptied_at_step,
                _ => self.model.step,
            };
            let last_used_ms = self.model.now_ms;
            let (owner, is_stored, consumers) = (None, true, Vec::new());
            let state =
                QueueState { kind, owner, is_stored, emptied_at_step, last_used_ms, consumers };
            topology.queues.insert(name, state);
        }
        for (name, _, _) in EXCHANGES {
            let is_there = found.exchanges.contains_key(&key(name));
            let stored = topology.exchanges.get(name).copied();
            assert!(is_there || stored != Some(true), "the exchange {name} is lost");
            let may = stored.is_some() || topology.doubtful_exchanges.contains(name);
            assert!(!is_there || may, "the exchange {name} was deleted and is there");
            topology.exchanges.remove(name);
            if is_there {
                topology.exchanges.insert(name, true);
            }
        }
        let expected = std::mem::take(&mut topology.bindings);
        let named = |binding: &node::definitions::StoredBinding| -> Binding {
            let source = EXCHANGES.iter().find(|(name, ..)| *name == binding.source);
            let queue = QUEUES.iter().find(|name| **name == binding.destination);
            let bound = KEYS.iter().find(|name| **name == binding.routing_key);
            (source.expect("known").0, queue.expect("known"), bound.expect("known"))
        };
        let there: BTreeSet<Binding> = found.bindings.iter().map(|(_, b)| named(b)).collect();
        for (binding, stored) in &expected {
            assert!(there.contains(binding) || !stored, "the binding {binding:?} is lost");
        }
        for binding in there {
            let may =
                expected.contains_key(&binding) || topology.doubtful_bindings.contains(&binding);
            assert!(may, "the binding {binding:?} was never made, or taken away");
            let has_ends = topology.queues.contains_key(binding.1)
                && topology.exchanges.contains_key(binding.0);
            assert!(has_ends, "the binding {binding:?} hangs in the air");
            topology.bindings.insert(binding, true);
        }
        topology.doubtful_queues.clear();
        topology.doubtful_exchanges.clear();
        topology.doubtful_bindings.clear();
    }

    /// Everything in a queue was published to it, and is in order.
    fn compare_queue(&self, queue: Name, all: &[Seen]) {
        if queue == REPLIES {
            return;
        }
        let kind = self.kinds[queue];
        let mut last: BTreeMap<(u64, u8), u64> = BTreeMap::new();
        for seen in all {
            let key = (seen.number, queue, seen.history());
            let message = &self.model.messages[seen.number as usize];
            assert!(message.survives(&key), "{key:?} is transient and survived");
            if !seen.deaths.is_empty() {
                continue;
            }
            assert!(self.model.items.contains_key(&key), "{key:?} never went there");
            let line = (message.channel, message.level(kind.priority_max));
            let before = last.insert(line, message.sequence);
            assert!(before < Some(message.sequence), "{key:?} is behind a later message");
        }
    }

    /// Compares what was known about a copy with what was found.
    fn compare_item(
        &self,
        key: &Key,
        item: &Item,
        present: &Present,
        before: &BTreeMap<Key, Item>,
    ) {
        let is_there = present.contains_key(key);
        let is_of =
            |other: &Key, origin: Name| other.0 == key.0 && !other.2.is_empty() && origin == key.1;
        let is_first = key.2.is_empty();
        let is_dead = is_first && present.iter().any(|(other, origin)| is_of(other, origin));
        assert!(!(is_there && is_dead), "{key:?} is in its queue and dead-lettered from there");
        if let State::Gone { cause, is_stored: true } = item.state {
            assert!(!is_there, "{key:?} was {cause:?} and comes back");
            let died = !matches!(cause, Cause::Taken);
            assert!(!is_dead || died, "{key:?} was {cause:?} and is dead-lettered");
        }
        if !item.is_stored || is_there || is_dead {
            return;
        }
        let followed = || {
            let gone = |(other, copy): (&Key, &Item)| {
                is_of(other, copy.origin) && copy.state != State::Ready
            };
            let sinks = self.model.topology.sinks(&self.kinds[key.1], item.enqueued_at_step);
            let is_kept = self.model.messages[key.0 as usize].sinks();
            !is_first || !sinks || !is_kept || before.iter().any(gone)
        };
        match item.state {
            State::Ready | State::Held => {
                let may_die = item.state == State::Ready && self.model.may_have_died(key, item);
                assert!(may_die && followed(), "{key:?} is lost: {item:?}");
            }
            State::Gone { cause: Cause::Rejected | Cause::Died, .. } if is_first => {
                assert!(followed(), "{key:?} died and is nowhere: {item:?}");
            }
            State::Gone { .. } => {}
        }
    }

    /// A transaction must have happened in full or not at all.
    fn compare_groups(&mut self, before: &BTreeMap<Key, Item>, present: &Present) {
        for group in std::mem::take(&mut self.model.groups) {
            let mut evidence: Vec<(bool, &Key)> = Vec::new();
            for key in &group.published {
                let item = &before[key];
                let is_durable = self.model.is_durable(key)
                    && self.model.topology.queues[key.1].emptied_at_step < item.enqueued_at_step;
                let is_open = matches!(item.state, State::Ready | State::Held);
                let may_die = item.is_doubtful() || self.model.may_have_died(key, item);
                if present.contains_key(key) {
                    evidence.push((true, key));
                } else if is_durable && is_open && !may_die {
                    evidence.push((false, key));
                }
            }
            for (key, _) in &group.settled {
                let queue = self.model.topology.queues.get(key.1);
                if present.contains_key(key) {
                    evidence.push((false, key));
                } else if before[key].is_stored
                    && queue.is_some_and(|q| q.emptied_at_step < before[key].enqueued_at_step)
                {
                    evidence.push((true, key));
                }
            }
            let happened = evidence.first().map(|(happened, _)| *happened);
            let agrees = evidence.iter().all(|(one, _)| Some(*one) == happened);
            assert!(agrees, "half a transaction (true: it happened): {evidence:?}");
            assert!(!group.is_stored || happened != Some(false), "undone: {evidence:?}");
        }
    }

    /// The model after a start: what was found, and nothing else.
    fn restore(&mut self, before: BTreeMap<Key, Item>, found: &Inventory) {
        let mut items = before;
        // A dead-letter copy that is not there may come again: the death was undone.
        let is_over = |item: &Item| matches!(item.state, State::Gone { is_stored: true, .. });
        let is_taken =
            |key: &Key, item: &Item| key.1 == REPLIES && matches!(item.state, State::Gone { .. });
        items.retain(|key, item| key.2.is_empty() || is_over(item) || is_taken(key, item));
        for (key, item) in &mut items {
            let id = self.model.messages[key.0 as usize].id.as_ref();
            let is_known = id.is_some_and(|id| found.ledger.has_outcome(id, key.1));
            let cause = match item.state {
                State::Gone { cause: cause @ (Cause::Taken | Cause::Removed), is_stored: true }
                    if is_known || key.1 == REPLIES =>
                {
                    cause
                }
                _ => Cause::Lost,
            };
            item.state = State::Gone { cause, is_stored: true };
            item.is_stored = false;
        }
        self.model.unroutable.clear();
        for (queue, all) in &found.queues {
            for seen in all {
                let key = (seen.number, *queue, seen.history());
                let known = items.get(&key);
                let expires_ms = self.expiry_after_start(&key, known);
                let enqueued_at_step =
                    known.map_or(self.model.step, |known| known.enqueued_at_step);
                let count = seen.delivery_count.unwrap_or(0) as u32;
                if let Some(known) = known {
                    let (least, most) = (known.return_count_stored, known.delivery_count);
                    let counts = self.kinds[queue].counts_deliveries();
                    let range = least..=most;
                    assert!(!counts || range.contains(&count), "{key:?} counts {count}: {known:?}");
                }
                let item = Item {
                    is_stored: true,
                    was_restored: true,
                    delivery_count: count,
                    return_count_stored: count,
                    return_count: count,
                    expires_ms,
                    ..Item::new(seen.origin.unwrap_or(*queue), enqueued_at_step)
                };
                if key.2.is_empty() {
                    self.model.reports.remove(&(key.0, key.1));
                }
                items.insert(key, item);
            }
        }
        self.model.items = items;
    }

    /// After a start, the time to live counts from the publication of the message.
    fn expiry_after_start(&self, key: &Key, known: Option<&Item>) -> Option<(u64, u64)> {
        let message = &self.model.messages[key.0 as usize];
        let is_first = key.2.is_empty();
        let of_message = message.expiration_ms.filter(|_| is_first);
        let ttl_ms = [of_message, self.kinds[key.1].ttl_ms].into_iter().flatten().min()?;
        if is_first {
            let at_ms = message.published_at_ms + ttl_ms;
            return Some((at_ms, at_ms));
        }
        let until_ms = known.and_then(|known| known.expires_ms).map(|(_, until_ms)| until_ms);
        Some((0, until_ms.unwrap_or(self.model.now_ms + ttl_ms)))
    }
}

impl Inventory {
    fn describe(&self) -> String {
        let short = |seen: &Seen| match seen.deaths.is_empty() {
            true => format!("m{}", seen.number),
            false => format!("m{}({})", seen.number, seen.history()),
        };
        let queue = |(name, all): (&Name, &Vec<Seen>)| {
            format!("{name}: [{}]", all.iter().map(short).collect::<Vec<_>>().join(" "))
        };
        let queues = self.queues.iter().map(queue).collect::<Vec<_>>().join(", ");
        format!("    found {queues}")
    }
}

fn key(name: &str) -> (String, String) {
    ("/".to_owned(), name.to_owned())
}

fn inventory<'a>(
    disk: &FaultyDisk,
    messages: &[message::Published],
    ids: impl Iterator<Item = &'a String>,
) -> Inventory {
    let (mut replies, mut later_replies) = (Vec::new(), Vec::new());
    let clock = Arc::new(VirtualClock::default());
    let node = Node::open_on(disk.clone(), options(clock, 8192, 0)).expect("a copy of a good disk");
    let sink = Box::new(Recorder::default());
    let mut session = node.open_session("/", "guest", sink).expect("guest may");
    session.open_channel(1).expect("a new channel");
    let mut queues: BTreeMap<Name, Vec<Seen>> = BTreeMap::new();
    for name in ALL_QUEUES {
        let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
        if session.declare_queue(name, &passive).is_err() {
            continue;
        }
        let all = queues.entry(name).or_default();
        loop {
            session.get(1, name, false).expect("the queue is there");
            let take = |sink: &mut Recorder, _: &mut usize| sink.events.pop();
            match session.outbox().with_sink(take).expect("a recorder") {
                Some((_, Event::Delivered(delivered))) if name == REPLIES => {
                    let told = Told::read(&delivered);
                    all.push(told.seen());
                    replies.push(told);
                }
                Some((_, Event::Delivered(delivered))) => {
                    assert!(delivered.redelivered, "after a start everything may be a second time");
                    all.push(message::read(&delivered, messages));
                }
                _ => break,
            }
        }
    }
    // Outcomes, created at the start, of messages whose queues are gone.
    assert!(node.commit().expect("a copy of a good disk"));
    node.maintain();
    loop {
        session.get(1, REPLIES, false).expect("the queue is there");
        let take = |sink: &mut Recorder, _: &mut usize| sink.events.pop();
        match session.outbox().with_sink(take).expect("a recorder") {
            Some((_, Event::Delivered(delivered))) => later_replies.push(Told::read(&delivered)),
            _ => break,
        }
    }
    let ledger = Facts::read(&node, ids);
    drop(session);
    drop(node);
    let definitions = DefinitionStore::open_on_disk(disk, "definitions.redb").expect("as before");
    let definitions = definitions.load().expect("as before");
    Inventory { definitions, queues, replies, later_replies, ledger }
}
