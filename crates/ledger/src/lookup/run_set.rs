//! Maintains a lookup: turns memory into runs, and runs into fewer runs.
//!
//! Owns what the one writer knows of a lookup besides its entries. Every call does a bounded amount
//! of work; the largest is writing a full memory. A disk that refuses costs nothing but time: the
//! entries stay where they are, and the work is tried again later. Never deletes a file: it says
//! which ones may be removed once the manifest no longer lists them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::Kind;
use super::find::Lookup;
use super::merge::{Merge, choose};
use super::run::{Run, RunError, RunStat, file_name};
use super::write::RunWriter;
use crate::device::Files;

/// Calls to skip after the disk has refused.
const PAUSE_CALLS: u32 = 64;
/// Entries merged per entry added, in addition to the fixed share: more than there are levels of
/// runs.
const MERGED_PER_INSERTED: u64 = 8;

/// Numbers for new runs, and files that are no longer needed.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) next: u64,
    /// Files to remove once a manifest without them is durable.
    pub(crate) garbage: Vec<String>,
    /// Whether the manifest is out of date.
    pub(crate) is_dirty: bool,
}

impl Numbers {
    fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// The writer's side of a lookup: what it needs to maintain the runs.
pub(crate) struct RunSet {
    /// Entries at which memory is full.
    memory_entries: usize,
    /// How many runs of about the same size are merged into one.
    fan_in: usize,
    /// Entries merged per call, at least.
    step_entries: u64,
    /// The pages before this position are all in runs.
    covered: u64,
    /// What `covered` will be when the frozen memory is in a run.
    frozen_covers: u64,
    /// Calls to wait after a failure.
    pause: u32,
    merge: Option<Merge>,
    inserted_count: u64,
}

impl RunSet {
    pub(crate) fn new(memory_entries: usize, fan_in: usize, step_entries: u64) -> Self {
        Self {
            memory_entries,
            fan_in,
            step_entries,
            covered: 0,
            frozen_covers: 0,
            pause: 0,
            merge: None,
            inserted_count: 0,
        }
    }

    /// The position before which all pages are in runs.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    pub(crate) fn set_covered(&mut self, covered: u64) {
        self.covered = covered;
    }

    /// Opens a run and adds it to the others; `false` if it is missing or damaged.
    pub(crate) fn adopt(
        &self,
        lookup: &Lookup,
        files: &dyn Files,
        number: u64,
        listed: Option<RunStat>,
    ) -> io::Result<bool> {
        match Run::open(files, lookup.kind, number, listed) {
            Ok(run) => {
                lookup.shared.write().runs.push(Arc::new(run));
                Ok(true)
            }
            Err(RunError::Lost) => Ok(false),
            Err(RunError::Io(error)) => Err(error),
        }
    }

    /// The runs for the manifest, and what they cover: nothing if one is known to be damaged, so
    /// that the next opening restores what it can from the pages.
    pub(crate) fn listing(&self, lookup: &Lookup) -> (u64, Vec<RunStat>) {
        let shared = lookup.shared.read();
        let is_damaged = shared.runs.iter().any(|run| run.is_damaged.load(Ordering::Relaxed));
        let covered = if is_damaged { 0 } else { self.covered };
        (covered, shared.runs.iter().map(|run| run.stat).collect())
    }

    /// Bytes of all runs.
    pub(crate) fn size_bytes(&self, lookup: &Lookup) -> u64 {
        lookup.shared.read().runs.iter().map(|run| run.stat.bytes).sum()
    }

    /// Whether memory holds enough for a run.
    fn is_full(&self, lookup: &Lookup) -> bool {
        let shared = lookup.shared.read();
        shared.frozen.is_some() || shared.active.len() >= self.memory_entries
    }

    /// Does one step of whatever there is to do. All pages before `durable` are durable.
    pub(crate) fn work(
        &mut self,
        lookup: &Lookup,
        files: &dyn Files,
        numbers: &mut Numbers,
        durable: u64,
    ) {
        self.drop_dead(lookup, numbers);
        self.spill_if_full(lookup, files, numbers, durable);
        if self.pause == 0 {
            self.merge(lookup, files, numbers);
        }
    }

    /// Writes the entries in memory to a run if there are enough for one. All pages before
    /// `durable` are durable.
    pub(crate) fn spill_if_full(
        &mut self,
        lookup: &Lookup,
        files: &dyn Files,
        numbers: &mut Numbers,
        durable: u64,
    ) {
        self.pause = self.pause.saturating_sub(1);
        if self.pause == 0 && self.is_full(lookup) {
            self.spill(lookup, files, numbers, durable);
        }
    }

