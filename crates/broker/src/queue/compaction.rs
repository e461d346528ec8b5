//! Finds messages by their place in the log: for compaction, which also moves them, and for
//! cancelling one.

use crate::Position;
use outcome::Reason;

use super::consumers::Endpoint;
use super::effects::{DeliveryId, Effects};
use super::index::{Marks, Stage};
use super::state::Queue;

/// A message in the queue, and its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef {
    /// Which message; its attempts so far.
    pub id: DeliveryId,
    /// Its place.
    pub position: u64,
    /// Whether its deadline has passed and was reported.
    pub missed_deadline: bool,
}

impl<E: Endpoint> Queue<E> {
    /// Messages whose log position lies in one of the ranges, for compaction: at most `max`
    /// messages are examined, starting at `cursor`. Returns where to continue, or `None` at the
    /// end.
    pub fn positions_in(
        &self,
        wanted: &dyn Fn(u64) -> bool,
        (level, number): (u8, u64),
        max: usize,
        found: &mut Vec<EntryRef>,
    ) -> Option<(u8, u64)> {
        let index = self.levels.level(level.into())?;
        for (looked_at, (number, entry)) in index.iter_from(number).enumerate() {
            if looked_at == max {
                return Some((level, number));
            }
            if let Some(position) =
                entry.position.map(Position::get).filter(|position| wanted(*position))
            {
                let id = DeliveryId { number, level, attempt: entry.attempt };
                let missed_deadline = entry.marks.has(Marks::MISSED_DEADLINE);
                found.push(EntryRef { id, position, missed_deadline });
            }
        }
        (level < self.settings.priority_max).then(|| (level + 1, 0))
    }

    /// Notes that compaction has moved a message's record; `false` if the message has gone in the
    /// meantime.
    pub fn relocate(&mut self, id: DeliveryId, from: u64, to: u64) -> bool {
        match self.levels.at_mut(id.place()) {
            Some(entry) if entry.position == Some(Position::new(from)) => {
                entry.position = Some(Position::new(to));
                true
            }
            _ => false,
        }
    }

    /// Whether the deadline of a message that is still in the queue has passed and was reported.
    pub fn missed_deadline(&self, id: DeliveryId) -> bool {
        self.levels.at(id.place()).is_some_and(|entry| entry.marks.has(Marks::MISSED_DEADLINE))
    }

    /// Removes a message that no consumer has. `None` if it is gone, `Some(false)` if a consumer
    /// has it.
    pub fn cancel(&mut self, wanted: EntryRef, effects: &mut Effects) -> Option<bool> {
        let place = wanted.id.place();
        let entry = self
            .levels
            .at(place)
            .filter(|entry| entry.position == Some(Position::new(wanted.position)))?;
        if entry.stage == Stage::Unsettled {
            return Some(false);
        }
        self.remove(place, Reason::Cancelled, effects);
        Some(true)
    }
}
