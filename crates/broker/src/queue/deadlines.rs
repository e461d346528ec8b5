//! Deadlines of producers (`x-deadline`): when one passes first, that is the message's outcome. The
//! message stays where it is, and an ack may still change the outcome, once.

use std::cmp::Reverse;

use super::consumers::Endpoint;
use super::effects::{Effects, Noted};
use super::index::Marks;
use super::priority_levels::Place;
use super::state::Queue;

impl<E: Endpoint> Queue<E> {
    /// Watches a message's deadline; 0 means none.
    pub(super) fn watch_deadline(&mut self, at_ms: u64, (level, number): Place) {
        if at_ms == 0 {
            return;
        }
        self.watches_time = true;
        self.deadlines.push(Reverse((at_ms, level, number)));
        let living_count = self.ready_count + self.unsettled_count + self.delayed_count;
        if self.deadlines.len() as u64 > 64 + 2 * living_count {
            let levels = &self.levels;
            self.deadlines.retain(|Reverse((_, level, number))| {
                levels
                    .at((*level, *number))
                    .is_some_and(|entry| !entry.marks.has(Marks::MISSED_DEADLINE))
            });
        }
    }

    /// Marks and reports the messages whose deadline has passed.
    pub(super) fn miss_deadlines(&mut self, now_ms: u64, effects: &mut Effects) {
        while let Some(&Reverse((at_ms, level, number))) = self.deadlines.peek() {
            if at_ms > now_ms {
                return;
            }
            self.deadlines.pop();
            let Some(entry) = self.levels.at_mut((level, number)) else { continue };
            if entry.marks.has(Marks::MISSED_DEADLINE) {
                continue;
            }
            entry.marks.set(Marks::MISSED_DEADLINE);
            effects.missed.push(Noted {
                message: entry.message.clone(),
                position: entry.position,
                attempts: entry.attempt,
                retry_at_ms: 0,
            });
        }
    }

    /// The next deadline of a message that is still in the queue.
    pub(super) fn next_missed_ms(&mut self) -> Option<u64> {
        while let Some(&Reverse((at_ms, level, number))) = self.deadlines.peek() {
            if self.levels.at((level, number)).is_some() {
                return Some(at_ms);
            }
            self.deadlines.pop();
        }
        None
    }
}
