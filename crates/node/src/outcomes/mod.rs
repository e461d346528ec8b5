//! Outcomes: what follows for producer and worker when a tracked message leaves a queue.
//!
//! - [`telling`]: from a queue's effects to one record of settlements with their outcomes, and the
//!   outcome messages in the same group: a crash leaves both or neither.
//! - [`notices`]: outcome messages on their way to their queues. They get there once the group is
//!   durable: nobody is told what a crash could take back.
//! - [`tickets`]: publishers (and reporting workers) whose confirm waits for an ack.
//! - [`ids_in_flight`]: ids on their way into the window, so that each is enqueued once.
//! - [`duplicates`]: producers who published an id again.
//!
//! *Invariant:* a message has one outcome per queue it was routed to; a missed deadline may be
//! turned, once, by a late ack.

pub(crate) mod duplicates;
pub(crate) mod ids_in_flight;
pub(crate) mod notices;
mod orphans;
pub(crate) mod telling;
pub(crate) mod tickets;
mod told;

use duplicates::Duplicates;
use ids_in_flight::IdsInFlight;
use notices::Notices;
use tickets::Tickets;

use std::sync::Arc;

use parking_lot::Mutex;

/// The exchange that workers publish results and errors to.
pub(crate) const REPORT_EXCHANGE: &str = "amq.wilco.report";
/// The topic exchange that has every outcome.
pub(crate) const OUTCOMES_EXCHANGE: &str = "amq.wilco.outcomes";

/// Everything of a node that only outcomes need.
#[derive(Default)]
pub(crate) struct Outcomes {
    pub tickets: Tickets,
    pub notices: Arc<Notices>,
    pub ids: Mutex<IdsInFlight>,
    pub duplicates: Duplicates,
}
