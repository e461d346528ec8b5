//! The place of a record in the message log.

/// Bytes from the log's beginning; it grows with every record, and identifies it for as long as it
/// exists.
pub type Position = u64;
