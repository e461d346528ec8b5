//! A page: a few thousand consecutive events, encoded together as one record of the ledger's log.
//!
//! Owns the format of a page (see the crate's documentation). Never touches a disk. Invariants: the
//! events of a page are in the order of their cursors; a page is self-contained: strings and ids
//! are written once in it and referred to by number.

mod decode;
mod encode;
mod format;
mod ids;
mod strings;
mod summary;
mod varint;

pub(crate) use decode::{Body, Page, RawEvent};
pub(crate) use encode::PageWriter;
pub(crate) use summary::{Summary, queue_bits};

#[cfg(test)]
mod tests;
