//! What becomes of a tracked message: decided here, and carried out by others.
//!
//! Owns the rules of `docs/outcomes.md`: which outcome, whether it is late or only a copy's, who is told, what
//! is kept. *Never here:* the log, outcome messages, confirms.

use outcome::{Flags, Outcome, Reason, Verdict};

use crate::Tracking;
use crate::queue::{Removed, Settings};

/// What is to be done about a tracked message that left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was an outcome message, so it is settled and that is all; whether its producer has received it.
    OutcomeMessage {
        /// It was acked.
        is_received: bool,
    },
    /// Its deadline was its outcome and stays it. It is settled, and that outcome is told to those who
    /// published its id again meanwhile.
    StaysMissed(Verdict),
    /// It has its outcome by this.
    Settled(Told),
}

/// An outcome, and to whom it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The outcome.
    pub verdict: Verdict,
    /// Whether its producer is sent an outcome message, if it has an address.
    pub notifies: bool,
    /// How the publisher's confirm is decided, if it waits for an ack; `None` where it was decided
    /// before.
    pub confirms: Option<bool>,
    /// Whether those are told who published its id again meanwhile.
    pub tells_duplicates: bool,
    /// Whether its id may come again as if it had never been here.
    pub frees_id: bool,
    /// Whether its content is kept, so that somebody may have it tried again.
    pub keeps_content: bool,
}

/// What becomes of a message that left a queue with these settings.
pub fn verdict(
    removed: &Removed,
    tracking: &Tracking,
    published_at_ms: u64,
    settings: &Settings,
) -> Decision {
    let reason = removed.reason;
    let outcome = reason.outcome();
    let is_processed = outcome == Outcome::Processed;
    if tracking.outcome_of.is_some() {
        return Decision::OutcomeMessage { is_received: is_processed };
    }
    let facts = Facts { tracking, published_at_ms, attempts: removed.attempts };
    if removed.missed_deadline && !is_processed {
        return Decision::StaysMissed(facts.verdict(Outcome::DeadlineMissed, None, Flags::NONE));
    }
    let flags = Flags::NONE
        .with_if(reason == Reason::AutoAcked, Flags::UNVERIFIED)
        .with_if(removed.missed_deadline, Flags::LATE);
    let verdict = facts.verdict(outcome, Some(reason), flags);
    Decision::Settled(Told {
        tells_duplicates: !tracking.is_copy,
        frees_id: reason == Reason::Refused && tracking.is_deduplicated,
        keeps_content: !tracking.is_copy && may_be_tried_again(reason),
        ..facts.told(verdict, settings)
    })
}

/// What is told of a message whose deadline passed in a queue with these settings. It stays there.
pub fn deadline_missed(
    tracking: &Tracking,
    attempts: u16,
    published_at_ms: u64,
    settings: &Settings,
) -> Told {
    let facts = Facts { tracking, published_at_ms, attempts };
    facts.told(facts.verdict(Outcome::DeadlineMissed, None, Flags::NONE), settings)
}

/// What is told of a message that reached no queue.
pub fn unroutable(tracking: &Tracking, published_at_ms: u64) -> Told {
    let facts = Facts { tracking, published_at_ms, attempts: 0 };
    facts.told(facts.verdict(Outcome::Unroutable, None, Flags::NONE), &Settings::default())
}

/// What goes into every verdict.
struct Facts<'a> {
    tracking: &'a Tracking,
    published_at_ms: u64,
    attempts: u16,
}

impl Facts<'_> {
    fn verdict(&self, outcome: Outcome, reason: Option<Reason>, flags: Flags) -> Verdict {
        Verdict {
            outcome,
            reason,
            attempts: self.attempts,
            queue_count: self.tracking.queue_count,
            published_at_ms: self.published_at_ms,
            flags: flags.with_if(self.tracking.is_copy, Flags::COPY),
        }
    }

    /// A verdict told to who asked: the message itself, or for it its queue. A queue does not ask for
    /// copies.
    fn told(&self, verdict: Verdict, settings: &Settings) -> Told {
        let of_queue = settings.request.notify.filter(|_| !self.tracking.is_copy);
        let notify = self.tracking.notify.or(of_queue);
        let is_processed = verdict.outcome == Outcome::Processed;
        Told {
            verdict,
            notifies: notify.is_some_and(|notify| notify.wants(verdict.outcome)),
            // When the deadline passed it was refused.
            confirms: (!verdict.is_late()).then_some(is_processed),
            tells_duplicates: false,
            frees_id: false,
            keeps_content: false,
        }
    }
}

/// Whether somebody may want to try again what left for this reason.
fn may_be_tried_again(reason: Reason) -> bool {
    match reason {
        Reason::Rejected
        | Reason::DeliveryLimit
        | Reason::Expired
        | Reason::MaxLength
        | Reason::Cancelled => true,
        Reason::Acked
        | Reason::AutoAcked
        | Reason::Refused
        | Reason::Purged
        | Reason::QueueDeleted => false,
    }
}

#[cfg(test)]
mod tests;
