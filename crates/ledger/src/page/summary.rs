//! What is known of a page without reading its events: the contents of its header.
//!
//! Owns the header's bytes and what a filter can conclude from it. Invariant: a summary may give
//! false positives, never false negatives.

use outcome::{Cursor, Outcome};

/// Bytes of a page before its strings.
pub(super) const HEADER_SIZE: usize = 64;
const VERSION: u8 = 1;

/// What is in a page, or in several consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) first: Cursor,
    pub(crate) last: Cursor,
    pub(crate) time_min_ms: u64,
    pub(crate) time_max_ms: u64,
    pub(crate) event_count: u32,
    /// Bit `1 << number` for each outcome among its settlements.
    pub(crate) outcomes: u8,
    /// The [`queue_bits`] of the queues of its settlements.
    pub(crate) queues: u64,
}

/// The two bits by which a summary remembers a queue.
pub(crate) fn queue_bits(queue: &str) -> u64 {
    // FNV-1a: stable across versions, and a queue's name is short.
    let hash = queue.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    1 << (mixed >> 58) | 1 << (mixed >> 52 & 63)
}

impl Summary {
    /// The summary of no events.
    pub(crate) const EMPTY: Self = Self {
        first: Cursor { position: u64::MAX, nth: u32::MAX },
        last: Cursor { position: 0, nth: 0 },
        time_min_ms: u64::MAX,
        time_max_ms: 0,
        event_count: 0,
        outcomes: 0,
        queues: 0,
    };

    pub(crate) fn note(&mut self, at: Cursor, time_ms: u64) {
        if self.event_count == 0 {
            self.first = at;
        }
        self.last = at;
        self.time_min_ms = self.time_min_ms.min(time_ms);
        self.time_max_ms = self.time_max_ms.max(time_ms);
        self.event_count += 1;
    }

    pub(crate) fn note_settled(&mut self, outcome: Outcome, queue_bits: u64) {
        self.outcomes |= 1 << outcome as u8;
        self.queues |= queue_bits;
    }

    /// The summary of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            time_min_ms: self.time_min_ms.min(other.time_min_ms),
            time_max_ms: self.time_max_ms.max(other.time_max_ms),
            event_count: self.event_count.saturating_add(other.event_count),
            outcomes: self.outcomes | other.outcomes,
            queues: self.queues | other.queues,
        }
    }

    /// The header of a page whose strings and ids have these lengths.
    pub(super) fn encode(&self, strings_len: usize, ids_len: usize) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0] = VERSION;
        bytes[1] = self.outcomes;
        bytes[4..8].copy_from_slice(&self.event_count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.position.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.last.position.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.first.nth.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.last.nth.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_min_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.time_max_ms.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.queues.to_le_bytes());
        // A page is a record, whose length is a u32 too.
        bytes[56..60].copy_from_slice(&(strings_len as u32).to_le_bytes());
        bytes[60..].copy_from_slice(&(ids_len as u32).to_le_bytes());
        bytes
    }

    /// The summary at the front of a page, and the lengths of its strings and ids; `None` if it is
    /// not a page of this version.
    pub(crate) fn decode(page: &[u8]) -> Option<(Self, usize, usize)> {
        let u32_at = |at: usize| {
            let bytes = page.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        let u64_at = |at: usize| {
            let bytes = page.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        if *page.first()? != VERSION {
            return None;
        }
        let summary = Self {
            first: Cursor { position: u64_at(8)?, nth: u32_at(24)? },
            last: Cursor { position: u64_at(16)?, nth: u32_at(28)? },
            time_min_ms: u64_at(32)?,
            time_max_ms: u64_at(40)?,
            event_count: u32_at(4)?,
            outcomes: *page.get(1)?,
            queues: u64_at(48)?,
        };
        Some((summary, u32_at(56)? as usize, u32_at(60)? as usize))
    }
}
