//! Adds entries and finds them again, wherever they are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::entry::{Kind, entry};
use super::memory::Memory;
use super::run::Run;

/// Entries, by key.
pub(crate) struct Lookup {
    pub(super) kind: Kind,
    pub(super) shared: RwLock<Shared>,
    /// Entries with values below this count as gone.
    floor: AtomicU64,
}

#[derive(Default)]
pub(super) struct Shared {
    /// The latest entries.
    pub(super) active: Memory,
    /// Entries that are being written to a run.
    pub(super) frozen: Option<Arc<Memory>>,
    pub(super) runs: Vec<Arc<Run>>,
    /// Entries added so far.
    pub(super) inserted_count: u64,
}

impl Lookup {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, shared: RwLock::default(), floor: AtomicU64::new(0) }
    }

    /// Adds a value, below 2^48, for a key.
    pub(crate) fn insert(&self, key: u128, value: u64) {
        let entry = entry(key, value);
        let mut shared = self.shared.write();
        shared.inserted_count += 1;
        match self.kind {
            Kind::Index => shared.active.insert(entry),
            Kind::Window => shared.active.raise(entry),
        }
    }

    /// Adds a value that follows from all that were added before: `after` says what becomes of the
    /// value there is. Only for entries of which the greatest counts.
    pub(crate) fn follow(&self, key: u128, value: u64, after: impl FnOnce(u64, u64) -> u64) {
        let mut shared = self.shared.write();
        shared.inserted_count += 1;
        let before = shared.active.greatest(key);
        let value = before.map_or(value, |before| after(before, value));
        shared.active.raise(entry(key, value));
    }

    /// Values below `floor` are no longer found.
    pub(crate) fn set_floor(&self, floor: u64) {
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// The number of runs, each of which is an open file.
    pub(crate) fn run_count(&self) -> usize {
        self.shared.read().runs.len()
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    /// All values of a key, in any order, some perhaps twice; and those of keys that differ only in
    /// the bits that were cut off.
    pub(crate) fn values(&self, key: u128) -> io::Result<Vec<u64>> {
        let mut values = Vec::new();
        let floor = self.floor();
        self.visit(key, &mut |value| values.extend((value >= floor).then_some(value)))?;
        Ok(values)
    }

    /// The greatest value of a key.
    pub(crate) fn latest(&self, key: u128) -> io::Result<Option<u64>> {
        let mut latest = None;
        self.visit(key, &mut |value| latest = latest.max(Some(value)))?;
        Ok(latest.filter(|value| *value >= self.floor()))
    }

    fn visit(&self, key: u128, tell: &mut dyn FnMut(u64)) -> io::Result<()> {
        // Usually stays empty and allocates nothing.
        let mut to_read = Vec::new();
        {
            let shared = self.shared.read();
            shared.active.values(key, tell);
            if let Some(frozen) = &shared.frozen {
                frozen.values(key, tell);
            }
            for run in &shared.runs {
                if run.may_contain(key) {
                    to_read.push(Arc::clone(run));
                }
            }
        }
        to_read.iter().try_for_each(|run| run.values(key, tell))
    }
}
