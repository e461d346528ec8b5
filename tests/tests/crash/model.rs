//! What the clients know about every message in every queue.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

/// A publisher's number and a sequence number: unique for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) publisher: usize,
    pub(crate) sequence: u64,
}

impl Id {
    /// A body of some length that identifies the message.
    pub(crate) fn body(self, padding: usize) -> Vec<u8> {
        let mut body = format!("{}:{}:", self.publisher, self.sequence).into_bytes();
        body.resize(body.len() + padding, b'.');
        body
    }

    /// The message that a body identifies.
    pub(crate) fn parse(body: &[u8]) -> Option<Id> {
        let text = String::from_utf8_lossy(body);
        let mut parts = text.split(':');
        let publisher = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        parts.next().filter(|padding| padding.bytes().all(|byte| byte == b'.'))?;
        Some(Id { publisher, sequence })
    }
}

/// A message in a queue.
pub(crate) type Message = (&'static str, Id);

/// How far an ack got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ack {
    #[default]
    None,
    /// Sent; nobody knows whether the broker saw it.
    Sent,
    /// A later publish was confirmed.
    Durable,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    confirmed: bool,
    ack: Ack,
}

/// Something a client saw; the order matters.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Published {
        queue: &'static str,
        id: Id,
    },
    Confirmed {
        queue: &'static str,
        id: Id,
    },
    Acked {
        queue: &'static str,
        id: Id,
        ack: Ack,
    },
    /// A transaction was sent for commit: these messages in these queues belong together.
    Committing {
        published: Vec<Message>,
        acked: Vec<Message>,
    },
    /// The last commit was answered.
    Committed,
}

/// A transaction whose result nobody knows.
struct Unresolved {
    published: Vec<Message>,
    acked: Vec<Message>,
}

/// Counts over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    confirmed_count: u64,
    acked_count: u64,
    unknown_count: u64,
    transaction_count: u64,
    unresolved_count: u64,
}

#[derive(Default)]
pub(crate) struct Model {
    queues: BTreeMap<&'static str, HashMap<Id, Entry>>,
    unresolved: Vec<Unresolved>,
    sequences: HashMap<usize, u64>,
    totals: Totals,
}

impl Model {
    /// Where a publisher continues.
    pub(crate) fn next_sequence(&self, publisher: usize) -> u64 {
        self.sequences.get(&publisher).copied().unwrap_or(0)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Records what one client saw up to the crash.
    pub(crate) fn take_down(&mut self, facts: Vec<Fact>) {
        let mut pending = None;
        for fact in facts {
            match fact {
                Fact::Published { queue, id } => self.published(queue, id),
                Fact::Confirmed { queue, id } => {
                    self.entry(queue, id).confirmed = true;
                    self.totals.confirmed_count += 1;
                }
                Fact::Acked { queue, id, ack } => {
                    let entry = self.entry(queue, id);
                    entry.ack = entry.ack.max(ack);
                    self.totals.acked_count += u64::from(ack == Ack::Durable);
                }
                Fact::Committing { published, acked } => {
                    for (queue, id) in &published {
                        self.published(queue, *id);
                    }
                    for (queue, id) in &acked {
                        self.entry(queue, *id).ack = Ack::Sent;
                    }
                    pending = Some(Unresolved { published, acked });
                }
                Fact::Committed => {
                    let done: Unresolved = pending.take().expect("a commit to be answered");
                    for (queue, id) in done.published {
                        self.entry(queue, id).confirmed = true;
                    }
                    for (queue, id) in done.acked {
                        self.entry(queue, id).ack = Ack::Durable;
                    }
                    self.totals.transaction_count += 1;
                }
            }
        }
        self.totals.unresolved_count += u64::from(pending.is_some());
        self.unresolved.extend(pending);
    }

    fn published(&mut self, queue: &'static str, id: Id) {
        self.entry(queue, id);
        let next = self.sequences.entry(id.publisher).or_default();
        // A message moved from queue to queue keeps the number its publisher gave it.
        *next = (*next).max(id.sequence + 1);
    }

    /// Clients report one after the other, so an ack may be recorded before its publish.
    fn entry(&mut self, queue: &'static str, id: Id) -> &mut Entry {
        self.queues.entry(queue).or_default().entry(id).or_default()
    }

    /// Compares what is in all queues with what is known; from now on, what is there is known.
    pub(crate) fn check(&mut self, found: &BTreeMap<&'static str, Vec<Id>>) -> Result<(), String> {
        for (queue, ids) in found {
            self.check_queue(queue, ids)?;
        }
        let present: BTreeMap<_, HashSet<Id>> =
            found.iter().map(|(queue, ids)| (*queue, ids.iter().copied().collect())).collect();
        for transaction in std::mem::take(&mut self.unresolved) {
            self.check_whole(&transaction, &present)?;
        }
        for (queue, ids) in found {
            let known = Entry { confirmed: true, ack: Ack::None };
            self.queues.insert(queue, ids.iter().map(|id| (*id, known)).collect());
        }
        Ok(())
    }

    /// These were durably acked: should they come back, they are unknown.
    pub(crate) fn settled(&mut self, queue: &'static str, ids: &[Id]) {
        let entries = self.queues.entry(queue).or_default();
        for id in ids {
            entries.remove(id);
        }
    }

    fn check_queue(&mut self, queue: &'static str, ids: &[Id]) -> Result<(), String> {
        let entries = self.queues.entry(queue).or_default();
        let mut last: HashMap<usize, u64> = HashMap::new();
        let mut seen = HashSet::new();
        for id in ids {
            let entry = entries.get(id).ok_or_else(|| format!("{queue}: {id:?} is unknown"))?;
            if entry.ack == Ack::Durable {
                return Err(format!("{queue}: {id:?} was acked for good and is back"));
            }
            if !seen.insert(*id) {
                return Err(format!("{queue}: {id:?} is there twice"));
            }
            self.totals.unknown_count += u64::from(!entry.confirmed || entry.ack != Ack::None);
            if let Some(before) = last.insert(id.publisher, id.sequence)
                && before > id.sequence
            {
                return Err(format!("{queue}: {id:?} comes after {before}"));
            }
        }
        let mut lost: Vec<_> = entries
            .iter()
            .filter(|(id, entry)| entry.confirmed && entry.ack == Ack::None && !seen.contains(*id))
            .map(|(id, _)| *id)
            .collect();
        lost.sort();
        match lost.first() {
            None => Ok(()),
            Some(id) => Err(format!(
                "{queue}: {} confirmed messages are lost, the first {id:?}; {} are there",
                lost.len(),
                ids.len()
            )),
        }
    }

    /// All effects of a transaction or none; a moved message is in exactly one place.
    fn check_whole(
        &self,
        transaction: &Unresolved,
        present: &BTreeMap<&'static str, HashSet<Id>>,
    ) -> Result<(), String> {
        let is_in = |(queue, id): &Message| present.get(queue).is_some_and(|ids| ids.contains(id));
        // What a consumer may have acked by now proves nothing.
        let untouched = transaction
            .published
            .iter()
            .filter(|(queue, id)| self.queues[queue].get(id).is_some_and(|e| e.ack == Ack::None));
        let (there, missing): (Vec<&Message>, Vec<&Message>) =
            untouched.partition(|message| is_in(message));
        if let (Some(there), Some(missing)) = (there.first(), missing.first()) {
            return Err(format!("torn transaction: {there:?} is there, {missing:?} is not"));
        }
        for from in &transaction.acked {
            let to = transaction.published.iter().find(|(_, id)| *id == from.1);
            let places = usize::from(is_in(from)) + usize::from(to.is_some_and(is_in));
            let confirmed = self.queues[from.0].get(&from.1).is_some_and(|e| e.confirmed);
            if places > 1 || (places == 0 && confirmed) {
                return Err(format!("moved message {from:?} is in {places} places"));
            }
        }
        Ok(())
    }
}

impl Totals {
    /// Whether there was enough load for the run to mean anything.
    pub(crate) fn is_load(&self) -> bool {
        self.confirmed_count > 2000 && self.acked_count > 500 && self.transaction_count > 100
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} confirmed, {} acked for good, {} transactions, {} of them cut off, {} of unknown fate",
            self.confirmed_count,
            self.acked_count,
            self.transaction_count,
            self.unresolved_count,
            self.unknown_count
        )
    }
}

