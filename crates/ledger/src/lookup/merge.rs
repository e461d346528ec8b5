//! Merges several runs into one.
//!
//! Owns the current merge and the choice of runs for the next one. Works in steps; the runs it
//! reads stay in use until it is done. Entries that are too old are left out on the way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{Kind, VALUE_MASK, value_of};
use super::run::{BLOCK_SIZE, Run, entries, is_intact};
use super::write::RunWriter;
use crate::device::{Files, read_full};

/// Blocks of a run that are read at a time.
const READ_BLOCKS: usize = 16;
/// The most runs merged at a time.
const WIDTH_MAX: usize = 8;
/// How often an entry is merged. Larger runs stay as they are until they are too old: entries of
/// about the same age go together, and no merge needs room for another large run.
const TIER_COUNT: u32 = 2;

/// A merge in progress.
pub(super) struct Merge {
    kind: Kind,
    inputs: Vec<Scan>,
    writer: RunWriter,
    /// Entries with values below this are left out.
    floor: u64,
    /// Not written yet: another entry with the same key may follow.
    held: Option<u128>,
}

impl Merge {
    pub(super) fn new(
        files: &dyn Files,
        kind: Kind,
        number: u64,
        runs: Vec<Arc<Run>>,
        floor: u64,
    ) -> io::Result<Self> {
        let entry_count = runs.iter().map(|run| run.stat.entry_count).sum();
        Ok(Self {
            kind,
            inputs: runs.into_iter().map(Scan::new).collect(),
            writer: RunWriter::new(files, kind, number, entry_count)?,
            floor,
            held: None,
        })
    }

    /// The number of the run it writes.
    pub(super) fn number(&self) -> u64 {
        self.writer.number()
    }

    /// The numbers of the runs that take part.
    pub(super) fn inputs(&self) -> impl Iterator<Item = u64> {
        self.inputs.iter().map(|input| input.run.stat.number)
    }

    /// Whether a run takes part.
    pub(super) fn has(&self, run: &Run) -> bool {
        self.inputs().any(|number| number == run.stat.number)
    }

    /// Whether a block of one of the runs could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.inputs.iter().any(|input| input.run.is_damaged.load(Ordering::Relaxed))
    }

    /// Merges some more entries. Returns whether all are done.
    pub(super) fn step(&mut self, entry_count: u64) -> io::Result<bool> {
        for _ in 0..entry_count {
            let mut least: Option<(usize, u128)> = None;
            for (at, input) in self.inputs.iter_mut().enumerate() {
                if let Some(entry) = input.peek()?
                    && least.is_none_or(|(_, other)| entry < other)
                {
                    least = Some((at, entry));
                }
            }
            let Some((at, entry)) = least else {
                self.release()?;
                return Ok(true);
            };
            self.inputs[at].advance();
            if value_of(entry) < self.floor {
                continue;
            }
            let is_same = self.held.is_some_and(|held| match self.kind {
                Kind::Index => held == entry,
                Kind::Window => held & !VALUE_MASK == entry & !VALUE_MASK,
            });
            if !is_same {
                self.release()?;
            }
            self.held = Some(entry);
        }
        Ok(false)
    }

    fn release(&mut self) -> io::Result<()> {
        self.held.take().map_or(Ok(()), |entry| self.writer.push(entry))
    }

    /// The new run, unless nothing is left.
    pub(super) fn finish(self) -> io::Result<Option<Run>> {
        if self.writer.is_empty() { Ok(None) } else { self.writer.finish().map(Some) }
    }
}

/// Iterates over a run's entries.
struct Scan {
    run: Arc<Run>,
    /// The next block to read.
    block: u64,
    buffer: Vec<u8>,
    entries: Vec<u128>,
    at: usize,
}

impl Scan {
    fn new(run: Arc<Run>) -> Self {
        Self { run, block: 0, buffer: Vec::new(), entries: Vec::new(), at: 0 }
    }

    fn peek(&mut self) -> io::Result<Option<u128>> {
        while self.at == self.entries.len() {
            if self.block == self.run.block_count() {
                return Ok(None);
            }
            self.fill()?;
        }
        Ok(Some(self.entries[self.at]))
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn fill(&mut self) -> io::Result<()> {
        self.entries.clear();
        self.at = 0;
        let count = (self.run.block_count() - self.block).min(READ_BLOCKS as u64) as usize;
        self.buffer.resize(count * BLOCK_SIZE, 0);
        let offset = self.block * BLOCK_SIZE as u64;
        let filled = read_full(&*self.run.file, &mut self.buffer, offset)?;
        for (number, bytes) in (self.block..).zip(self.buffer.chunks(BLOCK_SIZE)) {
            let is_there = filled as u64 >= (number - self.block + 1) * BLOCK_SIZE as u64;
            if is_there && is_intact(number, bytes) {
                self.entries.extend(entries(&bytes[..self.run.block_len(number) * 16]));
            } else {
                self.run.note_damage(number);
            }
        }
        self.block += count as u64;
        Ok(())
    }
}

/// Which runs to merge next: enough of about the same size to make it worthwhile, or one of which
/// more than half is too old.
pub(super) fn choose(
    runs: &[Arc<Run>],
    memory_entries: usize,
    fan_in: usize,
    floor: u64,
) -> Option<Vec<Arc<Run>>> {
    let tier = |run: &Run| {
        let (mut tier, mut bound) = (0_u32, memory_entries as u64 * 2);
        while run.stat.entry_count > bound {
            bound = bound.saturating_mul(fan_in as u64);
            tier += 1;
        }
        tier
    };
    for wanted in 0..TIER_COUNT {
        let of_tier: Vec<_> = runs.iter().filter(|run| tier(run) == wanted).cloned().collect();
        if of_tier.len() >= fan_in {
            return Some(of_tier.into_iter().take(WIDTH_MAX.max(fan_in)).collect());
        }
    }
    let is_stale = |run: &&Arc<Run>| {
        let (span, dead) = (run.max_value - run.min_value, floor.saturating_sub(run.min_value));
        dead > span / 2
    };
    runs.iter().find(is_stale).map(|run| vec![Arc::clone(run)])
}
