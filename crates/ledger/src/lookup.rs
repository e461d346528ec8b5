//! Lookup by key: which pages have a message's events, when a queue saw an id.
//!
//! Owns entries of a key and a value: the latest in memory, the others in sorted runs on disk.
//! Never reads the disk for a key that nobody added, except for a rare false positive of the
//! filter; never holds its lock while the disk is at work. Invariants: an entry can be found at
//! every moment, even while it moves from memory into a run or from run to run; entries below the
//! floor are not found.

mod bloom;
mod entry;
mod find;
mod memory;
mod merge;
mod run;
mod run_set;
mod write;

pub(crate) use entry::Kind;
pub(crate) use find::Lookup;
pub(crate) use run::{RunStat, file_name, parse_file_name};
pub(crate) use run_set::{Numbers, RunSet};

#[cfg(test)]
mod tests;
