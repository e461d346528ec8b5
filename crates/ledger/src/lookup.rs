//! Finding by key: which pages tell of a message, when a queue saw an id.
//!
//! Owns entries of a key and a value, the latest in memory.

mod memory;

use parking_lot::RwLock;

use memory::Memory;

/// What the values of a key mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Positions of pages: all of them count.
    Index,
    /// Times: the greatest counts.
    Window,
}

/// Bits of an entry that are its value; those above are its key, cut to fit.
const VALUE_BITS: u32 = 48;
const VALUE_MASK: u128 = (1 << VALUE_BITS) - 1;

/// Key and value in one number: entries sort by key, then by value.
pub(crate) fn entry(key: u128, value: u64) -> u128 {
    key & !VALUE_MASK | u128::from(value) & VALUE_MASK
}

/// The value of an entry.
pub(crate) fn value_of(entry: u128) -> u64 {
    (entry & VALUE_MASK) as u64
}

/// Entries by key.
pub(crate) struct Lookup {
    kind: Kind,
    shared: RwLock<Shared>,
}

struct Shared {
    /// The latest entries.
    active: Memory,
}

impl Lookup {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, shared: RwLock::new(Shared { active: Memory::default() }) }
    }

    /// Adds a value of a key, below 2^48.
    pub(crate) fn insert(&self, key: u128, value: u64) {
        let entry = entry(key, value);
        let mut shared = self.shared.write();
        match self.kind {
            Kind::Index => shared.active.insert(entry),
            Kind::Window => shared.active.raise(entry),
        }
    }

    /// All values of a key, in any order, some perhaps twice.
    pub(crate) fn values(&self, key: u128) -> Vec<u64> {
        let mut values = Vec::new();
        let shared = self.shared.read();
        shared.active.values(key, &mut |value| values.push(value));
        values
    }

    /// The greatest value of a key.
    pub(crate) fn latest(&self, key: u128) -> Option<u64> {
        let mut latest = None;
        let shared = self.shared.read();
        shared.active.values(key, &mut |value| latest = latest.max(Some(value)));
        latest
    }
}
