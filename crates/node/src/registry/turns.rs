//! What several consumers share is handed out in turn, so that none starves: the room of a
//! connection, a channel-wide prefetch.
//!
//! While there is enough for all nobody notices. Who finds nothing left waits, and so does who comes
//! while others wait. When something is given back, its owner gives those who wait their turns, the
//! longest first, each with a share as its *credit* ([`Turns::begin`]); what a consumer takes beyond
//! its credit it waits for again, behind the others.
//!
//! Consumers ask under the locks of their queues, turns are given by the connection's own task, so
//! all of this is atomics. *Invariant:* a consumer that was refused has its place marked before the
//! budget is looked at once more by whoever refused it; so either that look or the one that follows
//! giving back sees the other.

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
    /// Since when it waits, as a number that grows; 0 when it does not wait.
    since: AtomicU64,
    /// What it may take of its turn, in the budget's unit.
    credit: AtomicU64,
}

impl Place {
    /// Since when it waits, as a number that grows.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::SeqCst);
        (since > 0).then_some(since)
    }
}

impl Turns {
    /// Whether a consumer may take from what is there: nobody else waits, or it is its turn.
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

    /// The consumer took something after all, or is gone: it waits no longer.
    pub(crate) fn leave(&self, place: &Place) {
        if place.since.load(Ordering::SeqCst) > 0 && place.since.swap(0, Ordering::SeqCst) > 0 {
            self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The consumer waits from now on, if it does not yet. The budget is to be looked at again then.
    pub(crate) fn wait(&self, place: &Place) {
        if place.since.load(Ordering::SeqCst) > 0 {
            return;
        }
        // Counted first, so that the count is never below those that are marked.
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
        let now = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        if place.since.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// It is this consumer's turn, for so much.
    pub(crate) fn begin(&self, place: &Place, credit: u64) {
        place.credit.store(credit, Ordering::Release);
        self.leave(place);
    }
}

/// Those of `consumers` that wait, the longest first.
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

    /// Everybody always wants all there is, and asks in the same order.
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
                // All of it comes back.
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
