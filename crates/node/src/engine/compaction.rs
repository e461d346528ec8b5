//! Compaction: what is still alive in mostly dead segments is written again at the end of the log,
//! so that the segments can be deleted.
//!
//! Messages that queues still hold are appended as *moved*: the record names the old position, so
//! that a settlement which reaches the log later but names the old position still finds its message
//! at recovery. Settlements of messages in other segments are carried along. Once all that is
//! durable, nothing in the old segments is needed any more, and the committer deletes them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use broker::Position;
use broker::queue::{Attempt, EntryRef};
use segment_log::{LogError, RecordRef};

use super::Engine;
use crate::NodeError;
use crate::registry::LiveQueue;
use crate::store::outcome_records::{self, OutcomeEntry};
use crate::store::records::{self, MessageRecord, Moved};

/// Entries of a queue that are looked at under its lock in one go.
const ENTRIES_AT_A_TIME: usize = 4096;

/// The queues that hold a message that must move.
type Holders = Vec<(Arc<LiveQueue>, EntryRef)>;

/// Some segments while they are being emptied.
struct Compaction<'a> {
    engine: &'a Engine,
    victims: &'a BTreeSet<u64>,
    /// By position, the messages in them that queues still hold.
    holders: HashMap<u64, Holders>,
    /// Old and new positions of moved messages.
    moves: Vec<(u64, u64)>,
}

impl Engine {
    /// Empties a few mostly dead segments, if there are any.
    pub(crate) fn compact(&self) -> Result<(), NodeError> {
        let victims = self.store.begin_emptying();
        if victims.is_empty() {
            return Ok(());
        }
        let (holders, moves) = (self.holders(&victims), Vec::new());
        let mut compaction = Compaction { engine: self, victims: &victims, holders, moves };
        let moved = victims.iter().try_for_each(|&base| compaction.move_forward(base));
        compaction.relocate_all();
        // If a segment cannot be read to its end, the victims stay as they are, and are not tried
        // again until a restart has looked at the damage.
        moved?;
        let messages = compaction.moves.len();
        tracing::debug!(segments = victims.len(), messages, "log compacted");
        self.store.emptied_once_durable(victims)
    }

    /// The messages in these segments that queues still hold.
    fn holders(&self, victims: &BTreeSet<u64>) -> HashMap<u64, Holders> {
        let ranges = self.store.ranges(victims);
        let wanted = |position: u64| ranges.iter().any(|range| range.contains(&position));
        let mut holders: HashMap<u64, Holders> = HashMap::new();
        for queue in self.registry.all_queues() {
            let mut at = Some((0, 0));
            let mut found = Vec::new();
            while let Some(from) = at {
                let state = queue.state.lock();
                at = state.core.positions_in(&wanted, from, ENTRIES_AT_A_TIME, &mut found);
            }
            for entry in found {
                let of_message = holders.entry(entry.position).or_default();
                of_message.push((Arc::clone(&queue), entry));
            }
        }
        holders
    }

    /// Tells the queues where their message is now. If it was settled meanwhile, that is logged
    /// again for the new position.
    fn relocate(&self, holders: &Holders, old: u64, new: u64) {
        for (queue, entry) in holders {
            let mut state = queue.state.lock();
            let relocated = !state.is_deleted && state.core.relocate(entry.id, old, new);
            let missed = relocated && state.core.missed_deadline(entry.id);
            drop(state);
            if missed && !entry.missed_deadline {
                // It was settled after this began, with the old position.
                self.store.append(None, |a| {
                    let new = std::iter::once(new);
                    outcome_records::append_missed(a.batch, queue.id, new, a.scratch);
                });
            }
            if relocated {
                self.store.moved_from(old);
            } else {
                self.log_lost(queue, Some(Position::new(new)));
            }
        }
    }
}

