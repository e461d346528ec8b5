//! The possible outcomes of a message in a queue.
//!
//! *Invariant:* names and numbers are on the wire and on disk: none ever changes.

/// What became of a message in a queue, from best to worst; a fan-out as a whole has the worst of
/// its outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// A consumer acked it, or took it without acking.
    Processed = 1,
    /// The producer's deadline passed first.
    DeadlineMissed = 2,
    /// Its time to live ran out.
    Expired = 3,
    /// It was removed by a length limit, a purge, the deletion of the queue, or a cancellation.
    Dropped = 4,
    /// It was rejected, or the delivery limit was reached.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_a_name_and_a_number_and_the_worst_is_the_last() {
        let names = ["processed", "deadline-missed", "expired", "dropped", "failed", "unroutable"];
        for (number, (outcome, name)) in (1..).zip(Outcome::ALL.into_iter().zip(names)) {
            assert_eq!((outcome as u8, outcome.name()), (number, name));
            assert_eq!(Outcome::parse(name), Some(outcome));
            assert_eq!(Outcome::from_number(number), Some(outcome));
        }
        assert_eq!((Outcome::parse("Processed"), Outcome::parse("")), (None, None));
        assert_eq!((Outcome::from_number(0), Outcome::from_number(7)), (None, None));
        assert!(Outcome::ALL.is_sorted());
        let fan_out = [Outcome::Processed, Outcome::Failed, Outcome::Expired];
        assert_eq!(fan_out.into_iter().max(), Some(Outcome::Failed));
    }
}
