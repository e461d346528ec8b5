//! Outcomes: what a producer is told became of its message in a queue.
//!
//! Owns the words ([`Outcome`], `x-reason`), what a producer may ask for ([`Asking`]), what a worker
//! may add ([`Report`]), and the outcome message ([`message::OutcomeMessage`]).
//!
//! *Never here:* who is told and when, where it is kept. A requeue, a consumer's crash or its
//! time-out are attempts, not outcomes.

mod asking;
pub mod message;

use std::sync::Arc;

pub(crate) use asking::NAMES as ASKING_NAMES;
pub use asking::{Asking, DEADLINE_MS_DEFAULT, Notify};

use crate::queue::Reason;

/// Bytes of a result or an error text that are kept; what is beyond is cut off.
pub const REPORT_BYTES_MAX: usize = 64 << 10;

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

impl Reason {
    /// The outcome of a message that leaves a queue for this reason.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Acked | Self::AutoAcked => Outcome::Processed,
            Self::Rejected | Self::DeliveryLimit => Outcome::Failed,
            Self::Expired => Outcome::Expired,
            Self::MaxLength
            | Self::Refused
            | Self::Purged
            | Self::QueueDeleted
            | Self::Cancelled => Outcome::Dropped,
        }
    }

    /// As in `x-reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::AutoAcked => "auto-acked",
            Self::Rejected => "rejected",
            Self::Expired => "ttl",
            Self::MaxLength => "max-length",
            Self::Refused => "refused",
            Self::DeliveryLimit => "delivery-limit",
            Self::Purged => "purged",
            Self::QueueDeleted => "queue-deleted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// `x-reason` of what reached no queue.
pub const NO_ROUTE: &str = "no-route";
/// `x-reason` of a deadline that passed.
pub const DEADLINE: &str = "deadline";

/// Who settled a delivery, and what they said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettledBy {
    /// As in `x-worker`.
    pub worker: Arc<str>,
    /// What the worker published to `amq.wilco.report` before.
    pub report: Option<Report>,
}

/// A worker's result or error text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whether the body is an error text (`x-outcome: failed`), not a result.
    pub is_error: bool,
    /// The content type of a result.
    pub content_type: Option<String>,
    /// At most [`REPORT_BYTES_MAX`] of what was published.
    pub body: Vec<u8>,
    /// Bytes that were published.
    pub bytes_published: u64,
    /// Names who waits for the producer to receive it, 0 for nobody.
    pub ticket: u64,
}

#[cfg(test)]
mod tests;
