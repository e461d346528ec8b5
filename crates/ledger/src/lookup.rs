//! Finding by key: which pages tell of a message, when a queue saw an id.
//!
//! Owns entries of a key and a value: the latest in memory, the others in sorted runs on disk. Never
//! reads the disk for a key that nobody added, but for the rare case of a wrong "perhaps"; never
//! holds its lock while the disk is at work. Invariants: an entry is found at every moment, also
//! while it moves from memory into a run or from run to run; what is below the floor is not.

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
