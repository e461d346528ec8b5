//! A page: some thousand events in a row, encoded together, one record of the ledger's log.
//!
//! Owns the format of a page (see the crate's documentation). Never touches a disk. Invariants: the
//! events of a page are in the order of their cursors; a page is complete in itself, strings and
//! ids are said once in it and referred to by number.

mod decode;
mod encode;
mod ids;
mod strings;
mod summary;
mod varint;

pub(crate) use decode::{Body, Page, RawEvent};
pub(crate) use encode::PageWriter;
pub(crate) use summary::{Summary, queue_bits};

/// Numbers of the kinds of events, the lower three bits of an event's first byte.
mod kind {
    pub(super) const PUBLISHED: u8 = 0;
    pub(super) const DELIVERED: u8 = 1;
    pub(super) const REQUEUED: u8 = 2;
    pub(super) const SETTLED: u8 = 3;
    pub(super) const RECEIVED: u8 = 4;
    pub(super) const MOVED: u8 = 5;
    /// How many there are.
    pub(super) const COUNT: usize = 6;
}

/// Bits of an event's first byte beside its kind.
mod tag {
    /// The lower three bits.
    pub(super) const KIND: u8 = 0b111;
    /// The time is another than that of the event before.
    pub(super) const TIME: u8 = 1 << 3;
    /// The number within the record is not the one to be expected.
    pub(super) const NTH: u8 = 1 << 4;
    /// Published: it is a copy.
    pub(super) const COPY: u8 = 1 << 5;
    /// Published: it is de-duplicated.
    pub(super) const DEDUPLICATED: u8 = 1 << 6;
    /// Published: position and deadline follow.
    pub(super) const EXTENDED: u8 = 1 << 7;
    /// Delivered: the first attempt. Requeued: at once. Settled: one attempt, one queue.
    pub(super) const PLAIN: u8 = 1 << 5;
}

/// Bits of the byte with the outcome of a settlement, which is its lower three bits.
mod settled {
    pub(super) const OUTCOME: u8 = 0b111;
    /// Four bits from here on are the flags that are kept ([`outcome::Flags::kept_bits`]).
    pub(super) const FLAGS_SHIFT: u32 = 3;
    /// A byte follows that says what is there of the fields below.
    pub(super) const EXTENDED: u8 = 1 << 7;

    pub(super) const HAS_ERROR: u8 = 1;
    pub(super) const HAS_CONTENT_TYPE: u8 = 1 << 1;
    pub(super) const HAS_RESULT: u8 = 1 << 2;
    pub(super) const HAS_DEAD_LETTER_EXCHANGE: u8 = 1 << 3;
    pub(super) const HAS_MESSAGE: u8 = 1 << 4;
}

#[cfg(test)]
mod tests;
