//! Outcomes: what follows for producer and worker when a tracked message leaves a queue.
//!
//! - [`batch`]: from a queue's effects to one record of settlements with their outcomes, and the
//!   outcome messages in the same group: a crash leaves both or neither.
//! - [`notifications`]: outcome messages on their way to their queues. They arrive once the group
//!   is durable: nobody is told what a crash could take back.
//! - [`held_confirms`]: confirms of publishers (and of reporting workers) that wait for an ack.
//! - [`ids_in_flight`]: ids on their way into the window, so that each is enqueued once.
//! - [`notes`]: events that only the ledger shows.
//! - [`duplicates`]: producers who published an id again.
//!
//! *Invariant:* a message has one outcome per queue it was routed to; a missed deadline may be
//! turned, once, by a late ack.

pub(crate) mod batch;
pub(crate) mod duplicates;
pub(crate) mod held_confirms;
pub(crate) mod ids_in_flight;
mod notes;
pub(crate) mod notifications;
mod orphans;
mod settled_message;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::locks::{Mutex, Rank};
use duplicates::Duplicates;
use held_confirms::HeldConfirms;
use ids_in_flight::IdsInFlight;
use notifications::OutcomeNotifications;

/// Everything of a node that only outcomes need.
pub(crate) struct Outcomes {
    pub held_confirms: HeldConfirms,
    pub notifications: Arc<OutcomeNotifications>,
    pub ids: Mutex<IdsInFlight>,
    pub duplicates: Duplicates,
    ignored_report_count: AtomicU64,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self {
            held_confirms: HeldConfirms::default(),
            notifications: Arc::default(),
            ids: Mutex::new(Rank::IdsInFlight, IdsInFlight::default()),
            duplicates: Duplicates::default(),
            ignored_report_count: AtomicU64::new(0),
        }
    }
}

impl Outcomes {
    /// Reports of workers that were ignored.
    pub(crate) fn ignored_report_count(&self) -> u64 {
        self.ignored_report_count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_ignored_report(&self) {
        self.ignored_report_count.fetch_add(1, Ordering::Relaxed);
    }
}
