//! What waits in all outboxes together, and how much each may hold because of that.
//!
//! A client that reads slowly should find much waiting for it, so that it is never idle; but where
//! thousands do, this would be most of the memory. So while all outboxes together hold much, each
//! gets little.

use std::sync::Arc;

use crate::atomics::{AtomicUsize, Ordering};

/// The most bytes of deliveries that may wait in an outbox.
const EACH_BYTES_MAX: usize = 1 << 20;
/// The same while all outboxes together hold [`ALL_BYTES`].
const EACH_BYTES_MIN: usize = 64 << 10;
const ALL_BYTES: usize = 256 << 20;

/// One outbox's part of the total.
#[derive(Default)]
pub(crate) struct OutboxTotal {
    all: Arc<AtomicUsize>,
    own: AtomicUsize,
    /// Bytes of replies, which nobody reserves.
    replies: AtomicUsize,
}

impl OutboxTotal {
    /// A part of the total that others have a part of.
    pub(crate) fn part_of(all: &Arc<AtomicUsize>) -> Self {
        Self { all: Arc::clone(all), own: AtomicUsize::new(0), replies: AtomicUsize::new(0) }
    }

    /// How many bytes of deliveries, and as many of replies, may wait in this outbox at the moment.
    pub(super) fn limit(&self) -> usize {
        if self.all.load(Ordering::Relaxed) < ALL_BYTES { EACH_BYTES_MAX } else { EACH_BYTES_MIN }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes of replies wait now. Only its connection says so.
    pub(super) fn set_replies(&self, bytes: usize) {
        let before = self.replies.load(Ordering::Relaxed);
        if bytes == before {
            return;
        }
        self.replies.store(bytes, Ordering::Relaxed);
        self.sub(before);
        self.add(bytes);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What was never written is gone with the connection.
impl Drop for OutboxTotal {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_all_hold_much_each_gets_little() {
        let all = Arc::default();
        let outboxes: Vec<_> = (0..256).map(|_| OutboxTotal::part_of(&all)).collect();
        outboxes.iter().for_each(|outbox| outbox.add(EACH_BYTES_MAX - 1));
        assert_eq!(outboxes[0].limit(), EACH_BYTES_MAX);
        outboxes[0].add(256);
        assert_eq!(outboxes[1].limit(), EACH_BYTES_MIN);
        outboxes[1].sub(1);
        assert_eq!(outboxes[1].limit(), EACH_BYTES_MAX);
        outboxes[1].set_replies(1000);
        outboxes[1].set_replies(1);
        assert_eq!(outboxes[1].limit(), EACH_BYTES_MIN, "replies count as well");
        outboxes[1].set_replies(0);
        assert_eq!(outboxes[1].limit(), EACH_BYTES_MAX);
        outboxes[1].set_replies(7);
        drop(outboxes);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
