//! Which segments are still needed: counted from the same records that recovery reads.
//!
//! A segment may be deleted when none of its messages is in a queue any more, when its settlements
//! and attempts concern no message in a segment that still exists (otherwise a restart would bring
//! those messages back), and when its definitions have reached the definition store. A segment that
//! compaction is emptying stays until everything taken out of it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use segment_log::{RecordRef, SegmentStat};

use super::outcome_records;
use super::records::{self, MessageRecord};

/// A segment is worth compacting when at most one in this many of its references is alive.
const COMPACT_SHARE: u64 = 4;
/// And when at most one in this many of its bytes must be written again for what is settled
/// elsewhere: otherwise settlements of messages that stay would be carried along for ever.
const CARRY_SHARE: u64 = 2;

/// Roughly the size of a record of settlements or attempts without its entries, and of each entry.
const CARRIED_RECORD_BYTES: u64 = 25;
const SETTLEMENT_BYTES: u64 = 4;
const ATTEMPT_BYTES: u64 = 10;
const MISSED_BYTES: u64 = 8;

#[derive(Debug, Default, Clone)]
struct Segment {
    /// `None` while it grows.
    end: Option<u64>,
    references_total: u64,
    references_live: u64,
    /// Segments whose messages are settled or counted in this one, and roughly how many bytes of it
    /// that takes.
    settles_for: BTreeMap<u64, u64>,
    /// Whether compaction is emptying it.
    is_being_emptied: bool,
    /// Position after its last change of the definitions.
    definitions_until: u64,
    /// Position after the last of its records that the ledger is made from.
    ledger_until: u64,
}

/// See the module's documentation. A segment is identified by its base position.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    segments: BTreeMap<u64, Segment>,
    active: u64,
}

impl Segments {
    /// A segment exists; the last one added takes new records.
    pub(crate) fn add(&mut self, base: u64) {
        if base > self.active
            && let Some(before) = self.segments.get_mut(&self.active)
        {
            before.end.get_or_insert(base);
        }
        self.segments.entry(base).or_default();
        self.active = self.active.max(base);
    }

    /// A segment file was found, before recovery has read it.
    pub(crate) fn found(&mut self, base: u64) {
        self.segments.entry(base).or_default().end = Some(base);
        self.active = self.active.max(base);
    }

    /// Recovery has read a segment up to the end of this record. So a position in a missing segment
    /// is not mistaken for one in the segment before it.
    pub(crate) fn reaches(&mut self, record: &RecordRef<'_>) {
        if let Some((_, segment)) = self.segments.range_mut(..=record.position).next_back() {
            segment.end = Some(record.end());
        }
    }

    /// Counts a record in the active segment, or in an older one during recovery.
    pub(crate) fn account(&mut self, record: &RecordRef<'_>) {
        match record.kind {
            records::MESSAGE => {
                let Some(message) = MessageRecord::parse(record) else { return };
                let count = message.queue_count();
                if let Some(segment) = self.at(record.position) {
                    segment.references_total += count;
                    segment.references_live += count;
                }
                if message.is_for_ledger {
                    self.needed_by_ledger(record.position);
                }
                if let Some(moved) = message.moved {
                    // Compaction itself counts what it could move.
                    self.depend(record.position, std::iter::once(moved.from), 0);
                }
            }
            records::SETTLED => {
                let Some((_, _, positions)) = records::parse_settled(record.payload) else {
                    return;
                };
                if record.flags & records::FLAG_CARRIED == 0 {
                    self.release_all(record.position, positions);
                } else {
                    self.depend(record.position, positions, SETTLEMENT_BYTES);
                }
            }
            records::ATTEMPTS => {
                if let Some((_, attempts)) = records::parse_attempts(record.payload) {
                    let positions = attempts.map(|attempt| attempt.position);
                    self.depend(record.position, positions, ATTEMPT_BYTES);
                }
            }
            records::DEFINITION => {
                let end = record.position + 1;
                if let Some(segment) = self.at(record.position) {
                    segment.definitions_until = segment.definitions_until.max(end);
                }
            }
            outcome_records::OUTCOMES => {
                let Some((_, entries)) = outcome_records::parse_outcomes(record.payload) else {
                    return;
                };
                let settled = entries.filter_map(|entry| entry.settled_position());
                self.release_all(record.position, settled);
                self.needed_by_ledger(record.position);
            }
            outcome_records::NOTES => self.needed_by_ledger(record.position),
            outcome_records::MISSED => {
                if let Some((_, positions)) = outcome_records::parse_missed(record.payload) {
                    self.depend(record.position, positions, MISSED_BYTES);
                }
            }
            _ => {}
        }
    }

