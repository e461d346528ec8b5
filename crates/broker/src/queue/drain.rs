//! How fast consumers take messages, and when publishers must wait for them.
//!
//! On one machine publishers and consumers share the processor, and whoever only publishes wins: a queue
//! that could be drained grows. So while consumers are fast and behind, publishers are charged for
//! what they put in, and may go on when as much has been taken. Consumers that take their time, as
//! workers with real work do, are none of that: waiting for them would only hold the publishers.

use super::consumers::Endpoint;
use super::state::Queue;

/// So many ready messages are no more than a moment's work for fast consumers.
const BEHIND_COUNT: u64 = 2048;
/// Consumers that together take this many messages a second do hardly anything else.
const FAST_PER_SECOND: u64 = 2_000;
/// Over which time at least that is measured, ms.
const WINDOW_MS: u64 = 20;

/// What is known about it.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Messages given to consumers so far.
    pub taken_count: u64,
    /// Of those, how many have come back, to be given again.
    pub returned_count: u64,
    /// Up to which `taken_count` publishers have been charged.
    charged_count: u64,
    /// Begin of the window, and what had been taken and kept by then.
    since_ms: u64,
    taken_before: u64,
    /// Whether consumers were fast in the last window.
    is_fast: bool,
}

impl Drain {
    fn measure(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        if elapsed_ms < WINDOW_MS {
            return;
        }
        // Who only gives back what it takes is not fast.
        let kept = self.taken_count.saturating_sub(self.returned_count);
        let taken = kept.saturating_sub(self.taken_before);
        self.is_fast = taken.saturating_mul(1000) >= FAST_PER_SECOND.saturating_mul(elapsed_ms);
        self.since_ms = now_ms;
        self.taken_before = kept;
    }
}

impl<E: Endpoint> Queue<E> {
    /// How many messages consumers have been given so far.
    pub fn taken_count(&self) -> u64 {
        self.drain.taken_count
    }

    /// Charges a publisher for the messages it has put in. `Some`: consumers are fast and behind, and it
    /// should put in nothing more until [`Queue::taken_count`] is this.
    pub fn charge(&mut self, now_ms: u64, count: u64) -> Option<u64> {
        self.drain.measure(now_ms);
        if self.ready_count < BEHIND_COUNT || self.consumers.count() == 0 || !self.drain.is_fast {
            return None;
        }
        // What others have been charged for comes first.
        let from = self.drain.charged_count.max(self.drain.taken_count);
        self.drain.charged_count = from + count;
        Some(self.drain.charged_count)
    }
}
