//! How the library declares its queues: the same on a socket and in process.

use std::time::Duration;

use ::amqp::FieldTable;

/// How long the queue of outcomes outlives this process.
const OUTCOMES_EXPIRE: Duration = Duration::from_secs(3600);

/// How long the queue of a watch outlives it.
const WATCHING_EXPIRE: Duration = Duration::from_secs(60);
/// Outcomes that wait for a watcher; of more, the oldest are lost.
const WATCHING_LENGTH_MAX: i64 = 100_000;

/// The arguments of a queue for messages.
pub(super) fn arguments() -> FieldTable {
    [("x-queue-type", "quorum")].into_iter().collect()
}

/// A name for the queue to which this process has its outcomes sent.
pub(super) fn outcome_queue_name() -> String {
    format!("wilco.outcomes.{}", uuid::Uuid::now_v7())
}

/// The arguments of that queue; on a cluster it is there as long as most of the nodes are.
pub(super) fn outcome_queue_arguments(is_cluster: bool) -> FieldTable {
    let mut arguments = if is_cluster { arguments() } else { FieldTable::new() };
    arguments.push("x-expires", OUTCOMES_EXPIRE.as_millis() as i64);
    arguments
}

/// The exchange through which all outcomes go.
pub(super) const OUTCOMES: &str = "amq.wilco.outcomes";

/// The key of outcomes in a queue, or in all; `<outcome>.<queue>` is what they have.
pub(super) fn outcomes_key(queue: Option<&str>) -> String {
    queue.map_or_else(|| "#".to_owned(), |queue| format!("*.{queue}"))
}

/// The name of a queue in which outcomes are watched.
pub(crate) fn watching_queue_name() -> String {
    format!("wilco.watch.{}", uuid::Uuid::now_v7())
}

/// The arguments of such a queue: bounded, and gone soon after its watcher.
pub(super) fn watching_arguments() -> FieldTable {
    let mut arguments = FieldTable::new();
    arguments.push("x-expires", WATCHING_EXPIRE.as_millis() as i64);
    arguments.push("x-max-length", WATCHING_LENGTH_MAX);
    arguments
}
