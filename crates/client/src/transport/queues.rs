//! How the library declares its queues: the same on a socket and in process.

use std::time::Duration;

use ::amqp::FieldTable;

/// How long the queue of outcomes outlives this process.
const OUTCOMES_EXPIRE: Duration = Duration::from_secs(3600);

/// The arguments of a queue for messages.
pub(super) fn arguments() -> FieldTable {
    [("x-queue-type", "quorum")].into_iter().collect()
}

/// A name for the queue to which this process has its outcomes sent.
pub(super) fn outcome_queue_name() -> String {
    format!("wilco.outcomes.{}", uuid::Uuid::now_v7())
}

/// The arguments of that queue.
pub(super) fn outcome_queue_arguments() -> FieldTable {
    [("x-expires", OUTCOMES_EXPIRE.as_millis() as i64)].into_iter().collect()
}
