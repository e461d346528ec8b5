//! Messages that wait for their next attempt.
//!
//! Such a message keeps its place and is neither ready nor unsettled; if it expires meanwhile, it
//! leaves at that time, wherever it is in the queue. The wait is not logged: a restart ends it.

use outcome::Reason;

use super::consumers::Endpoint;
use super::effects::{DeliveryId, Effects};
use super::index::Stage;
use super::priority_levels::Place;
use super::state::Queue;

impl<E: Endpoint> Queue<E> {
    /// How long a message waits after a delivery that was given back; `None` means not at all.
    pub(super) fn wait_after(&self, id: DeliveryId) -> Option<u64> {
        let wait_ms = self.settings.retry?.delay_ms(id.attempt, scramble(self.id.0, id));
        (wait_ms > 0).then_some(wait_ms)
    }

    /// Makes an unsettled message wait for its next attempt.
    pub(super) fn delay(
        &mut self,
        now_ms: u64,
        id: DeliveryId,
        wait_ms: u64,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.levels.delay(id.place()) else { return };
        let retry_at_ms = now_ms.saturating_add(wait_ms);
        // A message that expires before that is handled when it expires.
        let look_at_ms = retry_at_ms.min(entry.expires_at_ms);
        let (level, number) = id.place();
        self.delayed.insert((look_at_ms, level, number));
        self.watches_time = true;
        self.unsettled_count -= 1;
        self.delayed_count += 1;
        if self.delayed.len() as u64 > 64 + 2 * self.delayed_count {
            let levels = &self.levels;
            self.delayed.retain(|&(_, level, number)| {
                levels.at((level, number)).is_some_and(|entry| entry.stage == Stage::Delayed)
            });
        }
        self.note_attempt(id, retry_at_ms, effects);
    }

    /// Makes the messages ready whose wait is over, and removes those that have expired meanwhile.
    pub(super) fn end_delays(&mut self, now_ms: u64, effects: &mut Effects) {
        let ready_count = self.ready_count;
        while let Some(&(at_ms, level, number)) = self.delayed.first()
            && at_ms <= now_ms
        {
            self.delayed.pop_first();
            let place = (level, number);
            match self.levels.at(place) {
                Some(entry) if entry.stage == Stage::Delayed && entry.expires_at_ms <= now_ms => {
                    self.remove(place, Reason::Expired, effects);
                }
                _ => self.end_delay(place),
            }
        }
        if self.ready_count > ready_count {
            self.enforce_limits(now_ms, effects);
        }
    }

    /// Makes all waiting messages ready, whether their wait is over or not.
    pub(super) fn end_all_delays(&mut self) {
        for (_, level, number) in std::mem::take(&mut self.delayed) {
            self.end_delay((level, number));
        }
    }

    fn end_delay(&mut self, place: Place) {
        // It may have been removed since.
        if self.levels.at(place).is_none_or(|entry| entry.stage != Stage::Delayed) {
            return;
        }
        let Some(entry) = self.levels.give_back(place) else { return };
        self.ready_count += 1;
        self.ready_bytes += u64::from(entry.body_bytes);
        self.delayed_count -= 1;
    }
}

/// A number that looks random, and is the same for the same delivery (splitmix64).
fn scramble(queue: u32, id: DeliveryId) -> u64 {
    let mut z = id.number ^ u64::from(queue) << 40 ^ u64::from(id.attempt) << 20;
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
