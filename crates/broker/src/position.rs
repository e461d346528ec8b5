//! Where a record stands in the message log.

use std::fmt;
use std::num::NonZeroU64;

/// Bytes from the beginning of the log; it grows with every record, and names the record for as long
/// as it exists. An `Option` of it takes no more room than a position: queues keep millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    /// The position so many bytes from the beginning; the last one there is for `u64::MAX`.
    pub const fn new(bytes: u64) -> Self {
        // One above, so that none is 0.
        Self(NonZeroU64::MIN.saturating_add(bytes))
    }

    /// Bytes from the beginning.
    pub const fn get(self) -> u64 {
        self.0.get() - 1
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

const _: () = assert!(size_of::<Option<Position>>() == 8, "it takes no more room");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_numbers_from_0_on() {
        for bytes in [0, 1, 77, u64::MAX - 1] {
            assert_eq!(Position::new(bytes).get(), bytes);
        }
        assert!(Position::new(5) < Position::new(6));
        assert_eq!(Position::new(u64::MAX), Position::new(u64::MAX - 1));
    }
}
