//! The keeper: a thread that does what is due by time, and what nobody should wait for.
//!
//! Queues are looked at when their first deadline comes (expiry, consumer time-outs, `x-expires`).
//! Every [`ROUND`] it brings the definition store up to date, compacts the log, and looks at free
//! disk and memory to hold publishers or let them go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use broker::queue::Tick;
use parking_lot::{Condvar, Mutex};

use crate::live_queue::LiveQueue;
use crate::node::Node;
use crate::store::Waiter;

/// How often the keeper makes its round.
const ROUND: Duration = Duration::from_millis(250);

/// Queues by the time they are to be looked at.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<TimerState>,
    changed: Condvar,
    /// The definitions could not be written, and that was said.
    definitions_fail: AtomicBool,
}

#[derive(Default)]
struct TimerState {
    queues: BTreeMap<(u64, u32), Weak<LiveQueue>>,
    is_closed: bool,
}

impl Timers {
    pub(crate) fn add(&self, at_ms: u64, queue: &Arc<LiveQueue>) {
        let key = (at_ms, queue.id.0);
        let mut state = self.state.lock();
        let is_first = state.queues.first_key_value().is_none_or(|(first, _)| key < *first);
        state.queues.insert(key, Arc::downgrade(queue));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn take_due(&self, now_ms: u64) -> Vec<Arc<LiveQueue>> {
        let mut state = self.state.lock();
        let later = state.queues.split_off(&(now_ms.saturating_add(1), 0));
        let due = std::mem::replace(&mut state.queues, later);
        due.into_values().filter_map(|queue| queue.upgrade()).collect()
    }

    /// Waits for the next deadline or the next round. `false` when closed.
    fn wait(&self, now_ms: u64, round_at: Instant) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        let due_at = state.queues.first_key_value().map(|((at_ms, _), _)| {
            Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms))
        });
        let until = due_at.map_or(round_at, |due_at| due_at.min(round_at));
        self.changed.wait_until(&mut state, until);
        !state.is_closed
    }
}

impl Node {
    pub(crate) fn run_keeper(&self) {
        let mut round_at = Instant::now() + ROUND;
        while self.timers.wait(self.now_ms(), round_at) {
            self.look_at_due_queues();
            if Instant::now() >= round_at {
                self.round();
                round_at = Instant::now() + ROUND;
            }
        }
    }

    /// Does what is due now. Only for a node without threads.
    pub fn keep(&self) {
        self.look_at_due_queues();
        self.round();
        self.follow(true);
    }

    fn look_at_due_queues(&self) {
        let now_ms = self.now_ms();
        for queue in self.timers.take_due(now_ms) {
            queue.timer_at_ms.store(u64::MAX, Ordering::Release);
            let tick = self.with_queue(&queue, now_ms, |core, effects| core.tick(now_ms, effects));
            if tick == Some(Tick::QueueExpired) {
                self.delete_live_queue_if(&queue, |core| core.is_expired(now_ms));
            }
        }
    }

    fn round(&self) {
        match self.store.apply_definitions() {
            Ok(()) => self.timers.definitions_fail.store(false, Ordering::Relaxed),
            Err(error) => {
                // They stay in the log, and are tried again every round: said once.
                if !self.timers.definitions_fail.swap(true, Ordering::Relaxed) {
                    tracing::error!("the definition store cannot be written, and waits: {error}");
                }
            }
        }
        if let Err(error) = self.compact() {
            tracing::warn!("the log could not be compacted: {error}");
        }
        self.expire_tickets();
        self.watch_resources();
        if self.store.has_deletable_segments() {
            let waiter: Arc<dyn Waiter> = self.outcomes.notices.clone();
            self.store.append(Some(&waiter), |_| ());
        }
    }

    fn watch_resources(&self) {
        let disk_is_low = !self.store.look_at_disk() || self.store.stuck().is_some();
        if disk_is_low {
            self.store.close_dead_segment();
        }
        self.store.restore_reserve();
        let memory_is_low = self.memory.is_low(&self.limits);
        match disk_is_low || memory_is_low {
            true => self.hold_publishers(disk_is_low, memory_is_low),
            false => self.release_publishers(),
        }
    }

    /// Holds publishers from now on; those who look after the resources let them go.
    pub(crate) fn hold_publishers(&self, disk_is_low: bool, memory_is_low: bool) {
        if !self.publishers_held.swap(true, Ordering::AcqRel) {
            tracing::warn!(disk_is_low, memory_is_low, "publishers are held");
            self.wake_connections();
        }
    }

    pub(crate) fn release_publishers(&self) {
        if self.publishers_held.swap(false, Ordering::AcqRel) {
            tracing::info!("publishers go on");
            self.wake_connections();
        }
    }
}
