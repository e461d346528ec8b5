//! Where a tracked message stands in a queue: its events name its positions in the log, and the
//! queue knows which of these it still holds.

use broker::queue::EntryRef;
use outcome::{Event, What};

use super::Engine;
use crate::registry::LiveQueue;

/// Entries of a queue that are looked at under its lock in one go.
const ENTRIES_AT_A_TIME: usize = 4096;

impl Engine {
    /// Whether a message is in a queue, even if a worker has it.
    pub(crate) fn is_in_queue(&self, queue: &LiveQueue, events: &[Event<'_>]) -> bool {
        find(queue, &positions(events, queue.id.0)).is_some()
    }
}

/// The message that stands at one of these positions of the log.
pub(crate) fn find(queue: &LiveQueue, wanted: &[u64]) -> Option<EntryRef> {
    let wanted = |position: u64| wanted.contains(&position);
    let mut found = Vec::new();
    let mut at = Some((0, 0));
    while let Some(from) = at.filter(|_| found.is_empty()) {
        let state = queue.state.lock();
        at = state.core.positions_in(&wanted, from, ENTRIES_AT_A_TIME, &mut found);
    }
    found.pop()
}

/// Positions in the log at which a message may stand in a queue, including its copies there.
pub(crate) fn positions(events: &[Event<'_>], queue_id: u32) -> Vec<u64> {
    let position = |event: &Event<'_>| match &event.what {
        What::Published(published) => {
            let is_there = published.queues.iter().any(|of| of.id == queue_id);
            is_there.then_some(published.position)
        }
        What::Moved { position } => Some(*position),
        _ => None,
    };
    events.iter().filter_map(position).collect()
}
