//! From the files to what was alive: one pass over the log, oldest record first.
//!
//! The messages of each queue are gathered in the order of their positions, 40 bytes each; a
//! settlement finds its message by binary search, and nearly always right after the previous one.
//! Definitions come from the definition store, and then from the log what the store did not have
//! yet.
//!
//! There is no checkpoint: the log holds little else than what is alive, because dead segments are
//! deleted and mostly dead ones compacted; and every start checks every CRC.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use amqp::ByteSlice;
use broker::queue::Restored;
use broker::{Message, QueueId};
use outcome::IdHash;
use segment_log::{Disk, Log, RECORD_HEADER_SIZE, RecordRef, Recovery, Reserve};

use super::Store;
use super::losses::Followed;
use super::outcome_records;
use super::records::{self, MessageRecord};
use super::segments::Segments;
use crate::NodeError;
use crate::definitions::{Change, DefinitionStore, Definitions};
use crate::names::{QueueNames, realm};
use crate::options::StoreOptions;

/// An opened store, and what was in it.
pub(crate) struct Recovered {
    pub store: Store,
    pub definitions: Definitions,
    /// Living messages by queue, in order.
    pub queues: HashMap<QueueId, Vec<Restored>>,
    /// Tracked messages of queues that are gone, without an outcome there.
    pub orphans: Vec<(QueueId, Restored)>,
    /// Virtual hosts and names of deleted queues, as far as the log remembers them.
    pub gone_queues: Vec<(QueueId, QueueNames)>,
    pub log: Recovery,
    /// What is missing, a line each.
    pub losses: Vec<String>,
}

/// Opens the log and the definitions on a disk. The ledger has followed the log to a position.
pub(crate) fn recover<D: Disk + Clone>(
    disk: D,
    definition_store: DefinitionStore,
    store_options: &StoreOptions,
    ledger_applied: u64,
) -> Result<Recovered, NodeError> {
    let definitions = definition_store.load()?;
    let followed = Followed {
        definitions: definition_store.applied_position(),
        ledger: ledger_applied,
        definitions_were_blank: definitions.users.is_empty()
            && definitions.vhosts.is_empty()
            && definitions.queues.is_empty(),
    };
    let reserve = Reserve::open(disk.clone(), store_options.disk_free_bytes_min);
    let mut scan = Scan::new(definitions, definition_store.applied_position());
    for base in segment_bases(&disk)? {
        scan.segments.found(base);
    }
    let options = segment_log::Options {
        segment_bytes_max: store_options.segment_bytes_max,
        position_min: followed.position_min(),
    };
    let (log, recovery) = Log::open(disk, options, &mut |record| scan.visit(&record))?;
    let losses = followed.losses(&recovery, &log.segments(), store_options.accepts_loss)?;
    scan.complete_definitions(&definition_store)?;
    scan.segments.retain(&log.segments());
    let Living { definitions, segments, queues, orphans, gone_queues } = scan.into_living();
    let reserve = Box::new(reserve);
    let store = Store::new(Box::new(log), definition_store, segments, reserve, store_options);
    Ok(Recovered { store, definitions, queues, orphans, gone_queues, log: recovery, losses })
}

/// Segment files by the position in their names, so that records can be counted during the scan.
fn segment_bases<D: Disk>(disk: &D) -> Result<Vec<u64>, NodeError> {
    let names = disk.list().map_err(NodeError::disk("list the store"))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect())
}

struct Scan {
    definitions: Definitions,
    applied: u64,
    changes: Vec<Change>,
    changes_end: u64,
    queues: HashMap<QueueId, QueueScan>,
    /// Virtual hosts and names of queues, from records that contain them. Not all contain the
    /// virtual host.
    names: HashMap<QueueId, QueueNames>,
    /// Former positions of moved messages: a settlement may still name the old one.
    moved: HashMap<u64, u64>,
    segments: Segments,
    /// Stretches of the log that were scanned without a gap, in order.
    seen: Vec<Range<u64>>,
    unreadable_count: u64,
    /// One above the highest queue id found.
    queue_ids_end: u32,
}

/// What a scan has found to be alive, and what there is to know of the rest.
struct Living {
    definitions: Definitions,
    segments: Segments,
    queues: HashMap<QueueId, Vec<Restored>>,
    orphans: Vec<(QueueId, Restored)>,
    gone_queues: Vec<(QueueId, QueueNames)>,
}

#[derive(Default)]
struct QueueScan {
    messages: Vec<Found>,
    /// Where the last settled message was.
    hint: usize,
    dead_count: usize,
    has_moved: bool,
}

struct Found {
    restored: Restored,
    /// `DEAD` once it is settled or moved away.
    origin: u64,
}

const DEAD: u64 = u64::MAX;

impl Scan {
    /// The definitions had followed the log up to `applied`.
    fn new(definitions: Definitions, applied: u64) -> Self {
        Self {
            definitions,
            applied,
            changes: Vec::new(),
            changes_end: 0,
            queues: HashMap::new(),
            names: HashMap::new(),
            moved: HashMap::new(),
            segments: Segments::default(),
            seen: Vec::new(),
            unreadable_count: 0,
            queue_ids_end: 0,
        }
    }