    fn needed_by_ledger(&mut self, position: u64) {
        if let Some(segment) = self.at(position) {
            segment.ledger_until = segment.ledger_until.max(position + 1);
        }
    }

    /// After recovery: these segments exist, and nothing in them is alive until
    /// [`Segments::add_live`] says so.
    pub(crate) fn retain(&mut self, segments: &[SegmentStat]) {
        self.segments.retain(|base, _| segments.iter().any(|segment| segment.base == *base));
        for stat in segments {
            self.add(stat.base);
            if let Some(segment) = self.segments.get_mut(&stat.base) {
                segment.references_live = 0;
                segment.end = (!stat.is_active).then_some(stat.end);
            }
        }
    }

    /// After recovery: one queue holds the message at this position.
    pub(crate) fn add_live(&mut self, position: u64) {
        if let Some(segment) = self.at(position) {
            segment.references_live += 1;
        }
    }

    /// Segments that may be deleted now, when definitions and ledger have followed the log this
    /// far.
    pub(crate) fn deletable(&self, definitions_applied: u64, ledger_applied: u64) -> Vec<u64> {
        let is_deletable = |(base, segment): &(&u64, &Segment)| {
            **base != self.active
                && !segment.is_being_emptied
                && segment.references_live == 0
                && segment.definitions_until <= definitions_applied
                && segment.ledger_until <= ledger_applied
                && !segment.settles_for.keys().any(|other| self.segments.contains_key(other))
        };
        self.segments.iter().filter(is_deletable).map(|(&base, _)| base).collect()
    }

    /// Segments that hold little or nothing and still cannot be deleted; without those that only
    /// wait for the ledger, which is never far behind.
    pub(crate) fn compactable(&self, ledger_applied: u64) -> BTreeSet<u64> {
        let carried_bytes = |segment: &Segment| -> u64 {
            let stays = |(other, _): &(&u64, &u64)| self.segments.contains_key(other);
            segment.settles_for.iter().filter(stays).map(|(_, bytes)| bytes).sum()
        };
        let is_mostly_dead = |(base, segment): &(&u64, &Segment)| {
            let bytes = segment.end.map_or(0, |end| end - **base);
            **base != self.active
                && !segment.is_being_emptied
                && segment.ledger_until <= ledger_applied
                && segment.references_live * COMPACT_SHARE <= segment.references_total
                && carried_bytes(segment) * CARRY_SHARE <= bytes
        };
        self.segments.iter().filter(is_mostly_dead).map(|(&base, _)| base).collect()
    }

    /// Whether the current segment, of a log that reaches to `end`, holds little or nothing any
    /// more, so that closing it would free space.
    pub(crate) fn active_is_mostly_dead(&self, end: u64) -> bool {
        /// Less than this is not worth a segment.
        const WORTH_BYTES: u64 = 1 << 20;
        let Some(segment) = self.segments.get(&self.active) else { return false };
        end.saturating_sub(self.active) >= WORTH_BYTES
            && segment.references_live * COMPACT_SHARE <= segment.references_total
    }

    /// The positions that these segments cover.
    pub(crate) fn ranges(&self, bases: &BTreeSet<u64>) -> Vec<Range<u64>> {
        let range = |base: &u64| Some(*base..self.segments.get(base)?.end.unwrap_or(u64::MAX));
        bases.iter().filter_map(range).collect()
    }

