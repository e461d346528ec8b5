//! How much memory bodies of queued messages take, and whether there is room for more. Beyond that
//! they stay in the log only.

use std::sync::atomic::{AtomicI64, Ordering};

/// See the module's documentation.
pub(crate) struct BodyCache {
    bytes: AtomicI64,
    bytes_max: i64,
}

impl BodyCache {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        Self { bytes: AtomicI64::new(0), bytes_max }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max
    }

    /// Notes how much memory a queue's bodies take now, and took before.
    pub(crate) fn count(&self, before: u64, after: u64) {
        if before != after {
            self.bytes.fetch_add(after as i64 - before as i64, Ordering::Relaxed);
        }
    }
}
