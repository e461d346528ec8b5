//! The story of one message: its publications, what each queue made of them.
//!
//! Owns what a story is and what follows from it as a whole. How it comes from [`crate::Event`]s,
//! module `telling` says.

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
    /// Where its first known event stands.
    pub at: Cursor,
    /// How it was published, unless that is forgotten already.
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

/// Where a message stands in a queue, or altogether.
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
    /// In lower case.
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
    /// Where it stands.
    pub stage: Stage,
    /// Deliveries so far.
    pub attempts: u16,
    /// Who had it last; empty for nobody yet.
    pub worker: String,
    /// When it can be delivered again, ms since the epoch; 0 for at once.
    pub retry_at_ms: u64,
    /// Its outcome, and where that event stands.
    pub settled: Option<(Cursor, u64, Settled<'static>)>,
    /// When the producer acked the outcome message, ms since the epoch.
    pub received_at_ms: Option<u64>,
    /// It failed here, and was processed later: its dead-letter copy, or when tried again.
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
    /// Where it stands in the message log.
    pub at: Cursor,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// Whether it happened to a dead-letter copy.
    pub is_copy: bool,
    /// What happened.
    pub what: What<'static>,
}

impl Timeline {
    /// The newest publication; `None` when nothing is known.
    pub fn newest(&self) -> Option<&Publication> {
        self.publications.first()
    }
}

impl Publication {
    /// Where it stands altogether: settled in all its queues, or what the furthest other one is.
    pub fn stage(&self) -> Stage {
        let open = self.queues.iter().map(|queue| queue.stage).filter(|s| *s != Stage::Settled);
        match open.max_by_key(|stage| *stage == Stage::Delivered) {
            Some(stage) => stage,
            // Routed to none and not yet said to be unroutable.
            None if self.queues.is_empty() => Stage::Queued,
            None => Stage::Settled,
        }
    }

    /// The worst outcome, once it is settled in all its queues.
    pub fn outcome(&self) -> Option<Outcome> {
        let is_settled = self.stage() == Stage::Settled;
        self.queues.iter().filter_map(QueueStory::outcome).max().filter(|_| is_settled)
    }

    /// Whether something after its outcomes made it good, in every queue that had not processed it.
    pub fn is_recovered(&self) -> bool {
        let mut not_processed = self.queues.iter().filter(|queue| !queue.is_processed()).peekable();
        self.outcome().is_some()
            && not_processed.peek().is_some()
            && not_processed.all(|queue| queue.is_recovered)
    }

    /// All its queues, those of its copies after its own.
    pub fn all_queues(&self) -> impl Iterator<Item = &QueueStory> {
        self.queues.iter().chain(self.copies.iter().flat_map(|copy| &copy.queues))
    }
}
