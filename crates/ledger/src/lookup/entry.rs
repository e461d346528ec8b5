//! An entry: a key and a value in one number.

/// What the values of a key mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Positions of pages: all of them count.
    Index = 1,
    /// When ids were seen or freed: the greatest counts. (2 was a window whose values had only times.)
    Window = 3,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Window => "window",
        }
    }
}

/// Bits of an entry that are its value; the bits above are its key, truncated to fit.
pub(super) const VALUE_BITS: u32 = 48;
pub(super) const VALUE_MASK: u128 = (1 << VALUE_BITS) - 1;

/// Key and value in one number: entries sort by key, then by value.
pub(super) fn entry(key: u128, value: u64) -> u128 {
    let value = u128::from(value).min(VALUE_MASK);
    key & !VALUE_MASK | value
}

/// The value of an entry.
pub(super) fn value_of(entry: u128) -> u64 {
    (entry & VALUE_MASK) as u64
}
