//! The latest entries, in memory.
//!
//! Owns a hash table of entries; a key may have several. The keys are already hashes.

use hashbrown::HashTable;

use super::entry::{VALUE_BITS, VALUE_MASK, value_of};

/// Entries in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashTable<u128>,
}

fn hash(entry: u128) -> u64 {
    (entry >> 64) as u64
}

fn is_same_key(a: u128, b: u128) -> bool {
    a >> VALUE_BITS == b >> VALUE_BITS
}

impl Memory {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry, in addition to others with its key.
    pub(super) fn insert(&mut self, entry: u128) {
        if self.entries.find(hash(entry), |other| *other == entry).is_none() {
            self.entries.insert_unique(hash(entry), entry, |other| hash(*other));
        }
    }

    /// Adds an entry, or raises the value of the one with its key.
    pub(super) fn raise(&mut self, entry: u128) {
        match self.entries.find_mut(hash(entry), |other| is_same_key(*other, entry)) {
            Some(other) => *other = entry.max(*other),
            None => {
                self.entries.insert_unique(hash(entry), entry, |other| hash(*other));
            }
        }
    }

    /// Calls `tell` with the values of a key.
    pub(super) fn values(&self, key: u128, tell: &mut dyn FnMut(u64)) {
        let key = key & !VALUE_MASK;
        for entry in self.entries.iter_hash(hash(key)) {
            if is_same_key(*entry, key) {
                tell(value_of(*entry));
            }
        }
    }

    /// The greatest value of a key.
    pub(super) fn greatest(&self, key: u128) -> Option<u64> {
        let mut greatest = None;
        self.values(key, &mut |value| greatest = greatest.max(Some(value)));
        greatest
    }

    /// All entries, sorted.
    pub(super) fn sorted(&self) -> Vec<u128> {
        let mut entries: Vec<_> = self.entries.iter().copied().collect();
        entries.sort_unstable();
        entries
    }
}
