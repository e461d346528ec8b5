//! A filter that says of most keys that they are not in a run.
//!
//! Owns 12 bits per entry. A key's six bits are in one cache line, so a query costs at most one
//! cache miss; about one answer in 150 is a false positive, none a false negative. Lines are in the
//! order of keys, so filling the filter from sorted entries goes through memory once.

use super::entry::VALUE_BITS;

/// Bits per entry.
const ENTRY_BITS: u64 = 12;
const BITS_PER_KEY: u32 = 6;
/// Bytes of a line.
pub(super) const LINE_SIZE: usize = 64;

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

/// The filter of a run.
#[derive(Debug)]
pub(super) struct Bloom {
    lines: Vec<Line>,
}

impl Bloom {
    /// An empty filter for `entry_count` entries.
    pub(super) fn new(entry_count: u64) -> Self {
        let line_count = (entry_count * ENTRY_BITS).div_ceil(LINE_SIZE as u64 * 8).max(1);
        Self::of_lines(line_count as usize)
    }

    /// An empty filter of `line_count` lines, at least one.
    pub(super) fn of_lines(line_count: usize) -> Self {
        Self { lines: vec![Line([0; 8]); line_count.max(1)] }
    }

    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }

    fn line(&self, entry: u128) -> usize {
        (((entry >> 64) * self.lines.len() as u128) >> 64) as usize
    }

    pub(super) fn insert(&mut self, entry: u128) {
        let at = self.line(entry);
        let line = &mut self.lines[at].0;
        for bit in bits(entry) {
            line[bit >> 6] |= 1 << (bit & 63);
        }
    }

    /// Whether there may be an entry with this key.
    pub(super) fn may_contain(&self, key: u128) -> bool {
        let line = &self.lines[self.line(key)].0;
        bits(key).all(|bit| line[bit >> 6] & 1 << (bit & 63) != 0)
    }

    /// The bytes of a line.
    pub(super) fn line_bytes(&self, at: usize) -> [u8; LINE_SIZE] {
        let mut bytes = [0; LINE_SIZE];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.lines[at].0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Sets a line from its bytes.
    pub(super) fn set_line(&mut self, at: usize, bytes: &[u8]) {
        for (word, bytes) in self.lines[at].0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
    }
}

/// A key's bits in its line, taken from the lower 64 of its 80 bits: the line comes from the upper
/// ones.
fn bits(entry: u128) -> impl Iterator<Item = usize> {
    let mixed = ((entry >> VALUE_BITS) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (1..=BITS_PER_KEY).map(move |n| (mixed >> (64 - 9 * n)) as usize & 511)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let key = |n: u64| outcome::IdHash::new("v", n.to_string()).0;
        let mut bloom = Bloom::new(20_000);
        (0..20_000).for_each(|n| bloom.insert(key(n)));
        assert!((0..20_000).all(|n| bloom.may_contain(key(n))));
        let wrong = (20_000..120_000).filter(|n| bloom.may_contain(key(*n))).count();
        assert!(wrong < 1000, "{wrong} of 100000");
    }
}
