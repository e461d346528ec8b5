//! Compaction: what still lives in mostly dead segments is written again at the end of the log, so
//! that the segments can go.
//!
//! Messages that queues still hold are appended as *moved*: the record names the old position, so
//! that a settlement which reaches the log after it, naming the old one, still finds its message at
//! recovery. Settlements of messages in other segments are carried along. When all that is durable
//! the old segments hold nothing any more, and the committer deletes them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::queue::{Attempt, Standing};
use segment_log::LogError;

use super::Store;
use super::outcome_records;
use super::records::{self, MessageRecord, Moved};
use crate::NodeError;
use crate::live_queue::LiveQueue;
use crate::node::Node;

/// Segments taken at a time.
const VICTIMS_MAX: usize = 4;
/// Entries of a queue looked at under its lock at a time.
const ENTRIES_AT_A_TIME: usize = 4096;

impl Store {
    /// What was appended last is all that these segments still held: they may go once it is durable,
    /// which a later round sees. The keeper never waits, however full the disk.
    fn emptied_once_durable(&self, victims: BTreeSet<u64>) -> Result<(), NodeError> {
        let ((), end) = self.append(None, |_| ());
        *self.emptying.lock() = Some((end, victims));
        if !self.has_committer.load(Ordering::Acquire) {
            self.commit()?;
        }
        self.finish_emptying();
        Ok(())
    }

    /// Whether no segments wait to go any more.
    fn finish_emptying(&self) -> bool {
        let mut emptying = self.emptying.lock();
        if emptying.as_ref().is_some_and(|(end, _)| *end > self.durable()) {
            return false;
        }
        let done = emptying.take();
        drop(emptying);
        if let Some((_, victims)) = done {
            self.segments.lock().carried_forward(&victims);
        }
        true
    }
}

/// A message that must move: the queues that hold it.
type Holders = Vec<(Arc<LiveQueue>, Standing)>;

impl Node {
    /// Empties a few mostly dead segments, if there are any.
    pub(crate) fn compact(&self) -> Result<(), NodeError> {
        // While nothing can be written, what would be moved only piles up in memory.
        if self.store.stuck().is_some() || !self.store.finish_emptying() {
            return Ok(());
        }
        let ledger_applied = self.store.ledger_applied.load(Ordering::Acquire);
        let compactable = self.store.segments.lock().compactable(ledger_applied);
        // What is mostly dead now is all dead in a moment where messages just pass through.
        let before = std::mem::replace(&mut *self.store.mostly_dead.lock(), compactable.clone());
        let victims: BTreeSet<u64> =
            compactable.intersection(&before).copied().take(VICTIMS_MAX).collect();
        if victims.is_empty() {
            return Ok(());
        }
        self.store.segments.lock().begin_emptying(&victims);
        let holders = self.holders(&victims);
        let mut moves = Vec::new();
        let moved = victims
            .iter()
            .try_for_each(|&base| self.move_forward(base, &victims, &holders, &mut moves));
        for (old, new) in &moves {
            self.relocate(&holders[old], *old, *new);
        }
        // With a segment that cannot be read to its end the victims stay as they are, and are not
        // tried again before a restart has looked at the damage.
        moved?;
        tracing::debug!(segments = victims.len(), messages = moves.len(), "log compacted");
        self.store.emptied_once_durable(victims)
    }

    /// The messages in these segments that queues still hold.
    fn holders(&self, victims: &BTreeSet<u64>) -> HashMap<u64, Holders> {
        let ranges = self.store.segments.lock().ranges(victims);
        let wanted = |position: u64| ranges.iter().any(|range| range.contains(&position));
        let mut holders: HashMap<u64, Holders> = HashMap::new();
        for queue in self.all_queues() {
            let mut at = Some((0, 0));
            let mut found = Vec::new();
            while let Some(from) = at {
                let state = queue.state.lock();
                at = state.core.positions_in(&wanted, from, ENTRIES_AT_A_TIME, &mut found);
            }
            for standing in found {
                let of_message = holders.entry(standing.position).or_default();
                of_message.push((Arc::clone(&queue), standing));
            }
        }
        holders
    }