    /// After the last record: brings the definition store up to the log.
    fn complete_definitions(&mut self, store: &DefinitionStore) -> Result<(), NodeError> {
        if self.unreadable_count > 0 {
            let count = self.unreadable_count;
            tracing::warn!("{count} records of the log are not understood and left out");
        }
        let loose = self.definitions.loose_bindings();
        loose.iter().for_each(|change| self.definitions.apply(change));
        self.changes.extend(loose);
        if !self.changes.is_empty() {
            store.apply(&self.changes, self.changes_end.max(self.applied))?;
        }
        // The log still has ids of queues that are gone or were never durable: a new queue must not
        // find their messages.
        let next_queue_id = &mut self.definitions.next_queue_id;
        *next_queue_id = (*next_queue_id).max(self.queue_ids_end);
        Ok(())
    }

    /// What is alive, counted in the segments that are still there.
    fn into_living(self) -> Living {
        let Self { definitions, mut segments, .. } = self;
        let exists: HashSet<u32> = definitions.queues.values().map(|queue| queue.id).collect();
        let gone_queues = self.names.into_iter().filter(|(id, _)| !exists.contains(&id.0));
        let gone_queues = gone_queues.collect();
        let (mut queues, mut orphans) = (HashMap::new(), Vec::new());
        for (id, queue) in self.queues {
            let mut living = queue.into_living();
            let is_gone = !exists.contains(&id.0);
            if is_gone {
                living.retain(|message| message.is_tracked);
            }
            // An orphan's settlement is still to come, and will be counted.
            living.iter().for_each(|message| segments.add_live(message.position));
            match is_gone {
                true => orphans.extend(living.into_iter().map(|message| (id, message))),
                false => _ = queues.insert(id, living),
            }
        }
        orphans.sort_by_key(|(id, message)| (*id, message.position));
        Living { definitions, segments, queues, orphans, gone_queues }
    }

    fn visit(&mut self, record: &RecordRef<'_>) {
        self.segments.reaches(record);
        self.segments.account(record);
        self.note_seen(record);
        let understood = match record.kind {
            records::MESSAGE => self.message(record),
            records::SETTLED => self.settled(record),
            records::ATTEMPTS => self.attempts(record),
            records::DEFINITION => self.definition(record),
            outcome_records::OUTCOMES => self.outcomes(record),
            outcome_records::MISSED => self.missed(record),
            outcome_records::NOTES => self.notes(record),
            _ => None,
        };
        if understood.is_none() {
            self.unreadable_count += 1;
        }
    }

    fn note_seen(&mut self, record: &RecordRef<'_>) {
        match self.seen.last_mut() {
            // Between neighbours there may be the header of a group.
            Some(run) if record.position - run.end <= RECORD_HEADER_SIZE as u64 => {
                run.end = record.end();
            }
            _ => self.seen.push(record.position..record.end()),
        }
    }

    /// Whether the record at a position was among those scanned: its segment exists and is
    /// undamaged there.
    fn was_seen(&self, position: u64) -> bool {
        let after = self.seen.partition_point(|run| run.start <= position);
        after > 0 && self.seen[after - 1].contains(&position)
    }

    fn message(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let parsed = MessageRecord::parse(record)?;
        let ids_end = parsed.queues().map(|id| id.0.saturating_add(1)).max();
        self.queue_ids_end = self.queue_ids_end.max(ids_end.unwrap_or(0));
        if parsed.paged {
            return Some(());
        }
        let (head, body_bytes) = Message::peek(parsed.message)?;
        let tracking = parsed.tracking();
        let deadline_at_ms = tracking.map_or(0, |tracking| tracking.deadline_at_ms);
        if tracking.is_some() {
            self.note_address(&parsed);
        }
        let was_seen = parsed.moved.is_some_and(|moved| self.was_seen(moved.from));
        for id in parsed.queues() {
            let queue = self.queues.entry(id).or_default();
            let (mut attempts, mut missed_deadline) = (0, false);
            if let Some(moved) = parsed.moved {
                queue.has_moved = true;
                match queue.kill(moved.from) {
                    Some(killed) => {
                        attempts = killed.attempts;
                        missed_deadline = killed.missed_deadline;
                    }
                    // This scan has passed there: the message was settled before it was moved, and
                    // the crash came before the settlement was repeated for the new position.
                    None if was_seen => continue,
                    None => {}
                }
            }
            let restored = Restored {
                position: record.position,
                published_at_ms: head.published_at_ms,
                expiration_ms: head.expiration_ms(),
                body_bytes,
                priority: head.priority,
                attempts,
                is_tracked: tracking.is_some(),
                deadline_at_ms,
                missed_deadline,
            };
            let origin = parsed.moved.map_or(record.position, |moved| moved.origin);
            queue.messages.push(Found { restored, origin });
        }
        if let Some(moved) = parsed.moved {
            self.moved.insert(moved.from, record.position);
        }
        Some(())
    }

