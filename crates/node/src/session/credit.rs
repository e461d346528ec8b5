//! A publisher waits for consumers that are fast and behind (`broker::queue`, module `drain`).
//!
//! It is never slowed below what they take, and never for long: not below a rate at which nobody
//! would notice, whatever the consumers do meanwhile.

use std::sync::Arc;

use crate::registry::LiveQueue;

/// Messages a millisecond that a publisher may put in, whatever consumers take: what is promised is 20,
/// and who waits is not woken to the millisecond.
const PER_MS_MIN: u64 = 25;
/// The longest wait for one batch, ms.
const WAIT_MS_MAX: u64 = 100;

/// What a publisher waits for.
#[derive(Default)]
pub(super) struct Credit {
    waits_for: Option<Charge>,
    /// Messages that it was charged for and that are not worth a wait of their own.
    owed_count: u64,
}

struct Charge {
    queue: Arc<LiveQueue>,
    /// Until so many messages have been taken from it.
    taken_count: u64,
    /// At the latest.
    until_ms: u64,
}

impl Credit {
    /// The publisher has been charged for messages it put into a queue. Of several it waits for the one
    /// that got most.
    pub(super) fn charge(
        &mut self,
        queue: &Arc<LiveQueue>,
        taken_count: u64,
        now_ms: u64,
        count: u64,
    ) {
        let owed = self.owed_count + count;
        self.owed_count = owed % PER_MS_MIN;
        let wait_ms = (owed / PER_MS_MIN).min(WAIT_MS_MAX);
        if wait_ms == 0 {
            return;
        }
        let until_ms = now_ms + wait_ms;
        if self.waits_for.as_ref().is_none_or(|charge| charge.until_ms < until_ms) {
            self.waits_for = Some(Charge { queue: Arc::clone(queue), taken_count, until_ms });
        }
    }

    /// Whether it must still wait.
    pub(super) fn is_used_up(&mut self, now_ms: impl FnOnce() -> u64) -> bool {
        let Some(charge) = &self.waits_for else { return false };
        let is_used_up =
            charge.queue.taken_count() < charge.taken_count && now_ms() < charge.until_ms;
        if !is_used_up {
            self.waits_for = None;
        }
        is_used_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_goes_on_when_as_much_is_taken_or_time_is_up() {
        let (queue, mut credit) = (LiveQueue::of_tests(), Credit::default());
        assert!(!credit.is_used_up(|| 1000));
        credit.charge(&queue, 300, 1000, 250);
        queue.note_taken(299);
        assert!(credit.is_used_up(|| 1009));
        queue.note_taken(300);
        assert!(!credit.is_used_up(|| 1009));
        credit.charge(&queue, 500, 1010, 250);
        assert!(credit.is_used_up(|| 1019));
        assert!(!credit.is_used_up(|| 1020));
        assert!(!credit.is_used_up(|| 1011), "it is over");
    }

    #[test]
    fn small_batches_wait_together_for_what_they_owe() {
        let (queue, mut credit) = (LiveQueue::of_tests(), Credit::default());
        let waits: Vec<bool> = (0..10)
            .map(|_| {
                credit.charge(&queue, u64::MAX, 1000, 10);
                let waits = credit.is_used_up(|| 1000);
                assert!(!credit.is_used_up(|| 1001));
                waits
            })
            .collect();
        // 100 messages are 4 ms.
        assert_eq!(waits.iter().filter(|waits| **waits).count(), 4, "{waits:?}");
    }

    #[test]
    fn a_large_batch_is_waited_for_no_longer_than_the_longest_wait() {
        let mut credit = Credit::default();
        credit.charge(&LiveQueue::of_tests(), u64::MAX, 1000, 1_000_000);
        assert!(credit.is_used_up(|| 1000 + WAIT_MS_MAX - 1));
        assert!(!credit.is_used_up(|| 1000 + WAIT_MS_MAX));
    }

    #[test]
    fn of_several_queues_the_one_that_got_most_counts() {
        let (little, much, mut credit) =
            (LiveQueue::of_tests(), LiveQueue::of_tests(), Credit::default());
        credit.charge(&little, 1, 1000, 25);
        credit.charge(&much, 1, 1000, 250);
        credit.charge(&little, 1, 1000, 25);
        little.note_taken(1);
        assert!(credit.is_used_up(|| 1000));
        much.note_taken(1);
        assert!(!credit.is_used_up(|| 1000));
    }
}
