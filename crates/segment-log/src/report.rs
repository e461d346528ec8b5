//! What opening a log found, as recovery reports it to the caller.
//!
//! Owns nothing and decides nothing. Positions and lengths are those of the log after opening.

use crate::manifest::Missing;

/// What opening the log found and did; for the caller to log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Position of the next record.
    pub next_position: u64,
    /// Segments, the active one included.
    pub segment_count: usize,
    /// Bytes of records in all segments.
    pub bytes: u64,
    /// Records visited; the members of a group are counted, not the group.
    pub record_count: u64,
    /// The incomplete end that was cut, if there was one: a write that a crash interrupted.
    pub torn_tail: Option<TornTail>,
    /// Damage other than the torn tail. Everything readable around it was kept.
    pub quarantined: Vec<Quarantine>,
    /// Segments that are gone although the log did not delete them. Reported at every opening until
    /// something is written to the log.
    pub missing: Vec<Missing>,
    /// Whether the manifest was not readable, so that nobody knows what is missing. Reported at
    /// every opening until something is written to the log.
    pub is_manifest_damaged: bool,
}

/// Bytes cut from the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// Where the log now ends.
    pub position: u64,
    /// Bytes that were cut.
    pub bytes: u64,
}

/// A damaged stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Base of the segment.
    pub segment: u64,
    /// Where the damage begins.
    pub position: u64,
    /// Its length. 0 for a damaged file header, which has no positions.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Damage,
    /// The file that holds a copy of the bytes. `None` if there was no room for it; they are still
    /// in place.
    pub file: Option<String>,
    /// Whether an earlier opening had already found it.
    pub is_known: bool,
}

/// What a [`Quarantine`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Records between intact ones, or at the end of a segment that has a successor.
    Records,
    /// The file header only; it was rewritten, and no record was lost.
    Header,
    /// A whole segment; its file was renamed.
    Segment,
}
