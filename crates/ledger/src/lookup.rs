//! Finding by key: which pages tell of a message, when a queue saw an id.
//!
//! Owns entries of a key and a value: the latest in memory, the others in sorted runs on disk. Never
//! reads the disk for a key that nobody added, but for the rare case of a wrong "perhaps"; never
//! holds its lock while the disk is at work. Invariants: an entry is found at every moment, also
//! while it moves from memory into a run or from run to run; what is below the floor is not.

mod bloom;
mod keeper;
mod memory;
mod merge;
mod run;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use memory::Memory;
use run::Run;

pub(crate) use keeper::{Keeper, Numbers};
pub(crate) use run::{RunStat, file_name, parse_file_name};

/// What the values of a key mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Positions of pages: all of them count.
    Index = 1,
    /// Times: the greatest counts.
    Window = 2,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Window => "window",
        }
    }
}

/// Bits of an entry that are its value; those above are its key, cut to fit.
const VALUE_BITS: u32 = 48;
const VALUE_MASK: u128 = (1 << VALUE_BITS) - 1;

/// Key and value in one number: entries sort by key, then by value.
fn entry(key: u128, value: u64) -> u128 {
    let value = u128::from(value).min(VALUE_MASK);
    key & !VALUE_MASK | value
}

/// The value of an entry.
fn value_of(entry: u128) -> u64 {
    (entry & VALUE_MASK) as u64
}

/// Entries by key.
pub(crate) struct Lookup {
    kind: Kind,
    shared: RwLock<Shared>,
    /// Values below are as good as gone.
    floor: AtomicU64,
}

#[derive(Default)]
struct Shared {
    /// The latest entries.
    active: Memory,
    /// Entries that are being written to a run.
    frozen: Option<Arc<Memory>>,
    runs: Vec<Arc<Run>>,
    /// Entries added so far.
    inserted_count: u64,
}

impl Lookup {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, shared: RwLock::default(), floor: AtomicU64::new(0) }
    }

    /// Adds a value of a key; below 2^48.
    pub(crate) fn insert(&self, key: u128, value: u64) {
        let entry = entry(key, value);
        let mut shared = self.shared.write();
        shared.inserted_count += 1;
        match self.kind {
            Kind::Index => shared.active.insert(entry),
            Kind::Window => shared.active.raise(entry),
        }
    }

    /// Values below are not found any more.
    pub(crate) fn set_floor(&self, floor: u64) {
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// Runs, each of them an open file.
    pub(crate) fn run_count(&self) -> usize {
        self.shared.read().runs.len()
    }

    fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    /// All values of a key, in any order, some perhaps twice; and of keys that are the same but for
    /// the bits that were cut.
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
        // Usually empty, and then it allocates nothing.
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

#[cfg(test)]
mod tests;
