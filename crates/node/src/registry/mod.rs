//! What exists: virtual hosts, their queues, connections, and consumers of direct replies.
//!
//! Owns the living things and finds them by name, id or address. Never does anything to a message:
//! work on a queue goes through the [`engine`](crate::engine), which is built on this.

mod connections;
mod consumer;
mod live_queue;
mod outbox;
mod outbox_total;
mod queue_ids;
mod turns;
mod unsettled;
mod user_use;
mod vhost;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use amqp::BStr;
use broker::QueueId;
use hashbrown::HashMap;
use outcome::IdHash;

use crate::locks::{Mutex, Rank, RwLock};
use crate::names::{QueueNames, REPLY_TO};

pub(crate) use connections::Connections;
pub(crate) use consumer::{ConsumerEndpoint, ConsumerHandle, SharedPrefetch};
pub(crate) use live_queue::LiveQueue;
pub use outbox::Outbox;
pub(crate) use outbox::{ChannelOutbox, Decided, Owner, report_key};
pub(crate) use queue_ids::QueueIds;
pub(crate) use turns::{Place, in_turn};
pub(crate) use unsettled::Unsettled;
pub(crate) use user_use::{Seat, UserUse, UserUses};
pub(crate) use vhost::{Vhost, VhostState};

/// How many names of deleted queues are remembered: their last events are still on the way into the
/// ledger.
const DELETED_MAX: usize = 16_384;

/// See the module's documentation.
pub(crate) struct Registry {
    pub vhosts: RwLock<HashMap<String, Arc<Vhost>>>,
    pub queue_ids: QueueIds,
    pub connections: Connections,
    pub users: UserUses,
    /// Recently deleted queues, the latest first.
    deleted_queues: Mutex<VecDeque<(QueueId, QueueNames)>>,
    /// Consumers of direct reply-to, by the token in their address.
    reply_consumers: RwLock<HashMap<String, Weak<ConsumerHandle>>>,
}

impl Registry {
    /// Starts without virtual hosts. Ids below `next_queue_id` have been used.
    pub(crate) fn new(next_queue_id: u32, deleted_queues: Vec<(QueueId, QueueNames)>) -> Self {
        Self {
            vhosts: RwLock::new(Rank::Vhosts, HashMap::default()),
            queue_ids: QueueIds::new(next_queue_id),
            connections: Connections::default(),
            users: UserUses::default(),
            deleted_queues: Mutex::new(Rank::Leaf, deleted_queues.into()),
            reply_consumers: RwLock::default(),
        }
    }

    pub(crate) fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// The virtual host of a message, recognised by the hash of its id and its virtual host.
    pub(crate) fn vhost_of(&self, message_id: &BStr, hash: IdHash) -> Option<Arc<Vhost>> {
        let vhosts = self.vhosts.read();
        vhosts.values().find(|vhost| IdHash::new(&vhost.realm, message_id) == hash).cloned()
    }

    /// Every queue, in order of id.
    pub(crate) fn all_queues(&self) -> Vec<Arc<LiveQueue>> {
        let vhosts: Vec<Arc<Vhost>> = self.vhosts.read().values().cloned().collect();
        let queues = |vhost: &Arc<Vhost>| -> Vec<Arc<LiveQueue>> {
            vhost.state.read().queues.values().cloned().collect()
        };
        let mut queues: Vec<_> = vhosts.iter().flat_map(queues).collect();
        queues.sort_by_key(|queue| queue.id);
        queues
    }

    /// The name a queue has, or had until a moment ago.
    pub(crate) fn queue_names(&self, id: QueueId) -> Option<QueueNames> {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let living = vhosts.iter().find_map(|vhost| {
            let name = vhost.state.read().queues.get(&id)?.name.clone();
            Some((vhost.realm.clone(), name))
        });
        living.or_else(|| {
            let deleted = self.deleted_queues.lock();
            deleted.iter().find(|(of, _)| *of == id).map(|(_, names)| names.clone())
        })
    }

    pub(crate) fn remember_deleted(&self, queue: &LiveQueue, vhost: &Vhost) {
        let mut deleted = self.deleted_queues.lock();
        deleted.push_front((queue.id, (vhost.realm.clone(), queue.name.clone())));
        deleted.truncate(DELETED_MAX);
    }

    /// Adds a consumer of direct reply-to; the token is unique and cannot be guessed.
    pub(crate) fn add_reply_consumer(&self, token: String, consumer: &Arc<ConsumerHandle>) {
        self.reply_consumers.write().insert(token, Arc::downgrade(consumer));
    }

    pub(crate) fn remove_reply_consumer(&self, token: &str) {
        self.reply_consumers.write().remove(token);
    }

    /// The consumer that an address of direct reply-to stands for, if it is such an address and the
    /// consumer is in this virtual host.
    pub(crate) fn reply_consumer(
        &self,
        vhost: &str,
        address: &str,
    ) -> Option<Weak<ConsumerHandle>> {
        let token = address.strip_prefix(REPLY_TO)?.trim_start_matches('.');
        let consumer = self.reply_consumers.read().get(token).cloned()?;
        let is_there = |it: Arc<ConsumerHandle>| *it.outbox.owner.vhost == *vhost;
        consumer.upgrade().is_some_and(is_there).then_some(consumer)
    }
}
