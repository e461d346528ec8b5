//! Why a message left a queue.
//!
//! *Invariant:* names and numbers are on the wire and on disk: none ever changes.

use crate::Outcome;

/// Why a message left a queue. Each leaves exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A consumer acked it.
    Acked = 1,
    /// It was delivered to a consumer that does not ack.
    AutoAcked = 2,
    /// A consumer rejected it without requeue.
    Rejected = 3,
    /// Its time to live ran out.
    Expired = 4,
    /// The queue was longer than its limit: dropped from the head.
    MaxLength = 5,
    /// The queue was at its limit: refused.
    Refused = 6,
    /// It was given back more often than the queue allows.
    DeliveryLimit = 7,
    /// `queue.purge`.
    Purged = 8,
    /// The queue was deleted or expired, or its owner's connection closed.
    QueueDeleted = 9,
    /// Somebody removed it by its id.
    Cancelled = 10,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Acked,
        Self::AutoAcked,
        Self::Rejected,
        Self::Expired,
        Self::MaxLength,
        Self::Refused,
        Self::DeliveryLimit,
        Self::Purged,
        Self::QueueDeleted,
        Self::Cancelled,
    ];

    /// The reason of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The reason in `x-death`, for those that dead-letter.
    pub fn dead_letter_name(self) -> Option<&'static str> {
        match self {
            Self::Rejected => Some("rejected"),
            Self::Expired => Some("expired"),
            Self::MaxLength | Self::Refused => Some("maxlen"),
            Self::DeliveryLimit => Some("delivery_limit"),
            Self::Acked | Self::AutoAcked | Self::Purged | Self::QueueDeleted | Self::Cancelled => {
                None
            }
        }
    }

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

    /// Whether the id of a message that left for this reason is free again: as far as anybody knows,
    /// nobody has processed it, and whoever publishes it again means it.
    pub fn frees_id(self) -> bool {
        matches!(self, Self::Refused | Self::Purged | Self::Cancelled | Self::QueueDeleted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_reasons_dead_letter() {
        let cases = [
            (Reason::Acked, None),
            (Reason::AutoAcked, None),
            (Reason::Rejected, Some("rejected")),
            (Reason::Expired, Some("expired")),
            (Reason::MaxLength, Some("maxlen")),
            (Reason::Refused, Some("maxlen")),
            (Reason::DeliveryLimit, Some("delivery_limit")),
            (Reason::Purged, None),
            (Reason::QueueDeleted, None),
            (Reason::Cancelled, None),
        ];
        for (number, (reason, name)) in (1..).zip(cases) {
            assert_eq!(reason.dead_letter_name(), name);
            assert_eq!(reason as u8, number, "the number is in the log's format");
        }
        assert_eq!((Reason::from_number(0), Reason::from_number(11)), (None, None));
    }

    #[test]
    fn every_reason_is_one_outcome() {
        let cases = [
            (Reason::Acked, Outcome::Processed, "acked"),
            (Reason::AutoAcked, Outcome::Processed, "auto-acked"),
            (Reason::Rejected, Outcome::Failed, "rejected"),
            (Reason::Expired, Outcome::Expired, "ttl"),
            (Reason::MaxLength, Outcome::Dropped, "max-length"),
            (Reason::Refused, Outcome::Dropped, "refused"),
            (Reason::DeliveryLimit, Outcome::Failed, "delivery-limit"),
            (Reason::Purged, Outcome::Dropped, "purged"),
            (Reason::QueueDeleted, Outcome::Dropped, "queue-deleted"),
            (Reason::Cancelled, Outcome::Dropped, "cancelled"),
        ];
        for (number, (reason, outcome, name)) in (1..).zip(cases) {
            assert_eq!(Reason::from_number(number), Some(reason), "none is left out");
            assert_eq!((reason.outcome(), reason.name()), (outcome, name));
            assert_eq!(Reason::parse(name), Some(reason));
        }
        for name in ["", "Acked", "no-route", "deadline"] {
            assert_eq!(Reason::parse(name), None, "{name}");
        }
    }
}
