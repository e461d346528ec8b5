//! How often a message has been tried, where the engine does not count: on classic queues.
//!
//! *Invariant:* bounded; what is forgotten is tried more often than it should.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::transport::Incoming;

/// Messages that are counted at a time.
const COUNTED_MAX: usize = 10_000;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Attempts {
    by_id: Mutex<HashMap<String, u32>>,
}

impl Attempts {
    /// Attempts before this delivery.
    pub(super) fn before(&self, incoming: &Incoming) -> u32 {
        match incoming.attempts_before {
            Some(count) => count,
            None if incoming.is_redelivered => {
                self.by_id.lock().get(&incoming.id).copied().unwrap_or(0)
            }
            None => 0,
        }
    }

    /// Notes that a message will be tried again after so many attempts.
    pub(super) fn note(&self, incoming: &Incoming, attempts: u32) {
        if incoming.attempts_before.is_some() || incoming.id.is_empty() {
            return;
        }
        let mut by_id = self.by_id.lock();
        if by_id.len() >= COUNTED_MAX {
            by_id.clear();
        }
        by_id.insert(incoming.id.clone(), attempts);
    }

    /// Notes that it is over with a message.
    pub(super) fn forget(&self, incoming: &Incoming) {
        if incoming.attempts_before.is_none() && incoming.is_redelivered {
            self.by_id.lock().remove(&incoming.id);
        }
    }
}
