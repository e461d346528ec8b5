//! Deletes a queue, whoever asks: a client, its last consumer, the end of its owner, the clock.

use std::sync::Arc;

use broker::queue::Effects;
use broker::topology::Removal;

use super::CoreQueue;
use super::Engine;
use crate::definitions::{Change, convert};
use crate::registry::{ConsumerEndpoint, LiveQueue, Vhost};

/// A queue that has just been deleted.
pub(crate) struct Deleted {
    /// The number of ready messages it had.
    pub ready_count: u64,
    /// The log position after the deletion.
    pub end: u64,
    /// They have not been told.
    pub consumers: Vec<ConsumerEndpoint>,
}

impl Engine {
    /// Deletes a queue with its bindings and messages, and tells its consumers.
    pub(crate) fn delete_live_queue(&self, queue: &Arc<LiveQueue>) {
        let deleted = self.delete_live_queue_if(queue, |_| true);
        let consumers = deleted.map(|deleted| deleted.consumers).unwrap_or_default();
        consumers.iter().for_each(|consumer| consumer.tell_cancelled());
    }

    /// The same if `may` agrees, which is asked under the queue's lock: nothing comes in between. The
    /// caller must tell the consumers.
    pub(crate) fn delete_live_queue_if(
        &self,
        queue: &Arc<LiveQueue>,
        may: impl FnOnce(&CoreQueue) -> bool,
    ) -> Option<Deleted> {
        let mut effects = Effects::default();
        let mut state = queue.state.lock();
        if state.is_deleted || !may(&state.core) {
            return None;
        }
        state.is_deleted = true;
        let cached_before = state.core.cached_bytes();
        let ready_count = state.core.clear(&mut effects);
        self.bodies.count(cached_before, state.core.cached_bytes());
        let consumers: Vec<_> =
            state.core.consumers().map(|(_, endpoint)| endpoint.clone()).collect();
        drop(state);
        let end = self.forget_queue(queue);
        self.with_agenda(|agenda| agenda.add(queue, effects));
        Some(Deleted { ready_count, end, consumers })
    }

    /// Takes a queue out of the topology and the durable definitions.
    fn forget_queue(&self, queue: &LiveQueue) -> u64 {
        let Some(vhost) = queue.vhost.upgrade() else { return 0 };
        // Its last events are still on the way into the ledger.
        self.registry.remember_deleted(queue, &vhost);
        let mut state = vhost.state.write();
        // Somebody may have declared a new queue with this name since.
        let is_there = state.topology.queue_named(&queue.name).is_some_and(|d| d.id == queue.id);
        if !is_there || state.queues.remove(&queue.id).is_none() {
            return 0;
        }
        let Some(removed) = state.topology.delete_queue(&queue.name) else { return 0 };
        vhost.changed();
        let mut end = 0;
        if queue.durable {
            let (vhost, name) = (vhost.name.to_string(), queue.name.to_string());
            let change = Change::QueueDeleted { vhost, name, id: queue.id.0 };
            ((), end) = self.store.append(None, |appender| appender.change(change));
        }
        end.max(self.append_removal(&vhost, &removed.removal))
    }

    /// Logs what a removal took along. Returns the position after it, 0 when nothing of it was
    /// durable.
    pub(crate) fn append_removal(&self, vhost: &Vhost, removal: &Removal) -> u64 {
        let vhost = vhost.name.to_string();
        let bindings = removal.bindings.iter().filter(|binding| binding.is_durable());
        let bindings = bindings.map(|binding| Change::BindingDeleted {
            vhost: vhost.clone(),
            binding: convert::stored_binding(binding),
        });
        let exchanges = removal.exchanges.iter().filter(|exchange| exchange.durable);
        let exchanges = exchanges.map(|exchange| Change::ExchangeDeleted {
            vhost: vhost.clone(),
            name: exchange.name.to_string(),
        });
        let changes: Vec<Change> = bindings.chain(exchanges).collect();
        if changes.is_empty() {
            return 0;
        }
        let append = |appender: &mut crate::store::Appender<'_>| {
            changes.into_iter().for_each(|change| appender.change(change));
        };
        self.store.append(None, append).1
    }
}
