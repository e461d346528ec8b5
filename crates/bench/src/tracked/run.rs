//! What the threads of a tracked run share, and when they have nothing left to do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::report::Tally;
use crate::stats::Shared;

/// What the threads of a run share.
///
/// In `shared`, each producer has a publisher's place, with published and confirmed messages and
/// the confirms' latencies, and a consumer's place, with messages done and their latencies.
pub(super) struct Run {
    pub(super) shared: Shared,
    pub(super) tally: Mutex<Tally>,
    /// Producers that have started and not ended: workers go on as long as there are any.
    pub(super) producing: AtomicUsize,
    /// The run has failed: nothing more is waited for.
    pub(super) failed: AtomicBool,
}

impl Run {
    /// Whether workers have nothing left to do.
    pub(super) fn is_over(&self) -> bool {
        self.shared.stopping() && self.producing.load(Ordering::SeqCst) == 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, tally: Tally) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) += tally;
    }
}

/// Counts as a producer until dropped.
pub(super) struct Producing<'a>(&'a AtomicUsize);

impl<'a> Producing<'a> {
    pub(super) fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Producing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
