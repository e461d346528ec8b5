//! What the one writer shares with every reader.
//!
//! Owns nothing but the parts side by side; each has its own lock. Never decides anything.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use crate::lookup::Lookup;
use crate::options::{Options, Sizes};
use crate::pages::Pages;

/// The parts of an open ledger.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) sizes: Sizes,
    pub(crate) pages: Pages,
    pub(crate) index: Lookup,
    pub(crate) window: Lookup,
    /// The position of the message log up to which everything is durable here.
    pub(crate) applied: AtomicU64,
    /// Bytes on disk, as of the last flush.
    pub(crate) size_bytes: AtomicU64,
    /// Files kept open, as of the last flush.
    pub(crate) file_count: AtomicUsize,
}
