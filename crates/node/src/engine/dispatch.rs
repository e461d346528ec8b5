//! Works on a queue and dispatches its deliveries.
//!
//! Everything that touches a queue's core goes through [`Engine::with_queue`]: lock, work, assign,
//! unlock, dispatch, then the effects. Only one thread at a time dispatches for a queue; the others
//! leave their deliveries to it, in order, so a consumer's messages never overtake each other and
//! no two locks are held at once.

use std::cell::Cell;
use std::sync::Arc;

use broker::Position;
use broker::queue::{
    ConsumerKey, Delivery, DeliveryId, Effects, Endpoint, Outgoing, Queue, Settlement,
};
use outcome::SettledBy;
use segment_log::LogError;

use super::Engine;
use crate::registry::{ConsumerEndpoint, LiveQueue};

/// Rounds after which a thread leaves a dispatch to maintenance: everybody waits for the committer,
/// and a connection that began one must get back to its own work.
const COMMITTER_ROUNDS_MAX: u32 = 4;
/// In tests so few that it happens.
const ROUNDS_MAX: u32 = if cfg!(test) { 2 } else { 64 };

thread_local! {
    /// Memory for the next effects of this thread.
    static SPARE_EFFECTS: Cell<Effects> = Cell::default();
}

pub(crate) type CoreQueue = Queue<ConsumerEndpoint>;

impl Engine {
    /// Works on a queue under its lock, then does everything that follows. `None` when it is
    /// deleted.
    pub(crate) fn with_queue<R>(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        work: impl FnOnce(&mut CoreQueue, &mut Effects) -> R,
    ) -> Option<R> {
        let mut effects = SPARE_EFFECTS.take();
        let result = self.with_core(queue, now_ms, &mut effects, work);
        SPARE_EFFECTS.set(self.apply_and_empty(queue, effects));
        result
    }

    /// As [`Engine::with_queue`], with the effects left to the caller.
    pub(crate) fn with_core<R>(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        effects: &mut Effects,
        work: impl FnOnce(&mut CoreQueue, &mut Effects) -> R,
    ) -> Option<R> {
        let mut outgoing = Outgoing::default();
        let mut state = queue.state.lock();
        if state.is_deleted {
            return None;
        }
        let core = &mut state.core;
        let cached_before = core.cached_bytes();
        let result = work(core, effects);
        core.assign(now_ms, effects);
        queue.note_taken(core.taken_count());
        self.bodies.count(cached_before, core.cached_bytes());
        let deadline_ms = core.has_deadlines().then(|| core.next_deadline_ms()).flatten();
        let begins = core.begin_dispatch();
        let is_left = begins && self.store.is_committer() && core.outgoing_needs_log();
        if is_left {
            core.end_dispatch();
        }
        let dispatches = begins && !is_left && core.take_outgoing(&mut outgoing);
        drop(state);
        if let Some(at_ms) = deadline_ms {
            self.schedule(queue, at_ms);
        }
        if is_left {
            self.schedule(queue, now_ms);
        }
        if !effects.requeued.is_empty() {
            // Logged before anybody gets them again, so that the log has things in order.
            self.note_requeued(queue, now_ms, std::mem::take(&mut effects.requeued));
        }
        if dispatches {
            self.dispatch(queue, outgoing, effects);
        }
        Some(result)
    }

    /// Dispatches what was assigned, round by round, until nothing is left or it takes too long.
    fn dispatch(
        &self,
        queue: &Arc<LiveQueue>,
        mut outgoing: Outgoing<ConsumerEndpoint>,
        effects: &mut Effects,
    ) {
        let mut handed = Handed::default();
        // Everybody waits for the committer, so it neither reads bodies nor works for others for
        // long.
        let is_committer = self.store.is_committer();
        for round in 1.. {
            self.push_all(queue, &mut outgoing, &mut handed);
            outgoing.clear();
            // Under load this goes on for a long time, also on behalf of others: time passes
            // meanwhile.
            let now_ms = self.now_ms();
            let mut state = queue.state.lock();
            let core = &mut state.core;
            let cached_before = core.cached_bytes();
            handed.settle(core, now_ms, effects);
            core.assign(now_ms, effects);
            queue.note_taken(core.taken_count());
            self.bodies.count(cached_before, core.cached_bytes());
            let is_left = match is_committer {
                true => round == COMMITTER_ROUNDS_MAX || core.outgoing_needs_log(),
                false => round == ROUNDS_MAX,
            };
            if is_left {
                core.end_dispatch();
                drop(state);
                self.schedule(queue, now_ms);
                return;
            }
            if !core.take_outgoing(&mut outgoing) {
                let deadline_ms = core.has_deadlines().then(|| core.next_deadline_ms()).flatten();
                drop(state);
                if let Some(at_ms) = deadline_ms {
                    self.schedule(queue, at_ms);
                }
                return;
            }
        }
    }