    fn notes(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (head, _) = outcome_records::parse_notes(record.payload)?;
        self.note_name(head.queue_id, "", head.queue);
        Some(())
    }

    /// Notes the name of a queue; an empty virtual host means that it is not known here.
    fn note_name(&mut self, id: QueueId, vhost: &str, name: &str) {
        // The empty name stands for messages that reached no queue.
        if !name.is_empty() {
            self.names.entry(id).or_insert_with(|| (vhost.into(), name.into()));
        }
    }

    /// Through the default exchange, the routing key of a message is the name of its queue.
    fn note_address(&mut self, record: &MessageRecord<'_>) -> Option<()> {
        let id = record.queues().next().filter(|_| record.queue_count() == 1)?;
        if self.names.contains_key(&id) {
            return None;
        }
        let message = Message::from_encoded(record.message)?;
        let (properties, tracking) = (message.properties().ok()?, message.tracking()?);
        if message.exchange().is_empty() && tracking.outcome_of.is_none() {
            let message_id = properties.message_id.unwrap_or_default();
            let realms = self.definitions.vhosts.iter().map(|(name, of)| realm(name, *of));
            let is_of = |realm: &Arc<str>| IdHash::new(realm, message_id).0 == tracking.id;
            let realm = realms.into_iter().find(is_of)?;
            self.note_name(id, &realm, message.routing_key().to_str().ok()?);
        }
        Some(())
    }

    fn settled(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (id, _, positions) = records::parse_settled(record.payload)?;
        positions.for_each(|position| self.settle(id, position));
        Some(())
    }

    fn outcomes(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (head, entries) = outcome_records::parse_outcomes(record.payload)?;
        self.note_name(head.queue_id, head.vhost, head.queue);
        let settled = entries.filter_map(|entry| entry.settled_position());
        settled.for_each(|position| self.settle(head.queue_id, position));
        Some(())
    }

    fn settle(&mut self, id: QueueId, position: u64) {
        let queue = self.queues.entry(id).or_default();
        if queue.kill(position).is_none()
            && let Some(&position) = self.moved.get(&position)
        {
            queue.kill(position);
        }
    }

    fn missed(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (id, positions) = outcome_records::parse_missed(record.payload)?;
        let queue = self.queues.entry(id).or_default();
        for position in positions {
            let position = self.moved.get(&position).copied().unwrap_or(position);
            if let Some(at) = queue.find(position) {
                queue.messages[at].restored.missed_deadline = true;
            }
        }
        Some(())
    }

    fn attempts(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (id, attempts) = records::parse_attempts(record.payload)?;
        let queue = self.queues.entry(id).or_default();
        for attempt in attempts {
            let position = attempt.position;
            let position = self.moved.get(&position).copied().unwrap_or(position);
            if let Some(at) = queue.find(position) {
                // Compaction writes old counts after newer ones.
                let attempts = &mut queue.messages[at].restored.attempts;
                *attempts = attempt.count.max(*attempts);
            }
        }
        Some(())
    }

    fn definition(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let end = record.position + record.size_bytes();
        let change = Change::decode(record.payload).ok()?;
        match &change {
            Change::QueuePut { vhost, queue } => {
                self.note_name(QueueId(queue.id), vhost, &queue.name);
            }
            Change::QueueDeleted { vhost, name, id } => self.note_name(QueueId(*id), vhost, name),
            _ => {}
        }
        if end <= self.applied {
            return Some(());
        }
        self.definitions.apply(&change);
        self.changes.push(change);
        self.changes_end = end;
        Some(())
    }
}

impl QueueScan {
    fn find(&mut self, position: u64) -> Option<usize> {
        let is_there = |found: &Found| found.restored.position == position;
        let next = self.hint + 1;
        if self.messages.get(next).is_some_and(is_there) {
            self.hint = next;
            return Some(next);
        }
        let at = self.messages.binary_search_by_key(&position, |f| f.restored.position).ok()?;
        self.hint = at;
        Some(at)
    }

    /// Takes out the message at a position; returns what was known about it.
    fn kill(&mut self, position: u64) -> Option<Restored> {
        let at = self.find(position)?;
        let found = &mut self.messages[at];
        if found.origin == DEAD {
            return None;
        }
        found.origin = DEAD;
        self.dead_count += 1;
        let killed = found.restored;
        // A queue with much traffic must not grow by what is long gone.
        if self.dead_count > 1024 && self.dead_count > self.messages.len() / 2 {
            self.messages.retain(|found| found.origin != DEAD);
            self.dead_count = 0;
            self.hint = 0;
        }
        Some(killed)
    }

    fn into_living(mut self) -> Vec<Restored> {
        self.messages.retain(|found| found.origin != DEAD);
        if self.has_moved {
            self.messages.sort_by_key(|found| found.origin);
        }
        self.messages.into_iter().map(|found| found.restored).collect()
    }
}

#[cfg(test)]
mod tests;