/// One publisher's messages in queue "q", and what a check says about what is found there.
fn verdict(facts: Vec<Fact>, found: &[u64]) -> Result<(), String> {
    let mut model = Model::default();
    model.take_down(facts);
    let found = found.iter().map(|sequence| id(*sequence)).collect();
    model.check(&BTreeMap::from([("q", found), ("to", Vec::new())]))
}

fn id(sequence: u64) -> Id {
    Id { publisher: 1, sequence }
}

fn confirmed(sequence: u64) -> [Fact; 2] {
    let (queue, id) = ("q", id(sequence));
    [Fact::Published { queue, id }, Fact::Confirmed { queue, id }]
}

fn acked(sequence: u64, ack: Ack) -> Fact {
    Fact::Acked { queue: "q", id: id(sequence), ack }
}

#[test]
fn the_check_accepts_what_nobody_can_know() {
    let facts = [confirmed(0), confirmed(1)].concat();
    assert_eq!(verdict(facts.clone(), &[0, 1]), Ok(()));
    let unconfirmed = [facts.clone(), vec![Fact::Published { queue: "q", id: id(2) }]].concat();
    assert_eq!(verdict(unconfirmed.clone(), &[0, 1]), Ok(()));
    assert_eq!(verdict(unconfirmed, &[0, 1, 2]), Ok(()));
    let acked = [facts, vec![acked(0, Ack::Sent)]].concat();
    assert_eq!(verdict(acked.clone(), &[0, 1]), Ok(()));
    assert_eq!(verdict(acked, &[1]), Ok(()));
}

#[test]
fn the_check_notices_each_kind_of_harm() {
    let facts = [confirmed(0), confirmed(1)].concat();
    let durable = [facts.clone(), vec![acked(0, Ack::Durable)]].concat();
    assert_eq!(verdict(durable.clone(), &[1]), Ok(()));
    let cases = [
        (facts.clone(), vec![0], "lost"),
        (facts.clone(), vec![0, 1, 2], "unknown"),
        (facts.clone(), vec![1, 0], "comes after"),
        (facts.clone(), vec![0, 0, 1], "twice"),
        (durable, vec![0, 1], "is back"),
    ];
    for (facts, found, word) in cases {
        let wrong = verdict(facts, &found).expect_err("harm");
        assert!(wrong.contains(word), "{wrong}");
    }
    let torn = Fact::Committing { published: vec![("q", id(0)), ("q", id(1))], acked: vec![] };
    assert_eq!(verdict(vec![torn.clone()], &[0, 1]), Ok(()));
    assert_eq!(verdict(vec![torn.clone()], &[]), Ok(()));
    assert!(verdict(vec![torn], &[1]).expect_err("harm").contains("torn"));
    let moving = Fact::Committing { published: vec![("to", id(0))], acked: vec![("q", id(0))] };
    let moved = [confirmed(0).to_vec(), vec![moving]].concat();
    assert_eq!(verdict(moved.clone(), &[0]), Ok(()));
    assert!(verdict(moved, &[]).expect_err("harm").contains("0 places"));
}