    fn move_forward(
        &self,
        base: u64,
        victims: &BTreeSet<u64>,
        holders: &HashMap<u64, Holders>,
        moves: &mut Vec<(u64, u64)>,
    ) -> Result<(), NodeError> {
        let store = &self.store;
        // Of a message in another segment that still stands.
        let stays = |position: u64| {
            let base = store.segments.lock().base_of(position);
            base.is_some_and(|base| !victims.contains(&base))
        };
        let scanned = store.reader.scan_segment(base, &mut |record| match record.kind {
            records::MESSAGE => {
                let (Some(old), Some(holders)) =
                    (MessageRecord::parse(&record), holders.get(&record.position))
                else {
                    return;
                };
                let from = record.position;
                let origin = old.moved.map_or(from, |moved| moved.origin);
                let ids = holders.iter().map(|(queue, _)| queue.id);
                let moved = Moved { from, origin };
                let (new, _) = store.append(None, |appender| {
                    let new = records::append_moved(appender.batch, ids, moved, &old);
                    let is_tracked = old.tracking().is_some();
                    let counts = |queue: &LiveQueue| queue.counts_deliveries || is_tracked;
                    for (queue, standing) in holders {
                        let count = standing.id.attempt();
                        if count > 0 && counts(queue) {
                            let attempt = Attempt { position: new, count };
                            records::append_attempts(appender.batch, queue.id, &[attempt]);
                        }
                        if standing.missed_deadline {
                            let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
                            let new = std::iter::once(new);
                            outcome_records::append_missed(batch, queue.id, new, scratch);
                        }
                    }
                    new
                });
                moves.push((from, new));
            }
            records::SETTLED => {
                let Some((queue, reason, positions)) = records::parse_settled(record.payload)
                else {
                    return;
                };
                let kept: Vec<u64> = positions.filter(|position| stays(*position)).collect();
                if !kept.is_empty() {
                    store.append(None, |appender| {
                        let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
                        records::append_carried(batch, queue, reason, kept.into_iter(), scratch);
                    });
                }
            }
            // Its outcome is in the ledger by now, or this segment were not looked at.
            outcome_records::OUTCOMES => {
                let Some((head, entries)) = outcome_records::parse_outcomes(record.payload) else {
                    return;
                };
                let settled = |entry: outcome_records::OutcomeEntry<'_>| {
                    let position = entry.settled_position().filter(|&position| stays(position))?;
                    Some((entry.verdict.reason.map_or(0, |reason| reason as u8), position))
                };
                let kept: Vec<(u8, u64)> = entries.filter_map(settled).collect();
                for run in kept.chunk_by(|a, b| a.0 == b.0) {
                    store.append(None, |appender| {
                        let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
                        let positions = run.iter().map(|(_, position)| *position);
                        records::append_carried(batch, head.queue_id, run[0].0, positions, scratch);
                    });
                }
            }
            outcome_records::MISSED => {
                let Some((queue, positions)) = outcome_records::parse_missed(record.payload) else {
                    return;
                };
                let kept: Vec<u64> = positions.filter(|position| stays(*position)).collect();
                store.append(None, |a| {
                    outcome_records::append_missed(a.batch, queue, kept.into_iter(), a.scratch);
                });
            }
            records::ATTEMPTS => {
                let Some((queue, attempts)) = records::parse_attempts(record.payload) else {
                    return;
                };
                let attempts = attempts.filter(|attempt| stays(attempt.position));
                let kept: Vec<Attempt> = attempts.collect();
                if !kept.is_empty() {
                    store.append(None, |a| records::append_attempts(a.batch, queue, &kept));
                }
            }
            _ => {}
        });
        match scanned {
            // Its last message was settled meanwhile, and the committer was faster.
            Ok(()) | Err(LogError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the queues where their message is now. Where it was settled meanwhile, that is said
    /// again for the new position.
    fn relocate(&self, holders: &Holders, old: u64, new: u64) {
        for (queue, standing) in holders {
            let mut state = queue.state.lock();
            let relocated = !state.is_deleted && state.core.relocate(standing.id, old, new);
            let missed = relocated && state.core.missed_deadline(standing.id);
            drop(state);
            if missed && !standing.missed_deadline {
                // It was told since this began, of the old position.
                self.store.append(None, |a| {
                    let new = std::iter::once(new);
                    outcome_records::append_missed(a.batch, queue.id, new, a.scratch);
                });
            }
            if relocated {
                self.store.segments.lock().moved_from(old);
            } else {
                self.log_lost(queue, new);
            }
        }
    }
}
