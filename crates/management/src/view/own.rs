//! Which events belong to the message that a caller has published in the current request.
//!
//! A caller may see these whatever queues they are in. Others may have published the same id,
//! before, after or at the same time, so an event that could be theirs is never taken as the
//! caller's own: its publication is recognized by its cursor, an outcome by the time at which its
//! message was published, provided that no other message with this id in the queue has the same
//! time. Deliveries have neither; they count as its own as long as no other message with this id
//! can be in the queue.

use crate::ports::{MessageEvent, Outcome, Published, Receipt, What};

/// The events that a receipt stands for, among those of its id.
pub(super) struct OwnStory {
    /// The index of its first event.
    first: usize,
    published_at_ms: u64,
    queues: Vec<OwnQueue>,
}

struct OwnQueue {
    name: String,
    /// Whether no other message with this id can be in the queue.
    is_alone: bool,
    /// Whether no other message with this id was published there at the same time.
    is_known_by_time: bool,
}

impl OwnStory {
    /// `None` when the publication is not among the events.
    pub(super) fn find(own: &Receipt, events: &[MessageEvent]) -> Option<Self> {
        let begins = |event: &MessageEvent| match (&event.what, &own.published) {
            (What::Published(_), Some(published)) => event.cursor == *published,
            (What::Settled(settled), None) => {
                settled.verdict.outcome == Outcome::Unroutable
                    && !settled.verdict.is_copy()
                    && settled.verdict.published_at_ms == own.published_at_ms
            }
            _ => false,
        };
        let first = events.iter().position(begins)?;
        let queues = match &events[first].what {
            What::Published(published) => {
                let names = published.queues.iter().map(|queue| &*queue.name);
                names.map(|name| OwnQueue::new(name, first, events)).collect()
            }
            _ => Vec::new(),
        };
        Some(Self { first, published_at_ms: own.published_at_ms, queues })
    }

    /// The index of its first event.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Whether the event with this index is one of its own.
    pub(super) fn has(&self, nth: usize, event: &MessageEvent) -> bool {
        if nth <= self.first {
            return nth == self.first;
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
            | What::Progress { queue, .. }
            | What::Received { queue } => own(queue).is_some_and(|own| own.is_alone),
            What::Published(_) | What::Moved { .. } => false,
        }
    }
}

impl OwnQueue {
    fn new(name: &str, first: usize, events: &[MessageEvent]) -> Self {
        let goes_there = |it: &Published<'_>| it.queues.iter().any(|queue| queue.name == name);
        let others = || {
            events.iter().enumerate().filter_map(|(nth, event)| match &event.what {
                What::Published(it) if nth != first && goes_there(it) => Some(event),
                _ => None,
            })
        };
        let has_left = |other: &MessageEvent| {
            events[..first].iter().any(|event| match &event.what {
                // A message that missed its deadline stays in the queue.
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
            is_known_by_time: others().all(|other| other.time_ms != events[first].time_ms),
        }
    }
}
