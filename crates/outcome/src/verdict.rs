//! The verdict on a message in one queue: the outcome, why, and the few figures that go with it.
//!
//! *Invariant:* small and `Copy`. What has variable length is in [`Details`](crate::Details).

use crate::{Outcome, Reason};

/// `x-reason` of a message that reached no queue.
const NO_ROUTE: &str = "no-route";
/// `x-reason` of a deadline that passed.
const DEADLINE: &str = "deadline";

/// What became of a message in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// Why it left the queue; `None` if it did not leave one: its deadline passed, or there was no
    /// route.
    pub reason: Option<Reason>,
    /// Deliveries.
    pub attempts: u16,
    /// Queues it was routed to: how many outcomes there will be.
    pub queue_count: u16,
    /// When it was published, ms since the epoch.
    pub published_at_ms: u64,
    /// Further facts.
    pub flags: Flags,
}

impl Verdict {
    /// As in `x-reason`. Empty if the reason read is unknown here.
    pub fn reason_name(&self) -> &'static str {
        match (self.reason, self.outcome) {
            (Some(reason), _) => reason.name(),
            (None, Outcome::Unroutable) => NO_ROUTE,
            (None, Outcome::DeadlineMissed) => DEADLINE,
            (None, Outcome::Processed | Outcome::Expired | Outcome::Dropped | Outcome::Failed) => {
                ""
            }
        }
    }

    /// Nobody acked it: it was sent to a consumer that does not ack.
    pub fn is_unverified(&self) -> bool {
        self.flags.contains(Flags::UNVERIFIED)
    }

    /// It was acked after its deadline.
    pub fn is_late(&self) -> bool {
        self.flags.contains(Flags::LATE)
    }

    /// It is the outcome of a dead-letter copy.
    pub fn is_copy(&self) -> bool {
        self.flags.contains(Flags::COPY)
    }

    /// An outcome message was sent.
    pub fn is_notified(&self) -> bool {
        self.flags.contains(Flags::NOTIFIED)
    }

    /// It is sent to somebody who published the same id again.
    pub fn is_duplicate(&self) -> bool {
        self.flags.contains(Flags::DUPLICATE)
    }
}

/// A set of facts about a [`Verdict`].
///
/// *Invariant:* the numbers of those in [`Flags::KEPT`] are part of the formats of log and ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// See [`Verdict::is_unverified`].
    pub const UNVERIFIED: Self = Self(1);
    /// See [`Verdict::is_late`].
    pub const LATE: Self = Self(1 << 1);
    /// See [`Verdict::is_copy`].
    pub const COPY: Self = Self(1 << 2);
    /// See [`Verdict::is_notified`].
    pub const NOTIFIED: Self = Self(1 << 3);
    /// See [`Verdict::is_duplicate`]. Only in what is sent, never kept.
    pub const DUPLICATE: Self = Self(1 << 4);
    /// Those that are kept with an outcome.
    pub const KEPT: Self =
        Self(Self::UNVERIFIED.0 | Self::LATE.0 | Self::COPY.0 | Self::NOTIFIED.0);

    /// Whether all of these are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds these.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags, with `other` added if `condition` holds.
    #[must_use]
    pub const fn with_if(self, condition: bool, other: Self) -> Self {
        if condition { self.with(other) } else { self }
    }

    /// The bits of the flags that are kept.
    pub const fn kept_bits(self) -> u8 {
        self.0 & Self::KEPT.0
    }

    /// The flags that [`Flags::kept_bits`] gave; other bits are ignored.
    pub const fn from_kept_bits(bits: u8) -> Self {
        Self(bits & Self::KEPT.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Flags; 5] =
        [Flags::UNVERIFIED, Flags::LATE, Flags::COPY, Flags::NOTIFIED, Flags::DUPLICATE];

    fn verdict(outcome: Outcome, reason: Option<Reason>, flags: Flags) -> Verdict {
        Verdict { outcome, reason, attempts: 1, queue_count: 1, published_at_ms: 1, flags }
    }

    #[test]
    fn each_flag_is_one_fact() {
        for flag in ALL {
            let it = verdict(Outcome::Processed, None, flag);
            let facts = [
                it.is_unverified(),
                it.is_late(),
                it.is_copy(),
                it.is_notified(),
                it.is_duplicate(),
            ];
            assert_eq!(facts, ALL.map(|other| other == flag), "{flag:?}");
        }
    }

    #[test]
    fn flags_are_a_set() {
        let mut flags = Flags::LATE.with(Flags::COPY);
        flags.insert(Flags::COPY);
        assert!(flags.contains(Flags::LATE) && flags.contains(Flags::COPY));
        assert!(!flags.contains(Flags::LATE.with(Flags::NOTIFIED)));
        assert_eq!(Flags::NONE.with_if(true, Flags::LATE).with_if(false, Flags::COPY), Flags::LATE);
        assert_eq!(Flags::default(), Flags::NONE);
    }

    #[test]
    fn kept_flags_have_the_numbers_of_the_formats() {
        assert_eq!(ALL.map(Flags::kept_bits), [1, 2, 4, 8, 0]);
        for flag in ALL.into_iter().take(4) {
            assert_eq!(Flags::from_kept_bits(flag.kept_bits() | 0xf0), flag);
        }
    }

    #[test]
    fn reasons_have_a_name_even_where_no_queue_had_one() {
        let name = |outcome, reason| verdict(outcome, reason, Flags::NONE).reason_name();
        assert_eq!(name(Outcome::Unroutable, None), "no-route");
        assert_eq!(name(Outcome::DeadlineMissed, None), "deadline");
        assert_eq!(name(Outcome::Failed, Some(Reason::Rejected)), "rejected");
        assert_eq!(name(Outcome::Failed, None), "", "nobody knows");
    }
}
