//! What a client has published and settled since its connection last looked, and whether it goes on by
//! itself or has to hear from us first.

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Messages published and deliveries settled.
    pub count: u64,
    /// Whether some of it were publishes.
    pub has_published: bool,
    /// Whether the client has so much in hand that it can go on at this rate for a while without
    /// hearing from us.
    pub goes_on: bool,
}

/// What is noted for it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TrafficNotes {
    published_count: u64,
    settled_count: u64,
    /// The fewest messages without a confirm on any of its channels; `None` if it wants none.
    unconfirmed_count: Option<u64>,
    /// The fewest deliveries left on any of its channels, and the smallest prefetch.
    left_count: Option<u64>,
    prefetch: Option<u32>,
}

impl TrafficNotes {
    pub(super) fn take(&mut self) -> Traffic {
        let notes = std::mem::take(self);
        let count = notes.published_count + notes.settled_count;
        Traffic {
            count,
            has_published: notes.published_count > 0,
            goes_on: notes.goes_on_publishing() && notes.goes_on_working(),
        }
    }

    pub(super) fn published(&mut self, count: usize) {
        self.published_count += count as u64;
    }

    /// So many messages on a channel in confirm mode have no confirm yet.
    pub(super) fn unconfirmed(&mut self, count: u64) {
        self.unconfirmed_count =
            Some(self.unconfirmed_count.map_or(count, |least| least.min(count)));
    }

    /// So many deliveries were settled on a channel, so many are left, and none of its consumers may
    /// have more than `prefetch`.
    pub(super) fn settled(&mut self, count: usize, left: usize, prefetch: u32) {
        self.settled_count += count as u64;
        let left = left as u64;
        self.left_count = Some(self.left_count.map_or(left, |least| least.min(left)));
        self.prefetch = Some(self.prefetch.map_or(prefetch, |least| least.min(prefetch)));
    }

    /// A client whose window is full waits for confirms. While what it has just published is little of
    /// what it waits for, it hardly matters to it when that is read.
    fn goes_on_publishing(&self) -> bool {
        self.unconfirmed_count.is_none_or(|count| count >= 4 * self.published_count)
    }

    /// A client that holds as many deliveries as it may gets more for what it has settled, and waits for
    /// those once it has worked off what is left.
    fn goes_on_working(&self) -> bool {
        let (Some(left), Some(prefetch)) = (self.left_count, self.prefetch) else { return true };
        let was_full = left + self.settled_count >= u64::from(prefetch) * 3 / 4;
        !was_full || left >= 2 * self.settled_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(note: impl FnOnce(&mut TrafficNotes)) -> Traffic {
        let mut notes = TrafficNotes::default();
        note(&mut notes);
        let traffic = notes.take();
        assert_eq!(notes.take(), Traffic { count: 0, has_published: false, goes_on: true });
        traffic
    }

    #[test]
    fn who_has_acked_the_last_it_had_waits_for_more() {
        let goes_on = |count, left, prefetch| after(|n| n.settled(count, left, prefetch)).goes_on;
        assert!(!goes_on(1, 0, 1) && !goes_on(1, 1, 2) && !goes_on(5, 5, 10));
        assert!(goes_on(1, 9, 10) && goes_on(20, 180, 200));
        let one_by_one = after(|n| (0..5).for_each(|at| n.settled(1, 9 - at, 10)));
        assert_eq!(one_by_one, Traffic { count: 5, has_published: false, goes_on: false });
        // It has never had as many as it may, or may have any number.
        assert!(goes_on(1, 0, 200) && goes_on(100, 0, u32::MAX));
    }

    #[test]
    fn who_waits_for_its_confirms_does_not_go_on() {
        let published = |count, window| {
            after(|notes| {
                notes.published(count);
                notes.unconfirmed(window);
            })
        };
        assert_eq!(published(1, 1), Traffic { count: 1, has_published: true, goes_on: false });
        assert!(!published(5, 10).goes_on);
        assert_eq!(published(10, 1000), Traffic { count: 10, has_published: true, goes_on: true });
        assert!(after(|notes| notes.published(7)).goes_on);
    }
}
