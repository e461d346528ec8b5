//! Where a record stands in the message log.

/// Bytes from the log's beginning; grows with every record, and names it for as long as it is there.
pub type Position = u64;
