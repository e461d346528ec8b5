//! Turns for what several consumers share, so that none starves: the room of a connection, a
//! channel-wide prefetch.
//!
//! While there is enough for all, turns make no difference. A consumer that finds nothing left
//! waits, and so does one that comes while others wait. When something is given back, its owner
//! gives the waiting consumers their turns, the longest-waiting first, each with a share as its
//! *credit* ([`Turns::begin`]); for anything beyond its credit a consumer waits again, behind the
//! others.
//!
//! Consumers ask under the locks of their queues, while the connection's own task gives the turns,
//! so all of this is atomics. *Invariant:* when a consumer is refused, its place is marked before
//! the refusing thread looks at the budget once more; so either that look sees what was given back,
//! or the look after giving back sees the mark.

use crate::atomics::{AtomicU64, AtomicUsize, Ordering};

/// The turns of one budget.
#[derive(Default)]
pub(crate) struct Turns {
    waiting_count: AtomicUsize,
    last: AtomicU64,
}

/// A consumer's place in the turns of one budget.
#[derive(Default)]
pub(crate) struct Place {
    /// When it began to wait, as a growing number; 0 when it does not wait.
    since: AtomicU64,
    /// What it may take in its turn, in the budget's unit.
    credit: AtomicU64,
}

impl Place {
    /// When it began to wait, as a growing number.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::SeqCst);
        (since > 0).then_some(since)
    }
}

impl Turns {
    /// Whether a consumer may take this amount: nobody else waits, or it has its turn.
    pub(crate) fn may_take(&self, place: &Place, amount: u64) -> bool {
        let own = usize::from(place.waits_since().is_some());
        if self.waiting_count.load(Ordering::SeqCst) <= own {
            return true;
        }
        let spend = |credit: u64| (credit > 0).then(|| credit.saturating_sub(amount));
        place.credit.fetch_update(Ordering::AcqRel, Ordering::Acquire, spend).is_ok()
    }

    /// Whether anybody waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_count.load(Ordering::SeqCst) > 0
    }

    /// The consumer took something after all, or is gone: it no longer waits.
    pub(crate) fn leave(&self, place: &Place) {
        if place.since.load(Ordering::SeqCst) > 0 && place.since.swap(0, Ordering::SeqCst) > 0 {
            self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The consumer waits from now on, if it did not already. The caller must then look at the
    /// budget again.
    pub(crate) fn wait(&self, place: &Place) {
        if place.since.load(Ordering::SeqCst) > 0 {
            return;
        }
        // Counted first, so that the count is never below the number of marked places.
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
        let now = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        if place.since.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Begins this consumer's turn, with this much credit.
    pub(crate) fn begin(&self, place: &Place, credit: u64) {
        place.credit.store(credit, Ordering::Release);
        self.leave(place);
    }
}

/// The waiting `consumers`, the longest-waiting first.
pub(crate) fn in_turn<C>(
    consumers: impl Iterator<Item = C>,
    place: impl Fn(&C) -> &Place,
) -> Vec<C> {
    let mut waiting: Vec<(u64, C)> = consumers
        .filter_map(|consumer| Some((place(&consumer).waits_since()?, consumer)))
        .collect();
    waiting.sort_by_key(|(since, _)| *since);
    waiting.into_iter().map(|(_, consumer)| consumer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nobody_waits_everybody_takes() {
        let (turns, a, b) = (Turns::default(), Place::default(), Place::default());
        assert!(turns.may_take(&a, 100) && turns.may_take(&b, 100));
        turns.wait(&a);
        turns.wait(&a);
        assert!(turns.may_take(&a, 1), "only it waits");
        assert!(!turns.may_take(&b, 1), "another waits");
        turns.leave(&a);
        turns.leave(&a);
        assert!(turns.may_take(&b, 1));
    }

    #[test]
    fn who_waits_takes_its_share_and_waits_again_behind_the_others() {
        let (turns, places) = (Turns::default(), [Place::default(), Place::default()]);
        let order = || -> Vec<usize> {
            let waiting = in_turn(places.iter().enumerate(), |(_, place)| *place);
            waiting.into_iter().map(|(index, _)| index).collect()
        };
        turns.wait(&places[1]);
        turns.wait(&places[0]);
        assert_eq!(order(), [1, 0]);
        turns.begin(&places[1], 10);
        assert!(turns.may_take(&places[1], 6));
        assert!(turns.may_take(&places[1], 6), "the last one may be larger than what is left");
        assert!(!turns.may_take(&places[1], 1));
        turns.wait(&places[1]);
        assert_eq!(order(), [0, 1]);
    }

    /// Every consumer always wants everything there is, and they ask in the same order.
    #[test]
    fn greedy_consumers_of_a_small_budget_get_the_same() {
        for (budget, count) in [(1, 3), (10, 4), (7, 2), (2, 5)] {
            let turns = Turns::default();
            let places: Vec<Place> = (0..count).map(|_| Place::default()).collect();
            let mut taken = vec![0; count];
            let mut free = budget;
            let mut take_all = |index: usize, place: &Place, free: &mut usize| {
                while *free > 0 && turns.may_take(place, 1) {
                    turns.leave(place);
                    *free -= 1;
                    taken[index] += 1;
                }
                turns.wait(place);
            };
            for _ in 0..300 {
                places.iter().enumerate().for_each(|(index, place)| {
                    take_all(index, place, &mut free);
                });
                // Everything comes back.
                free = budget;
                let waiting = in_turn(places.iter().enumerate(), |(_, place)| *place);
                let share = (free / waiting.len()).max(1) as u64;
                for (index, place) in waiting {
                    if free == 0 {
                        break;
                    }
                    turns.begin(place, share);
                    take_all(index, place, &mut free);
                }
            }
            let (least, most) = (taken.iter().min(), taken.iter().max());
            let most = most.copied().unwrap_or_default();
            assert!(least.is_some_and(|least| most <= least + least / 10), "{budget}: {taken:?}");
        }
    }
}
