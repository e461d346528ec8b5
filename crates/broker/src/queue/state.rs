//! The state of a queue, which its other modules change.
//!
//! *Invariant:* the counts are those of the messages in `levels`, by stage.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::command::Depth;
use super::consumers::{ConsumerKey, Consumers, Endpoint};
use super::drain::Drain;
use super::effects::{DeliveryId, Outgoing};
use super::priority_levels::PriorityLevels;
use super::settings::Settings;
use crate::QueueId;

/// See the documentation of module [`queue`](super). `E` is where deliveries go.
pub struct Queue<E> {
    pub(super) id: QueueId,
    pub(super) settings: Arc<Settings>,
    pub(super) levels: PriorityLevels,
    pub(super) ready_count: u64,
    pub(super) ready_bytes: u64,
    pub(super) unsettled_count: u64,
    pub(super) delayed_count: u64,
    pub(super) cached_bytes: u64,
    /// Messages for which room is reserved, and the bytes of their bodies.
    pub(super) reserved_count: u64,
    pub(super) reserved_bytes: u64,
    pub(super) consumers: Consumers<E>,
    pub(super) outgoing: Outgoing<E>,
    pub(super) outgoing_turn: u64,
    pub(super) drain: Drain,
    pub(super) is_dispatching: bool,
    pub(super) had_consumers: bool,
    pub(super) last_used_ms: u64,
    /// Whether anything in it could ever expire.
    pub(super) watches_time: bool,
    /// When deliveries time out, in order; only with a consumer timeout.
    pub(super) consumer_deadlines: VecDeque<(u64, DeliveryId, ConsumerKey)>,
    /// Producers' deadlines; some belong to messages that are gone.
    pub(super) deadlines: BinaryHeap<Reverse<(u64, u8, u64)>>,
    /// When to look at messages that wait for their next attempt; some are gone.
    pub(super) delayed: BTreeSet<(u64, u8, u64)>,
}

impl<E: Endpoint> Queue<E> {
    /// An empty queue.
    pub fn new(id: QueueId, settings: impl Into<Arc<Settings>>, now_ms: u64) -> Self {
        let settings = settings.into();
        Self {
            id,
            consumers: Consumers::new(settings.single_active_consumer),
            levels: PriorityLevels::new(settings.priority_max),
            settings,
            ready_count: 0,
            ready_bytes: 0,
            unsettled_count: 0,
            delayed_count: 0,
            cached_bytes: 0,
            reserved_count: 0,
            reserved_bytes: 0,
            outgoing: Outgoing::default(),
            outgoing_turn: 0,
            drain: Drain::default(),
            is_dispatching: false,
            had_consumers: false,
            last_used_ms: now_ms,
            watches_time: false,
            consumer_deadlines: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            delayed: BTreeSet::new(),
        }
    }

    /// Its id, which never changes.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// The settings that it follows.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// How full it is.
    pub fn depth(&self) -> Depth {
        Depth {
            ready_count: self.ready_count,
            unsettled_count: self.unsettled_count,
            delayed_count: self.delayed_count,
            ready_bytes: self.ready_bytes,
            consumer_count: self.consumers.count(),
        }
    }

    /// Bytes of memory that its messages take; each is counted here even if other queues share it.
    pub fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Whether it ever had a consumer (an auto-delete queue is deleted with its last one, not
    /// before).
    pub fn had_consumers(&self) -> bool {
        self.had_consumers
    }

    /// Notes that somebody used it: redeclared it or got a message from it (`x-expires` counts from
    /// here).
    pub fn touch(&mut self, now_ms: u64) {
        self.last_used_ms = now_ms;
    }
}
