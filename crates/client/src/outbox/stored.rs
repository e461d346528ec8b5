//! Outcomes as rows have them, and targets.

use std::sync::Arc;

use ::outcome::{Outcome as Kind, Reason};
use serde::{Deserialize, Serialize};

use crate::clock::{at, millis};
use crate::outcome::{Details, Settled};
use crate::target::Target;

/// All of an outcome but its result, as JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    queue: String,
    attempts: u16,
    reason: Option<String>,
    worker: String,
    published_at_ms: u64,
    settled_at_ms: u64,
    is_late: bool,
    is_unverified: bool,
    is_duplicate: bool,
    queue_count: u16,
    cut_from: Option<u64>,
    error: String,
    #[serde(default)]
    traceparent: Option<String>,
}

/// What a row says of an outcome beside its name and result.
pub(super) fn details_of(settled: &Settled) -> String {
    let Details { queue, attempts, reason, worker, published_at, settled_at, .. } =
        &settled.details;
    let stored = Stored {
        queue: queue.clone(),
        attempts: *attempts,
        reason: reason.map(str::to_owned),
        worker: worker.clone(),
        published_at_ms: millis(*published_at),
        settled_at_ms: millis(*settled_at),
        is_late: settled.details.is_late,
        is_unverified: settled.details.is_unverified,
        is_duplicate: settled.details.is_duplicate,
        queue_count: settled.details.queue_count,
        cut_from: settled.cut_from,
        error: settled.error.clone(),
        traceparent: settled.details.traceparent.clone(),
    };
    serde_json::json!(stored).to_string()
}

/// The outcome of a message, from its row. `None`: it cannot be read.
pub(super) fn settled_of(
    target: &Target,
    id: &str,
    outcome: &str,
    details: &str,
    result: Option<Vec<u8>>,
) -> Option<Settled> {
    let stored: Stored = serde_json::from_str(details).ok()?;
    Some(Settled {
        kind: Kind::parse(outcome)?,
        key: target.key(&Arc::from(id)),
        details: Details {
            id: id.to_owned(),
            queue: stored.queue,
            attempts: stored.attempts,
            reason: stored.reason.as_deref().and_then(Reason::parse).map(Reason::name),
            worker: stored.worker,
            published_at: at(stored.published_at_ms),
            settled_at: at(stored.settled_at_ms),
            is_late: stored.is_late,
            is_unverified: stored.is_unverified,
            is_duplicate: stored.is_duplicate,
            queue_count: stored.queue_count,
            traceparent: stored.traceparent,
        },
        result: result.unwrap_or_default().into(),
        cut_from: stored.cut_from,
        error: stored.error,
    })
}

/// A target, as a column has it.
pub(super) fn column_of(target: &Target) -> String {
    match target {
        Target::Queue(name) => format!("queue:{name}"),
        Target::Topic(name) => format!("topic:{name}"),
    }
}

/// `None`: it is none.
pub(super) fn target_of(column: &str) -> Option<Target> {
    match column.split_once(':')? {
        ("queue", name) => Some(Target::Queue(name.into())),
        ("topic", name) => Some(Target::Topic(name.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_targets_come_back_as_they_were() {
        for target in [Target::Queue("a:b".into()), Target::Topic("t".into())] {
            assert_eq!(target_of(&column_of(&target)), Some(target.clone()));
            let key = target.key(&"id".into());
            let time = at(1_700_000_000_123);
            let mut settled = Settled::deadline_missed(key, "id", "q\0", time, 3);
            settled.details.reason = Some(Reason::Rejected.name());
            settled.result = vec![0, 255].into();
            settled.error = "\u{202e}\0".to_owned();
            settled.cut_from = Some(9);
            let details = details_of(&settled);
            assert!(!details.contains('\0'), "PostgreSQL has no such texts");
            let result = Some(settled.result.to_vec());
            let read = settled_of(&target, "id", settled.kind.name(), &details, result);
            let read = read.expect("it can be read");
            settled.details.settled_at = at(millis(settled.details.settled_at));
            assert_eq!(format!("{read:?}"), format!("{settled:?}"));
        }
        assert_eq!(target_of("stock"), None);
        let target = Target::Queue("q".into());
        assert!(settled_of(&target, "id", "processed", "{}", None).is_none());
    }
}
