//! Which events are those of the message that a caller has published in this very request.
//!
//! It may see them whatever queues they are in. Others may have published the same id, before,
//! after and at once, so nothing is taken as its own that could be theirs: its publication is known
//! by its place in the log, an outcome by when its message was published, which no other of them in
//! this queue must share. Deliveries say neither; they are its own as long as no other message with
//! this id can be in the queue.

use ledger::{Cursor, Event, Outcome, Published, What};
use node::Session;

/// What a session published last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    /// Where it stands in the log; `None` when it reached no queue.
    pub(super) position: Option<u64>,
    /// When it was published, ms since the epoch.
    pub(super) published_at_ms: u64,
}

impl Own {
    /// What this session has published and flushed last; `None` when that is no message of its own
    /// that anything could become of: a duplicate, a reply, a report.
    pub(crate) fn of(session: &Session) -> Option<Self> {
        let placed = session.placed();
        Some(Self { position: placed.position, published_at_ms: placed.published_at_ms? })
    }
}

/// The same among the events of its id.
pub(super) struct OwnStory {
    at: Cursor,
    published_at_ms: u64,
    queues: Vec<OwnQueue>,
}

struct OwnQueue {
    name: String,
    /// Whether no other message with this id can be there.
    is_alone: bool,
    /// Whether no other was published at the same time.
    is_known_by_time: bool,
}

impl OwnStory {
    /// `None` when it is not among them.
    pub(super) fn find(own: Own, events: &[Event<'_>]) -> Option<Self> {
        let begins = |event: &&Event<'_>| match (&event.what, own.position) {
            (What::Published(published), Some(position)) => {
                event.at.position == position && published.position == position
            }
            (What::Settled(settled), None) => {
                settled.verdict.outcome == Outcome::Unroutable
                    && !settled.verdict.is_copy()
                    && settled.verdict.published_at_ms == own.published_at_ms
            }
            _ => false,
        };
        let first = events.iter().find(begins)?;
        let queues = match &first.what {
            What::Published(published) => {
                let names = published.queues.iter().map(|queue| &*queue.name);
                names.map(|name| OwnQueue::new(name, first, events)).collect()
            }
            _ => Vec::new(),
        };
        Some(Self { at: first.at, published_at_ms: own.published_at_ms, queues })
    }

    pub(super) fn at(&self) -> Cursor {
        self.at
    }

    /// Whether an event is one of its own.
    pub(super) fn has(&self, event: &Event<'_>) -> bool {
        if event.at <= self.at {
            return event.at == self.at;
        }
        let own = |queue: &str| self.queues.iter().find(|own| own.name == queue);
        match &event.what {
            What::Settled(settled) => {
                !settled.verdict.is_copy()
                    && settled.verdict.published_at_ms == self.published_at_ms
                    && own(&settled.queue).is_some_and(|own| own.is_known_by_time)
            }
            What::Delivered { queue, .. }
            | What::Requeued { queue, .. }
            | What::Received { queue } => own(queue).is_some_and(|own| own.is_alone),
            What::Published(_) | What::Moved { .. } => false,
        }
    }
}

impl OwnQueue {
    fn new(name: &str, first: &Event<'_>, events: &[Event<'_>]) -> Self {
        let goes_there = |it: &Published<'_>| it.queues.iter().any(|queue| queue.name == name);
        let others = || {
            events.iter().filter(|event| {
                event.at != first.at && matches!(&event.what, What::Published(it) if goes_there(it))
            })
        };
        let has_left = |other: &Event<'_>| {
            events.iter().take_while(|event| event.at < first.at).any(|event| match &event.what {
                // With its deadline missed it stays.
                What::Settled(settled) => {
                    *settled.queue == *name
                        && settled.verdict.outcome != Outcome::DeadlineMissed
                        && settled.verdict.published_at_ms == other.time_ms
                }
                _ => false,
            })
        };
        Self {
            name: name.to_owned(),
            is_alone: others().all(has_left),
            is_known_by_time: others().all(|other| other.time_ms != first.time_ms),
        }
    }
}
