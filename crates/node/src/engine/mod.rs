//! What happens to messages: everything that touches a queue, and what follows from it.
//!
//! An [`Engine`] is what sessions work on. It owns the store, the registry of living things, the
//! ledger's handle and what outcomes need. Never here: users and permissions (callers have checked
//! them), AMQP's methods, threads.
//!
//! - [`dispatch`]: work on a queue under its lock, and the dispatch of its deliveries.
//! - [`agenda`]: what is left to be done after that, so that nothing is nested.
//! - [`effects`]: what follows from that: settlements are logged, dead letters are sent on.
//! - [`outcomes`]: what producers and workers are told.
//! - [`deletion`], [`compaction`], [`deadlines`]: deleting queues, emptying segments, looking at
//!   queues when it is time.
//! - [`settings`]: the settings of a queue, which may change while it lives.
//! - [`started`]: what a start does to messages that workers had.
//! - [`whereabouts`]: where a message stands, by its events.
//! - [`body_cache`], [`publisher_hold`]: memory for bodies, and holding publishers.

mod agenda;
mod body_cache;
mod compaction;
mod deadlines;
mod deletion;
mod dispatch;
mod effects;
pub(crate) mod outcomes;
mod publisher_hold;
mod settings;
pub(crate) mod started;
mod under_way;
pub(crate) mod whereabouts;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use broker::{Message, Position};
use ledger::Ledger;
use segment_log::LogError;

use crate::clock::Clock;
use crate::options::Limits;
use crate::queries::Queries;
use crate::registry::{LiveQueue, Registry};
use crate::store::Store;
use body_cache::BodyCache;
use outcomes::Outcomes;
use started::Started;

pub(crate) use agenda::Agenda;
pub(crate) use deadlines::Deadlines;
pub(crate) use dispatch::CoreQueue;
pub(crate) use effects::{DeadLetter, append_effects};
pub(crate) use publisher_hold::PublisherHold;
pub(crate) use under_way::UnderWay;

/// See the module's documentation.
pub(crate) struct Engine {
    pub store: Store,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub registry: Registry,
    pub outcomes: Outcomes,
    pub bodies: BodyCache,
    pub deadlines: Deadlines,
    pub under_way: UnderWay,
    pub hold: PublisherHold,
    pub limits: Limits,
    /// The start after which all this goes on.
    pub started: Started,
    /// Memory used by what clients have begun and not finished.
    pub unfinished_bytes: AtomicU64,
    /// Who answers questions about messages.
    pub queries: OnceLock<Arc<dyn Queries>>,
}

impl Engine {
    pub(crate) fn new(
        store: Store,
        ledger: Ledger,
        registry: Registry,
        clock: Arc<dyn Clock>,
        limits: Limits,
        body_cache_bytes: u64,
    ) -> Arc<Self> {
        let started = Started { position: store.append(None, |_| ()).1, at_ms: clock.now_ms() };
        let engine = Arc::new(Self {
            started,
            store,
            ledger,
            clock,
            registry,
            outcomes: Outcomes::default(),
            bodies: BodyCache::new(body_cache_bytes),
            deadlines: Deadlines::default(),
            under_way: UnderWay::default(),
            hold: PublisherHold::default(),
            limits,
            unfinished_bytes: AtomicU64::new(0),
            queries: OnceLock::new(),
        });
        engine.outcomes.notifications.bind(&engine);
        engine
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether bodies of newly queued messages may stay in memory.
    pub(crate) fn keeps_bodies(&self) -> bool {
        self.bodies.has_room()
    }

    /// A message, read from the log if its body is only there.
    pub(crate) fn load(
        &self,
        message: Option<Message>,
        position: Option<Position>,
    ) -> Result<Message, LogError> {
        match (message, position) {
            (Some(message), _) => Ok(message),
            (None, Some(position)) => self.store.read_message(position.get()),
            // A queue keeps in memory what is not in the log, so this does not happen.
            (None, None) => Err(LogError::NotFound(u64::MAX)),
        }
    }

    /// Has the timers look at a queue.
    pub(crate) fn schedule(&self, queue: &Arc<LiveQueue>, at_ms: u64) {
        if queue.claim_timer(at_ms) {
            self.deadlines.add(at_ms, queue);
        }
    }
}
