//! Everything that is maintained besides the log: runs, the manifest, and what may be forgotten.
//!
//! Owns the runs of both lookups and the order in which files come and go. A disk error here loses
//! nothing: the log has everything, so the error is logged and the work tried again later.

use std::io;
use std::sync::Arc;

use crate::device::Files;
use crate::lookup::{Lookup, Numbers, RunSet};
use crate::manifest::{Listing, Manifest};
use crate::options::Sizes;

/// What the writer maintains besides the log.
pub(crate) struct Upkeep {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) numbers: Numbers,
    pub(crate) index: RunSet,
    pub(crate) window: RunSet,
    /// Whether it is the window's turn.
    is_windows_turn: bool,
}

impl Upkeep {
    pub(crate) fn new(files: Arc<dyn Files>, sizes: &Sizes) -> Self {
        let run_set = || RunSet::new(sizes.memory_entries, sizes.fan_in, sizes.step_entries);
        Self {
            files,
            numbers: Numbers::default(),
            index: run_set(),
            window: run_set(),
            is_windows_turn: false,
        }
    }

    /// Does one step of work, for index and window in turn: if both wrote a run at once, the flush
    /// would take long. All pages before `durable` are durable.
    pub(crate) fn work(&mut self, index: &Lookup, window: &Lookup, durable: u64) {
        if self.is_windows_turn {
            self.window.work(window, &*self.files, &mut self.numbers, durable);
        } else {
            self.index.work(index, &*self.files, &mut self.numbers, durable);
        }
        self.is_windows_turn = !self.is_windows_turn;
        self.settle(index, window);
    }

    /// Writes the window's entries to disk, so that it can do without the pages before `durable`.
    /// Returns whether it now can.
    pub(crate) fn detach_window(&mut self, index: &Lookup, window: &Lookup, durable: u64) -> bool {
        self.window.spill(window, &*self.files, &mut self.numbers, durable)
            && self.settle(index, window)
    }

    /// Brings the manifest up to date, and removes files that are no longer needed. Returns whether
    /// the manifest is up to date.
    pub(crate) fn settle(&mut self, index: &Lookup, window: &Lookup) -> bool {
        if !self.numbers.is_dirty {
            return true;
        }
        if let Err(error) = self.try_settle(index, window) {
            tracing::warn!(%error, "the ledger's manifest could not be written; tried again later");
            return false;
        }
        true
    }

    fn try_settle(&mut self, index: &Lookup, window: &Lookup) -> io::Result<()> {
        let listing = |run_set: &RunSet, lookup| {
            let (covered, runs) = run_set.listing(lookup);
            Listing { covered, runs }
        };
        let manifest = Manifest {
            next_number: self.numbers.next,
            index: listing(&self.index, index),
            window: listing(&self.window, window),
        };
        manifest.store(&*self.files)?;
        self.numbers.is_dirty = false;
        for name in std::mem::take(&mut self.numbers.garbage) {
            match self.files.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, name, "a file of the ledger could not be removed");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes of all runs.
    pub(crate) fn size_bytes(&self, index: &Lookup, window: &Lookup) -> u64 {
        self.index.size_bytes(index) + self.window.size_bytes(window)
    }
}
