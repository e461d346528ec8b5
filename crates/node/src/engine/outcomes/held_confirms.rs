//! Confirms that are held until something is acked: those of publishers with `x-confirm-on: ack`,
//! and those of workers that publish their reports that way.
//!
//! Each has a ticket, a number that travels with the message. Held confirms are in memory only:
//! after a restart no connection is left that could get them. The number includes the node's start,
//! so a message from before a restart finds nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use outcome::Ticket;

use crate::atomics::{AtomicUsize, Ordering};
use crate::engine::Engine;
use crate::locks::Mutex;
use crate::registry::{Decided, Outbox};
use crate::store::Waiter;

/// See the module's documentation.
pub(crate) struct HeldConfirms {
    /// The upper half of every number.
    life: u64,
    state: Mutex<HeldState>,
    count: AtomicUsize,
}

#[derive(Default)]
struct HeldState {
    last: u32,
    held: HashMap<Ticket, Held>,
    deadlines: BTreeSet<(u64, Ticket)>,
}

/// A confirm that is held.
pub(crate) struct Held {
    pub outbox: Weak<Outbox>,
    pub channel: u16,
    pub channel_serial: u64,
    /// The confirm's number on the channel.
    pub number: u64,
    /// Settlements still to come.
    pub remaining: u16,
    /// Whether one of the settlements so far was not a success.
    pub failed: bool,
    /// When it is refused if nothing has come by then, ms since the epoch.
    pub deadline_at_ms: u64,
    /// What must be durable before the confirm goes out: the last of the settlements.
    pub position: u64,
}

impl Default for HeldConfirms {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // A random number, taken from where std gets those for its hash maps. Never 0, which stands
        // for none.
        let life = RandomState::new().hash_one(0u8) << 32 | 1 << 32;
        Self { life, state: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl HeldConfirms {
    /// Holds a confirm; returns its ticket.
    pub(crate) fn hold(&self, held: Held) -> Option<Ticket> {
        let mut state = self.state.lock();
        state.last = state.last.wrapping_add(1);
        let ticket = Ticket::from_number(self.life | u64::from(state.last))?;
        state.deadlines.insert((held.deadline_at_ms, ticket));
        state.held.insert(ticket, held);
        self.count.fetch_add(1, Ordering::Release);
        Some(ticket)
    }

    /// One of the settlements it waits for has come, and is in the log before `position`. Returns
    /// whom to wake once that is durable.
    #[must_use]
    pub(crate) fn settle(
        &self,
        ticket: Option<Ticket>,
        is_good: bool,
        position: u64,
    ) -> Option<Arc<Outbox>> {
        let ticket = ticket?;
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let held = state.held.get_mut(&ticket)?;
        held.remaining = held.remaining.saturating_sub(1);
        held.failed |= !is_good;
        held.position = held.position.max(position);
        if held.remaining > 0 {
            return None;
        }
        let held = state.held.remove(&ticket)?;
        state.deadlines.remove(&(held.deadline_at_ms, ticket));
        self.count.fetch_sub(1, Ordering::Release);
        drop(state);
        decide(&held, !held.failed, held.position)
    }

    /// How many are held, however it is counted.
    #[cfg(test)]
    pub(crate) fn held_count(&self) -> usize {
        let state = self.state.lock();
        let count = state.held.len();
        assert_eq!((state.deadlines.len(), self.count.load(Ordering::Acquire)), (count, count));
        count
    }

    /// Refuses those whose deadline has passed; returns whom to wake.
    fn expire(&self, now_ms: u64) -> Vec<Arc<Outbox>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut late = Vec::new();
        let mut state = self.state.lock();
        let later = state.deadlines.split_off(&(now_ms, Ticket::MIN));
        for (_, ticket) in std::mem::replace(&mut state.deadlines, later) {
            late.extend(state.held.remove(&ticket));
            self.count.fetch_sub(1, Ordering::Release);
        }
        drop(state);
        late.iter().filter_map(|held| decide(held, false, 0)).collect()
    }
}

fn decide(held: &Held, is_acked: bool, position: u64) -> Option<Arc<Outbox>> {
    let outbox = held.outbox.upgrade()?;
    let decided = Decided { number: held.number, is_acked, position };
    outbox.decide(held.channel, held.channel_serial, decided).then_some(outbox)
}

impl Engine {
    /// Refuses confirms that have been held for too long. A queue looks at the deadlines of its
    /// messages itself; this is for reports, and for anything that was lost track of.
    pub(crate) fn expire_held_confirms(&self) {
        // A moment later than the queues, whose outcomes say more.
        let now_ms = self.now_ms().saturating_sub(100);
        self.outcomes.held_confirms.expire(now_ms).iter().for_each(|outbox| outbox.wake());
    }

    /// Has these woken when all that was appended so far is durable.
    pub(crate) fn wake_when_durable(&self, outboxes: Vec<Arc<Outbox>>) {
        for outbox in outboxes {
            let position = self.store.append(None, |_| ()).1;
            if self.store.wait_for(position, &(Arc::clone(&outbox) as Arc<dyn Waiter>)) {
                outbox.wake();
            }
        }
    }
}