    /// These segments must stay until [`Segments::carried_forward`].
    pub(crate) fn begin_emptying(&mut self, victims: &BTreeSet<u64>) {
        for (_, segment) in self.segments.iter_mut().filter(|(base, _)| victims.contains(base)) {
            segment.is_being_emptied = true;
        }
    }

    /// A queue's message is now further on.
    pub(crate) fn moved_from(&mut self, position: u64) {
        if let Some(segment) = self.at(position) {
            segment.references_live = segment.references_live.saturating_sub(1);
        }
    }

    /// What was in these segments is durable further on. What one of them says about another was
    /// left behind: they are deleted in order.
    pub(crate) fn carried_forward(&mut self, victims: &BTreeSet<u64>) {
        for (_, segment) in self.segments.iter_mut().filter(|(base, _)| victims.contains(base)) {
            segment.is_being_emptied = false;
            segment.settles_for.retain(|other, _| victims.contains(other));
        }
    }

    pub(crate) fn remove(&mut self, base: u64) {
        self.segments.remove(&base);
    }

    /// The segment that holds a position, if it still exists.
    pub(crate) fn base_of(&self, position: u64) -> Option<u64> {
        let (&base, segment) = self.segments.range(..=position).next_back()?;
        segment.end.is_none_or(|end| position < end).then_some(base)
    }

    /// Segments that contain records from `position` on from which the ledger is made.
    pub(crate) fn for_ledger(&self, position: u64) -> Vec<u64> {
        let is_needed = |segment: &Segment| segment.ledger_until > position;
        self.segments.iter().filter(|(_, s)| is_needed(s)).map(|(&base, _)| base).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.segments.len()
    }

    fn at(&mut self, position: u64) -> Option<&mut Segment> {
        let base = self.base_of(position)?;
        self.segments.get_mut(&base)
    }

    /// The segment of `by` must not be deleted before these messages are.
    fn depend(&mut self, by: u64, positions: impl Iterator<Item = u64>, bytes_each: u64) {
        let Some(by_base) = self.base_of(by) else { return };
        let mut others: BTreeMap<u64, u64> = BTreeMap::new();
        for base in positions.filter_map(|position| self.base_of(position)) {
            let bytes =
                others.entry(base).or_insert(if bytes_each > 0 { CARRIED_RECORD_BYTES } else { 0 });
            *bytes += bytes_each;
        }
        others.remove(&by_base);
        if let Some(segment) = self.segments.get_mut(&by_base) {
            for (base, bytes) in others {
                *segment.settles_for.entry(base).or_default() += bytes;
            }
        }
    }

    /// Settlements nearly always come in order of position: neighbours share their segment.
    fn release_all(&mut self, by: u64, positions: impl Iterator<Item = u64>) {
        let Some(by_base) = self.base_of(by) else { return };
        let mut run: Option<(u64, u64, u64)> = None;
        for position in positions {
            match &mut run {
                Some((base, end, count)) if (*base..*end).contains(&position) => *count += 1,
                _ => {
                    self.release_run(by_base, run);
                    let base = self.base_of(position);
                    run = base.map(|base| {
                        let end = self.segments.get(&base).and_then(|segment| segment.end);
                        (base, end.unwrap_or(u64::MAX), 1)
                    });
                }
            }
        }
        self.release_run(by_base, run);
    }

    fn release_run(&mut self, by_base: u64, run: Option<(u64, u64, u64)>) {
        let Some((base, _, count)) = run else { return };
        if let Some(segment) = self.segments.get_mut(&base) {
            segment.references_live = segment.references_live.saturating_sub(count);
        }
        if base != by_base
            && let Some(segment) = self.segments.get_mut(&by_base)
        {
            let bytes = segment.settles_for.entry(base).or_default();
            *bytes += CARRIED_RECORD_BYTES + SETTLEMENT_BYTES * count;
        }
    }
}

#[cfg(test)]
mod tests;
