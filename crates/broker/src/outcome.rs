//! Outcomes: what a producer is told became of its message in a queue.
//!
//! *Never here:* who is told, where it is kept. A requeue, a consumer's crash or its time-out are
//! attempts, not outcomes.

/// What became of a message in a queue, from the best to the worst: the worst is that of a fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// A consumer acked it, or took it without acking.
    Processed = 1,
    /// The producer's deadline passed first.
    DeadlineMissed = 2,
    /// Its time to live passed.
    Expired = 3,
    /// Length limit, purge, queue deleted, cancelled.
    Dropped = 4,
    /// Rejected, or the delivery limit is used up.
    Failed = 5,
    /// It reached no queue.
    Unroutable = 6,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Processed,
        Self::DeadlineMissed,
        Self::Expired,
        Self::Dropped,
        Self::Failed,
        Self::Unroutable,
    ];

    /// As in `x-outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::DeadlineMissed => "deadline-missed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Unroutable => "unroutable",
        }
    }

    /// The outcome of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// The outcome of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as u8 == number)
    }
}
