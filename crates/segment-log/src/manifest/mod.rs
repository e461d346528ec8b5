//! The list of live segments, which tells when somebody else has deleted a file.
//!
//! Invariants: a segment is listed only while its file's name is durable, so one that is listed but
//! not there was lost; no position at or above the limit was ever promised in a listed segment.

mod file;
mod format;

pub(crate) use file::{ManifestFile, read};
pub use format::Missing;
pub(crate) use format::{Found, Listed, Manifest};

/// The file's name.
const NAME: &str = "segments";
