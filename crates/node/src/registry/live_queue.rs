//! A queue of a running node: the pure core behind its mutex, and what others need to know about it
//! without locking.

use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};
use broker::QueueId;
use broker::queue::{Delivery, Queue, Settings};
use broker::topology::QueueDefinition;

use super::consumer::ConsumerEndpoint;
use super::vhost::Vhost;
use crate::atomics::{AtomicU64, Ordering};
use crate::locks::{Mutex, Rank};

/// Asked for a queue's name; empty stands for no queue.
type Sees = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// See the module's documentation.
pub(crate) struct LiveQueue {
    pub id: QueueId,
    pub name: Arc<str>,
    pub vhost: Weak<Vhost>,
    pub durable: bool,
    pub auto_delete: bool,
    /// Whether its owner may see what becomes of messages in a queue, by name; `None` if it has no
    /// owner.
    sees: Option<Sees>,
    /// The settings that the core has, to be read without its lock.
    settings: ArcSwap<Settings>,
    pub state: Mutex<QueueState>,
    /// How many messages consumers have been given, as of when its lock was last released.
    taken_count: AtomicU64,
    /// When the timers look at it next; `u64::MAX` for never.
    pub timer_at_ms: AtomicU64,
}

/// What the mutex covers.
pub(crate) struct QueueState {
    pub core: Queue<ConsumerEndpoint>,
    /// Set once; whoever still holds the queue then finds nothing to do.
    pub is_deleted: bool,
}

impl LiveQueue {
    pub(crate) fn new(definition: &QueueDefinition, vhost: &Arc<Vhost>, now_ms: u64) -> Self {
        let settings = Arc::new(Settings::resolve(&definition.settings));
        let core = Queue::new(definition.id, Arc::clone(&settings), now_ms);
        Self {
            id: definition.id,
            name: Arc::clone(&definition.name),
            vhost: Arc::downgrade(vhost),
            durable: definition.durable && definition.exclusive_owner.is_none(),
            auto_delete: definition.auto_delete,
            sees: None,
            settings: ArcSwap::new(settings),
            state: Mutex::new(Rank::Queue, QueueState { core, is_deleted: false }),
            taken_count: AtomicU64::new(0),
            timer_at_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// A transient queue that nobody knows.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Arc<Self> {
        let definition = QueueDefinition {
            id: QueueId(1),
            name: "q".into(),
            durable: false,
            exclusive_owner: None,
            auto_delete: false,
            arguments: Default::default(),
            settings: Default::default(),
        };
        Arc::new(Self::new(&definition, &Arc::new(Vhost::new("/", 0)), 0))
    }

    /// Limits what its owner, who alone reads it, may see of other queues.
    pub(crate) fn seen_by(self, sees: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { sees: Some(Box::new(sees)), ..self }
    }

    /// Whether whoever reads this queue may see what becomes of messages in another one. Who reads a
    /// queue without an owner is not known: whoever may bind it has decided that.
    pub(crate) fn may_see(&self, queue: &str) -> bool {
        self.sees.as_ref().is_none_or(|sees| sees(queue))
    }

    /// How many messages consumers have been given so far, roughly.
    pub(crate) fn taken_count(&self) -> u64 {
        self.taken_count.load(Ordering::Relaxed)
    }

    /// Notes the count, under the lock.
    pub(crate) fn note_taken(&self, taken_count: u64) {
        self.taken_count.store(taken_count, Ordering::Relaxed);
    }

    /// Its current settings.
    pub(crate) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// The earlier deliveries of a message, if its receiver is told of them (`x-delivery-count`).
    pub(crate) fn count_to_tell(&self, delivery: &Delivery) -> Option<u16> {
        let is_told = delivery.attempts_before > 0 && self.settings().counts_deliveries;
        is_told.then_some(delivery.attempts_before)
    }

    /// Its core uses these settings from now on.
    pub(crate) fn publish_settings(&self, settings: Arc<Settings>) {
        self.settings.store(settings);
    }

    /// Notes that the timers must look at it at `at_ms`. `false` when they will do so earlier
    /// anyway.
    pub(crate) fn claim_timer(&self, at_ms: u64) -> bool {
        self.timer_at_ms.fetch_min(at_ms, Ordering::AcqRel) > at_ms
    }
}
