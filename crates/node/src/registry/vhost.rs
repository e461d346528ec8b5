//! A virtual host: its topology and its living queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amqp::BStr;
use broker::QueueId;
use broker::topology::Topology;
use hashbrown::HashMap;

use super::live_queue::LiveQueue;
use crate::locks::{Rank, RwLock};
use crate::names::OUTCOMES_EXCHANGE;

/// See the module's documentation.
///
/// Routing reads the topology only when a session's cached route is out of date, which the epoch
/// shows without a lock. So a plain read-write lock is enough, and declaring ten thousand queues
/// copies nothing.
pub(crate) struct Vhost {
    pub name: Arc<str>,
    /// What the log and the ledger call it ([`realm`](crate::names::realm)).
    pub realm: Arc<str>,
    pub state: RwLock<VhostState>,
    epoch: AtomicU64,
    /// Whether anything is bound to the exchange that gets every outcome, and as of which epoch.
    watched: AtomicU64,
}

/// What the lock covers.
pub(crate) struct VhostState {
    pub topology: Topology,
    pub queues: HashMap<QueueId, Arc<LiveQueue>>,
    /// Set once; after that nothing of it may be changed or logged, as there may be a new virtual
    /// host of the same name.
    pub is_deleted: bool,
}

impl Vhost {
    pub(crate) fn new(name: &str, incarnation: u64) -> Self {
        Self {
            name: name.into(),
            realm: crate::names::realm(name, incarnation),
            state: RwLock::new(
                Rank::Topology,
                VhostState {
                    topology: Topology::new(name),
                    queues: HashMap::default(),
                    is_deleted: false,
                },
            ),
            epoch: AtomicU64::new(1),
            watched: AtomicU64::new(0),
        }
    }

    pub(crate) fn queue_named(&self, name: &str) -> Option<Arc<LiveQueue>> {
        let state = self.state.read();
        let id = state.topology.queue_named(name)?.id;
        state.queues.get(&id).cloned()
    }

    /// The queues that a message with this key and no headers reaches through an exchange.
    pub(crate) fn queues_bound_to(&self, exchange: &str, key: &BStr) -> Vec<Arc<LiveQueue>> {
        let mut ids: Vec<QueueId> = Vec::new();
        let state = self.state.read();
        match state.topology.route(exchange, key, &[], None, &mut ids) {
            Ok(()) => ids.iter().filter_map(|id| state.queues.get(id).cloned()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// A number that changes with everything that may change a route or who may use it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether anything is bound to the exchange that gets every outcome.
    pub(crate) fn outcomes_are_watched(&self) -> bool {
        let epoch = self.epoch();
        let known = self.watched.load(Ordering::Acquire);
        if known >> 1 == epoch {
            return known & 1 == 1;
        }
        let state = self.state.read();
        let is_watched = state.topology.bindings_from(OUTCOMES_EXCHANGE).next().is_some();
        self.watched.store(epoch << 1 | u64::from(is_watched), Ordering::Release);
        is_watched
    }

    /// Must be called after every such change.
    pub(crate) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
