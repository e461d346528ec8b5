//! Whether anything is on its way between two places: for tests that wait until everything has been done.
//!
//! A thread that takes something from where it waited holds an [`Errand`] until it is in the next place. So
//! who finds nothing waiting, then no errand, and then nothing in the next place, has missed nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Engine;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct UnderWay(AtomicUsize);

/// Over when it is dropped.
pub(crate) struct Errand<'a>(&'a UnderWay);

impl UnderWay {
    pub(crate) fn begin(&self) -> Errand<'_> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Errand(self)
    }

    fn is_nothing(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Errand<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine {
    /// Whether everything that has come to pass is in the queues. Sessions must not be at work meanwhile.
    pub(crate) fn is_settled_down(&self) -> bool {
        // In the order in which things move on: from the clock and the ledger to notifications, and to queues.
        let (duplicates, notifications) = (&self.outcomes.duplicates, &self.outcomes.notifications);
        self.under_way.is_nothing()
            && duplicates.are_answered()
            && self.under_way.is_nothing()
            && notifications.are_delivered()
            && self.under_way.is_nothing()
    }
}
