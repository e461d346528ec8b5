//! The story of one message: its publications, and what became of them in each queue.
//!
//! Owns what a story is and what follows from it as a whole. Module `telling` builds it from
//! [`crate::Event`]s.

mod telling;

use crate::{Cursor, Outcome, Published, Settled, What};

/// All that is known of a message id. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timeline {
    /// Its publications, the newest first.
    pub publications: Vec<Publication>,
}

/// One time a message was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// The place of its first known event.
    pub at: Cursor,
    /// How it was published, unless that has been forgotten already.
    pub published: Option<Published<'static>>,
    /// When it was published, ms since the epoch; 0 when nobody knows.
    pub published_at_ms: u64,
    /// Its queues. One without a name stands for "no queue": the message was unroutable.
    pub queues: Vec<QueueStory>,
    /// The copies that dead-letter exchanges made of it.
    pub copies: Vec<Self>,
    /// Its events and those of its copies, in order.
    pub entries: Vec<Entry>,
}

/// How far a message has got, in one queue or altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// It waits for a consumer.
    #[default]
    Queued,
    /// A consumer has it.
    Delivered,
    /// It has its outcome.
    Settled,
}

impl Stage {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Settled => "settled",
        }
    }
}

/// A message in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStory {
    /// The queue's name.
    pub name: String,
    /// How far the message has got.
    pub stage: Stage,
    /// Deliveries so far.
    pub attempts: u16,
    /// Who had it last; empty if nobody has yet.
    pub worker: String,
    /// When it can be delivered again, ms since the epoch; 0 for at once.
    pub retry_at_ms: u64,
    /// Its outcome, with the place and time of that event.
    pub settled: Option<(Cursor, u64, Settled<'static>)>,
    /// When the producer acked the outcome message, ms since the epoch.
    pub received_at_ms: Option<u64>,
    /// Whether it failed here and was processed later, as a dead-letter copy or when retried.
    pub is_recovered: bool,
}

impl QueueStory {
    /// Its outcome.
    pub fn outcome(&self) -> Option<Outcome> {
        self.settled.as_ref().map(|(_, _, settled)| settled.verdict.outcome)
    }

    fn is_processed(&self) -> bool {
        self.outcome() == Some(Outcome::Processed)
    }
}

/// One event of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the message log.
    pub at: Cursor,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// Whether it happened to a dead-letter copy.
    pub is_copy: bool,
    /// What happened.
    pub what: What<'static>,
}

impl Timeline {
    /// The newest publication; `None` if nothing is known.
    pub fn newest(&self) -> Option<&Publication> {
        self.publications.first()
    }
}

impl Publication {
    /// How far it has got altogether: settled if it is in all its queues, otherwise the furthest of
    /// the others.
    pub fn stage(&self) -> Stage {
        let open = self.queues.iter().map(|queue| queue.stage).filter(|s| *s != Stage::Settled);
        match open.max_by_key(|stage| *stage == Stage::Delivered) {
            Some(stage) => stage,
            // Routed to no queue, and not yet known to be unroutable.
            None if self.queues.is_empty() => Stage::Queued,
            None => Stage::Settled,
        }
    }

    /// The worst outcome, once it is settled in all its queues.
    pub fn outcome(&self) -> Option<Outcome> {
        let is_settled = self.stage() == Stage::Settled;
        self.queues.iter().filter_map(QueueStory::outcome).max().filter(|_| is_settled)
    }

    /// Whether it was processed later in every queue whose outcome was not `processed`.
    pub fn is_recovered(&self) -> bool {
        let mut not_processed = self.queues.iter().filter(|queue| !queue.is_processed()).peekable();
        self.outcome().is_some()
            && not_processed.peek().is_some()
            && not_processed.all(|queue| queue.is_recovered)
    }

    /// All its queues, followed by those of its copies.
    pub fn all_queues(&self) -> impl Iterator<Item = &QueueStory> {
        self.queues.iter().chain(self.copies.iter().flat_map(|copy| &copy.queues))
    }
}