    /// Pushes to each consumer in turn; notes what must be settled on its behalf.
    fn push_all(
        &self,
        queue: &Arc<LiveQueue>,
        outgoing: &mut Outgoing<ConsumerEndpoint>,
        handed: &mut Handed,
    ) {
        let Outgoing { deliveries, endpoints } = outgoing;
        // Disk first: nothing is read under an outbox's lock.
        for delivery in deliveries.iter_mut().filter(|delivery| delivery.message.is_none()) {
            self.load_body(queue, delivery, handed);
        }
        if endpoints.len() > 1 {
            deliveries.sort_by_key(|delivery| delivery.endpoint);
        }
        for of_one in deliveries.chunk_by_mut(|a, b| a.endpoint == b.endpoint) {
            let consumer = &endpoints[of_one[0].endpoint as usize];
            if of_one.iter().any(|delivery| delivery.is_tracked) {
                // Logged before anybody can settle them, so that the log has things in order.
                self.note_delivered(queue, &consumer.by.worker, of_one);
            }
            if !consumer.outbox.push(consumer, queue, of_one) {
                // What the outbox does not take goes back, but what was auto-acked is lost with the
                // consumer.
                of_one.iter_mut().for_each(|delivery| delivery.message = None);
            }
        }
        for delivery in deliveries.drain(..) {
            let endpoint = &endpoints[delivery.endpoint as usize];
            let Delivery { id, consumer, .. } = delivery;
            let (settlement, by) = match &delivery.message {
                Some(_) if !delivery.settle_after => continue,
                Some(_) => (Settlement::AutoAck, Some(Arc::clone(&endpoint.by))),
                None => {
                    endpoint.release(delivery.body_bytes);
                    (Settlement::Undelivered, None)
                }
            };
            handed.settlements.push(Settling { id, consumer, settlement, by });
        }
    }

    /// A message that cannot be read stays unsettled, out of everybody's way, until a restart tries
    /// again: if it were given back, it would be the next to be delivered, over and over.
    fn load_body(&self, queue: &LiveQueue, delivery: &mut Delivery, handed: &mut Handed) {
        match self.load(None, delivery.position) {
            Ok(message) => delivery.message = Some(message),
            // Compaction has moved it since it was assigned; its entry knows the new position.
            Err(LogError::NotFound(position)) if !handed.missing.contains(&position) => {
                handed.missing.push(position);
            }
            Err(error) => {
                handed.unreadable.push(delivery.id);
                tracing::error!(
                    queue = &*queue.name,
                    position = delivery.position.map(Position::get),
                    "a message cannot be read and stays unsettled until a restart: {error}"
                );
            }
        }
    }
}

/// The results of a dispatch, to be brought back under the queue's lock.
#[derive(Default)]
struct Handed {
    settlements: Vec<Settling>,
    /// Positions at which there was no message any more.
    missing: Vec<u64>,
    unreadable: Vec<DeliveryId>,
}

/// A delivery that is settled on its consumer's behalf.
struct Settling {
    id: DeliveryId,
    consumer: ConsumerKey,
    settlement: Settlement,
    by: Option<Arc<SettledBy>>,
}

impl Handed {
    fn settle(&mut self, core: &mut CoreQueue, now_ms: u64, effects: &mut Effects) {
        for Settling { id, consumer, settlement, by } in self.settlements.drain(..) {
            if self.unreadable.contains(&id) {
                core.forget_delivery(consumer);
            } else {
                core.settle_by(now_ms, id, consumer, settlement, by.as_ref(), effects);
            }
        }
    }
}
