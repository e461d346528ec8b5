//! The numbers of a page's format.

/// Numbers of the kinds of events, the lower three bits of an event's first byte.
pub(super) mod kind {
    pub(in crate::page) const PUBLISHED: u8 = 0;
    pub(in crate::page) const DELIVERED: u8 = 1;
    pub(in crate::page) const REQUEUED: u8 = 2;
    pub(in crate::page) const SETTLED: u8 = 3;
    pub(in crate::page) const RECEIVED: u8 = 4;
    pub(in crate::page) const MOVED: u8 = 5;
    pub(in crate::page) const PROGRESS: u8 = 6;
    /// How many there are.
    pub(in crate::page) const COUNT: usize = 7;
}

/// Bits of an event's first byte, besides its kind.
pub(super) mod tag {
    /// The lower three bits.
    pub(in crate::page) const KIND: u8 = 0b111;
    /// The time differs from that of the event before.
    pub(in crate::page) const TIME: u8 = 1 << 3;
    /// The number within the record is not the expected one.
    pub(in crate::page) const NTH: u8 = 1 << 4;
    /// Published: it is a copy.
    pub(in crate::page) const COPY: u8 = 1 << 5;
    /// Published: it is de-duplicated.
    pub(in crate::page) const DEDUPLICATED: u8 = 1 << 6;
    /// Published: position and deadline follow.
    pub(in crate::page) const EXTENDED: u8 = 1 << 7;
    /// Delivered: the first attempt. Requeued: at once. Settled: one attempt, one queue.
    pub(in crate::page) const PLAIN: u8 = 1 << 5;
}

/// Bits of a settlement's second byte, whose lower three bits are the outcome.
pub(super) mod settled {
    pub(in crate::page) const OUTCOME: u8 = 0b111;
    /// Four bits from here on are the flags that are kept ([`outcome::Flags::kept_bits`]).
    pub(in crate::page) const FLAGS_SHIFT: u32 = 3;
    /// Another byte follows that says which of the optional fields are there.
    pub(in crate::page) const EXTENDED: u8 = 1 << 7;

    pub(in crate::page) const HAS_ERROR: u8 = 1;
    pub(in crate::page) const HAS_CONTENT_TYPE: u8 = 1 << 1;
    pub(in crate::page) const HAS_RESULT: u8 = 1 << 2;
    pub(in crate::page) const HAS_DEAD_LETTER_EXCHANGE: u8 = 1 << 3;
    pub(in crate::page) const HAS_MESSAGE: u8 = 1 << 4;
}