    /// Writes the entries in memory to a run. Returns whether all pages before `durable`, which are
    /// durable, are in runs now.
    pub(crate) fn spill(
        &mut self,
        lookup: &Lookup,
        files: &dyn Files,
        numbers: &mut Numbers,
        durable: u64,
    ) -> bool {
        // Twice, in case a failure has left a frozen memory.
        for _ in 0..2 {
            let frozen = {
                let mut shared = lookup.shared.write();
                if shared.frozen.is_none() {
                    self.frozen_covers = durable;
                    shared.frozen = Some(Arc::new(std::mem::take(&mut shared.active)));
                }
                shared.frozen.clone().unwrap_or_default()
            };
            let number = numbers.take();
            let entries = frozen.sorted();
            drop(frozen);
            match write(lookup.kind, files, number, &entries) {
                Ok(run) => {
                    let mut shared = lookup.shared.write();
                    shared.runs.extend(run.map(Arc::new));
                    shared.frozen = None;
                    self.covered = self.frozen_covers;
                    numbers.is_dirty = true;
                }
                Err(error) => {
                    self.give_up(lookup, files, number, &error);
                    return false;
                }
            }
            if self.covered >= durable {
                return true;
            }
        }
        false
    }

    fn merge(&mut self, lookup: &Lookup, files: &dyn Files, numbers: &mut Numbers) {
        let inserted_count = lookup.shared.read().inserted_count;
        let inserted = inserted_count - self.inserted_count;
        self.inserted_count = inserted_count;
        if self.merge.is_none() {
            let runs = lookup.shared.read().runs.clone();
            let floor = lookup.floor();
            let Some(chosen) = choose(&runs, self.memory_entries, self.fan_in, floor) else {
                return;
            };
            let number = numbers.take();
            match Merge::new(files, lookup.kind, number, chosen, floor) {
                Ok(merge) => self.merge = Some(merge),
                Err(error) => return self.give_up(lookup, files, number, &error),
            }
        }
        let Some(mut merge) = self.merge.take() else { return };
        let number = merge.number();
        match merge.step(self.step_entries + inserted * MERGED_PER_INSERTED) {
            Ok(false) => self.merge = Some(merge),
            Ok(true) => {
                if let Err(error) = replace(lookup, files, numbers, merge) {
                    self.give_up(lookup, files, number, &error);
                }
            }
            Err(error) => self.give_up(lookup, files, number, &error),
        }
    }

    /// Drops the runs whose entries are all below the floor.
    fn drop_dead(&self, lookup: &Lookup, numbers: &mut Numbers) {
        let floor = lookup.floor();
        let is_dead = |run: &Run| {
            run.max_value < floor && !self.merge.as_ref().is_some_and(|merge| merge.has(run))
        };
        if !lookup.shared.read().runs.iter().any(|run| is_dead(run)) {
            return;
        }
        let mut shared = lookup.shared.write();
        for run in shared.runs.extract_if(.., |run| is_dead(run)) {
            numbers.garbage.push(file_name(lookup.kind, run.stat.number));
            numbers.is_dirty = true;
        }
    }

    /// Gives up writing the run of that number until later.
    fn give_up(&mut self, lookup: &Lookup, files: &dyn Files, number: u64, error: &io::Error) {
        let kind = lookup.kind.name();
        tracing::warn!(%error, kind, "a run of the ledger could not be written; tried again later");
        // It may not exist. If it cannot be removed now, the next opening removes it.
        drop(files.remove(&file_name(lookup.kind, number)));
        self.pause = PAUSE_CALLS;
    }
}

/// Replaces the runs that a merge has read with the one it has written.
fn replace(
    lookup: &Lookup,
    files: &dyn Files,
    numbers: &mut Numbers,
    merge: Merge,
) -> io::Result<()> {
    let inputs: Vec<_> = merge.inputs().collect();
    let is_damaged = merge.is_damaged();
    let name = file_name(lookup.kind, merge.number());
    let run = merge.finish()?;
    files.sync_directory()?;
    match &run {
        // What was lost on the way must be restored at the next opening.
        Some(run) => run.is_damaged.store(is_damaged, Ordering::Relaxed),
        None => numbers.garbage.push(name),
    }
    let mut shared = lookup.shared.write();
    shared.runs.retain(|run| !inputs.contains(&run.stat.number));
    shared.runs.extend(run.map(Arc::new));
    numbers.garbage.extend(inputs.iter().map(|number| file_name(lookup.kind, *number)));
    numbers.is_dirty = true;
    Ok(())
}

/// Writes sorted entries to a run and makes it durable, name included; `None` if there are none.
fn write(kind: Kind, files: &dyn Files, number: u64, entries: &[u128]) -> io::Result<Option<Run>> {
    if entries.is_empty() {
        return Ok(None);
    }
    let mut writer = RunWriter::new(files, kind, number, entries.len() as u64)?;
    entries.iter().try_for_each(|entry| writer.push(*entry))?;
    let run = writer.finish()?;
    files.sync_directory()?;
    Ok(Some(run))
}
