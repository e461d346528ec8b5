//! Queues by the time at which they must be looked at: expiry, consumer time-outs, `x-expires`,
//! deliveries that were put off.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use broker::queue::Tick;

use super::Engine;
use crate::locks::{Condvar, Mutex};
use crate::registry::LiveQueue;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Deadlines {
    state: Mutex<DeadlinesState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeadlinesState {
    queues: BTreeMap<(u64, u32), Weak<LiveQueue>>,
    is_closed: bool,
}

impl Deadlines {
    pub(super) fn add(&self, at_ms: u64, queue: &Arc<LiveQueue>) {
        let key = (at_ms, queue.id.0);
        let mut state = self.state.lock();
        let is_first = state.queues.first_key_value().is_none_or(|(first, _)| key < *first);
        state.queues.insert(key, Arc::downgrade(queue));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Ends all waiting, for good.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for the next deadline, but no longer than `at_most`. `false` when closed.
    pub(crate) fn wait(&self, now_ms: u64, at_most: Instant) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        let due_at = state.queues.first_key_value().map(|((at_ms, _), _)| {
            Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms))
        });
        let until = due_at.map_or(at_most, |due_at| due_at.min(at_most));
        self.changed.wait_until(&mut state, until);
        !state.is_closed
    }

    fn take_due(&self, now_ms: u64) -> Vec<Arc<LiveQueue>> {
        let mut state = self.state.lock();
        let later = state.queues.split_off(&(now_ms.saturating_add(1), 0));
        let due = std::mem::replace(&mut state.queues, later);
        due.into_values().filter_map(|queue| queue.upgrade()).collect()
    }
}

impl Engine {
    /// Looks at the queues whose time has come.
    pub(crate) fn look_at_due_queues(&self) {
        let now_ms = self.now_ms();
        let _errand = self.under_way.begin();
        for queue in self.deadlines.take_due(now_ms) {
            queue.timer_at_ms.store(u64::MAX, Ordering::Release);
            let tick = self.with_queue(&queue, now_ms, |core, effects| core.tick(now_ms, effects));
            if tick == Some(Tick::QueueExpired) {
                self.delete_live_queue_if(&queue, |core| core.is_expired(now_ms));
            }
        }
    }
}
