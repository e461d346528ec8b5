//! Assigning messages to consumers, and dispatching them: by one driver at a time.

use super::consumers::Endpoint;
use super::effects::{Effects, Outgoing};
use super::state::Queue;

/// How many deliveries may wait to be dispatched.
pub(super) const OUTGOING_MAX: usize = 512;

impl<E: Endpoint> Queue<E> {
    /// Assigns ready messages to consumers with room, as long as the outgoing buffer has room.
    pub fn assign(&mut self, now_ms: u64, effects: &mut Effects) {
        self.assign_up_to(OUTGOING_MAX, now_ms, effects);
    }

    pub(super) fn assign_up_to(&mut self, outgoing_max: usize, now_ms: u64, effects: &mut Effects) {
        while self.outgoing.deliveries.len() < outgoing_max && self.ready_count > 0 {
            let Some(place) = self.first_live(now_ms, effects) else { return };
            let body_bytes = self.levels.at(place).map_or(0, |entry| entry.body_bytes);
            let Some(key) = self.consumers.next(body_bytes) else { return };
            self.deliver_to(now_ms, key, place, effects);
        }
    }

    /// Begins a dispatch if none is under way. Returns whether the caller may dispatch.
    pub fn begin_dispatch(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dispatching, true)
    }

    /// Swaps the assigned deliveries into `taken` (empty). If there are none, returns `false`, and
    /// the dispatch is over.
    pub fn take_outgoing(&mut self, taken: &mut Outgoing<E>) -> bool {
        debug_assert!(self.is_dispatching && taken.deliveries.is_empty());
        if self.outgoing.deliveries.is_empty() {
            self.is_dispatching = false;
            return false;
        }
        std::mem::swap(&mut self.outgoing, taken);
        self.outgoing_turn += 1;
        true
    }

    /// Whether bodies of assigned deliveries must be read from the log.
    pub fn outgoing_needs_log(&self) -> bool {
        self.outgoing.deliveries.iter().any(|delivery| delivery.message.is_none())
    }

    /// Gives up the dispatch, whatever is left to deliver: somebody else must take over.
    pub fn end_dispatch(&mut self) {
        self.is_dispatching = false;
    }
}