impl Compaction<'_> {
    /// Appends what is alive in one segment, or still needed from it.
    fn move_forward(&mut self, base: u64) -> Result<(), NodeError> {
        let engine = self.engine;
        match engine.store.scan_segment(base, &mut |record| self.carry(&record)) {
            // Its last message was settled meanwhile, and the committer was faster.
            Ok(()) | Err(LogError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is not understood is not carried along: recovery does not understand it either.
    fn carry(&mut self, record: &RecordRef<'_>) {
        let _ = match record.kind {
            records::MESSAGE => self.carry_message(record),
            records::SETTLED => self.carry_settlements(record),
            outcome_records::OUTCOMES => self.carry_outcomes(record),
            outcome_records::MISSED => self.carry_missed(record),
            records::ATTEMPTS => self.carry_attempts(record),
            _ => None,
        };
    }

    fn carry_message(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let old = MessageRecord::parse(record)?;
        let holders = self.holders.get(&record.position)?;
        let from = record.position;
        let origin = old.moved.map_or(from, |moved| moved.origin);
        let ids = holders.iter().map(|(queue, _)| queue.id);
        let moved = Moved { from, origin };
        let is_tracked = old.tracking().is_some();
        let (new, _) = self.engine.store.append(None, |appender| {
            let new = records::append_moved(appender.batch, ids, moved, &old);
            for (queue, entry) in holders {
                let count = entry.id.attempt();
                if count > 0 && (queue.settings().counts_deliveries || is_tracked) {
                    let attempt = Attempt { position: new, count };
                    records::append_attempts(appender.batch, queue.id, &[attempt]);
                }
                if entry.missed_deadline {
                    let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
                    let new = std::iter::once(new);
                    outcome_records::append_missed(batch, queue.id, new, scratch);
                }
            }
            new
        });
        self.moves.push((from, new));
        Some(())
    }

    fn carry_settlements(&self, record: &RecordRef<'_>) -> Option<()> {
        let (queue, reason, positions) = records::parse_settled(record.payload)?;
        let kept: Vec<u64> = positions.filter(|position| self.stays(*position)).collect();
        if !kept.is_empty() {
            self.engine.store.append(None, |a| {
                records::append_carried(a.batch, queue, reason, kept.into_iter(), a.scratch);
            });
        }
        Some(())
    }

    /// The outcomes themselves are in the ledger by now, or this segment would not have been
    /// chosen.
    fn carry_outcomes(&self, record: &RecordRef<'_>) -> Option<()> {
        let (head, entries) = outcome_records::parse_outcomes(record.payload)?;
        let settled = |entry: OutcomeEntry<'_>| {
            let position = entry.settled_position().filter(|&position| self.stays(position))?;
            Some((entry.verdict.reason.map_or(0, |reason| reason as u8), position))
        };
        let kept: Vec<(u8, u64)> = entries.filter_map(settled).collect();
        for run in kept.chunk_by(|a, b| a.0 == b.0) {
            let positions = run.iter().map(|(_, position)| *position);
            self.engine.store.append(None, |a| {
                records::append_carried(a.batch, head.queue_id, run[0].0, positions, a.scratch);
            });
        }
        Some(())
    }

    fn carry_missed(&self, record: &RecordRef<'_>) -> Option<()> {
        let (queue, positions) = outcome_records::parse_missed(record.payload)?;
        let kept = positions.filter(|position| self.stays(*position));
        let kept: Vec<u64> = kept.collect();
        self.engine.store.append(None, |a| {
            outcome_records::append_missed(a.batch, queue, kept.into_iter(), a.scratch);
        });
        Some(())
    }

    fn carry_attempts(&self, record: &RecordRef<'_>) -> Option<()> {
        let (queue, attempts) = records::parse_attempts(record.payload)?;
        let kept: Vec<Attempt> = attempts.filter(|attempt| self.stays(attempt.position)).collect();
        if !kept.is_empty() {
            self.engine.store.append(None, |a| records::append_attempts(a.batch, queue, &kept));
        }
        Some(())
    }

    /// Whether a position is that of a message in another segment that still stands.
    fn stays(&self, position: u64) -> bool {
        self.engine.store.stays(position, self.victims)
    }

    fn relocate_all(&self) {
        for (old, new) in &self.moves {
            self.engine.relocate(&self.holders[old], *old, *new);
        }
    }
}
