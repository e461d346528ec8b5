//! What a start does to messages that workers had: they are queued again, and nobody logs that for each
//! of them. The ledger's last word on such a message is that it was delivered, so the start is added
//! when somebody asks.

use outcome::{Cursor, Event, What};

/// The highest number of an event within a record that a cursor shows.
const NTH_MAX: u32 = 999_999_999;

/// The last start of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// Where the log ended.
    pub position: u64,
    /// When, ms since the epoch.
    pub at_ms: u64,
}

impl Started {
    /// Adds to a message's events, which are in order, that it was queued again in each queue where it
    /// was delivered before the start and nothing has happened since.
    pub(crate) fn requeue(&self, events: &mut Vec<Event<'static>>) {
        let mut open: Vec<Event<'static>> = Vec::new();
        for event in events.iter().take_while(|event| event.at.position < self.position) {
            let Some(queue) = queue_of(&event.what) else { continue };
            open.retain(|other| queue_of(&other.what) != Some(queue));
            if let What::Delivered { attempt, .. } = event.what {
                let queue = queue.to_owned().into();
                let what = What::Requeued { queue, attempt, retry_at_ms: 0 };
                open.push(Event { what, time_ms: self.at_ms, ..event.clone() });
            }
        }
        // High numbers at the last position before the start: no record has so many events.
        let position = self.position.saturating_sub(1);
        let count = open.len() as u32;
        for (requeued, nth) in open.iter_mut().zip(NTH_MAX - count..) {
            requeued.at = Cursor { position, nth };
        }
        let place = events.partition_point(|event| event.at.position < self.position);
        events.splice(place..place, open);
    }
}

/// The queue in which a message is, or was, when this happens.
fn queue_of<'e>(what: &'e What<'_>) -> Option<&'e str> {
    match what {
        What::Delivered { queue, .. } | What::Requeued { queue, .. } => Some(queue),
        What::Settled(settled) => Some(&settled.queue),
        What::Published(_) | What::Received { .. } | What::Progress { .. } | What::Moved { .. } => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use outcome::{Details, Flags, IdHash, Outcome, Settled, Verdict};

    use super::*;

    fn event(position: u64, what: What<'static>) -> Event<'static> {
        Event { at: Cursor { position, nth: 0 }, id: IdHash(1), time_ms: position, what }
    }

    fn delivered(position: u64, queue: &'static str) -> Event<'static> {
        let worker = "w".into();
        event(position, What::Delivered { queue: queue.into(), worker, attempt: 3 })
    }

    fn settled(vhost: &'static str, queue: &'static str) -> Settled<'static> {
        let verdict = Verdict {
            outcome: Outcome::Failed,
            reason: None,
            attempts: 1,
            queue_count: 1,
            published_at_ms: 0,
            flags: Flags::NONE,
        };
        let (vhost, queue) = (vhost.into(), queue.into());
        Settled { vhost, queue, verdict, details: Details::default(), message: None }
    }

    fn after_start(mut events: Vec<Event<'static>>) -> Vec<Event<'static>> {
        Started { position: 100, at_ms: 7 }.requeue(&mut events);
        events
    }

    #[test]
    fn what_was_with_a_worker_is_queued_again_by_the_start() {
        let events = after_start(vec![delivered(10, "a"), delivered(20, "b"), delivered(100, "b")]);
        let requeued: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Requeued { queue, attempt, .. } => Some((&**queue, *attempt, event.time_ms)),
                _ => None,
            })
            .collect();
        assert_eq!(requeued, [("a", 3, 7), ("b", 3, 7)]);
        assert!(events.is_sorted_by_key(|event| event.at));
        assert!(matches!(events.last().map(|event| &event.what), Some(What::Delivered { .. })));
    }

    #[test]
    fn what_was_settled_or_given_back_before_is_left_alone() {
        let settled = settled("/", "a");
        let requeued = What::Requeued { queue: "b".into(), attempt: 1, retry_at_ms: 0 };
        let events = vec![
            delivered(10, "a"),
            delivered(10, "b"),
            event(20, What::Settled(Box::new(settled))),
            event(30, requeued),
        ];
        assert_eq!(after_start(events.clone()).len(), events.len());
        assert!(after_start(Vec::new()).is_empty());
    }
}
