//! A virtual host: its topology and its living queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker::QueueId;
use broker::topology::Topology;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::live_queue::LiveQueue;

/// See the module's documentation.
///
/// Routing reads the topology only when a session's cached route is out of date, which the epoch
/// tells without a lock; so a plain read-write lock serves, and declaring ten thousand queues
/// copies nothing.
pub(crate) struct Vhost {
    pub name: Arc<str>,
    pub state: RwLock<VhostState>,
    epoch: AtomicU64,
}

/// What the lock covers.
pub(crate) struct VhostState {
    pub topology: Topology,
    pub queues: HashMap<QueueId, Arc<LiveQueue>>,
    /// Set once; nothing of it may be changed or logged any more, there may be a new one of its name.
    pub is_deleted: bool,
}

impl Vhost {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            state: RwLock::new(VhostState {
                topology: Topology::new(name),
                queues: HashMap::default(),
                is_deleted: false,
            }),
            epoch: AtomicU64::new(1),
        }
    }

    /// Changes with everything that may change a route or who may use it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// To be called after every such change.
    pub(crate) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
