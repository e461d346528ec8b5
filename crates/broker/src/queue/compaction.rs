//! What compaction of the log asks a queue: which messages stand there, and to note where they went.

use super::{DeliveryId, Endpoint, NO_POSITION, Queue};

impl<E: Endpoint> Queue<E> {
    /// Messages whose log position lies in one of the ranges, for compaction: from `cursor` on at
    /// most `max` messages are looked at. Returns where to go on, or `None` at the end.
    pub fn positions_in(
        &self,
        wanted: &dyn Fn(u64) -> bool,
        (level, number): (u8, u64),
        max: usize,
        found: &mut Vec<(DeliveryId, u64)>,
    ) -> Option<(u8, u64)> {
        let index = self.levels.level(level.into())?;
        for (looked_at, (number, entry)) in index.iter_from(number).enumerate() {
            if looked_at == max {
                return Some((level, number));
            }
            if entry.position != NO_POSITION && wanted(entry.position) {
                let id = DeliveryId { number, level, attempt: entry.attempt };
                found.push((id, entry.position));
            }
        }
        (level < self.settings.priority_max).then(|| (level + 1, 0))
    }

    /// Compaction moved a message's record. `false` when the message is gone meanwhile.
    pub fn relocate(&mut self, id: DeliveryId, from: u64, to: u64) -> bool {
        match self.levels.at_mut(id.place()) {
            Some(entry) if entry.position == from => {
                entry.position = to;
                true
            }
            _ => false,
        }
    }
}
