//! What becomes of a tracked message: decided here, carried out elsewhere.
//!
//! Owns the rules of `docs/outcomes.md`: which outcome, whether it is late or only a copy's, who is
//! notified, what is kept. *Never here:* the log, outcome messages, confirms.

use outcome::{Flags, Outcome, Reason, Verdict};

use crate::Tracking;
use crate::queue::{Removed, Settings};

/// What to do about a tracked message that left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was an outcome message, so nothing is left to do but to settle it and note whether its
    /// producer has received it.
    OutcomeMessage {
        /// Whether it was acked.
        is_received: bool,
    },
    /// Its outcome was a missed deadline and stays that. It is settled, and those who have
    /// published its id again meanwhile are sent that outcome.
    StaysMissed {
        /// That outcome.
        verdict: Verdict,
        /// As [`Told::frees_id`].
        frees_id: bool,
    },
    /// This settles it and gives it its outcome.
    Settled(Told),
}

/// An outcome, and who is notified of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The outcome.
    pub verdict: Verdict,
    /// Whether its producer is sent an outcome message, if it has an address.
    pub notifies: bool,
    /// How the publisher's confirm is decided, if it waits for an ack; `None` if it was decided
    /// before.
    pub confirms: Option<bool>,
    /// Whether those who have published its id again meanwhile are notified.
    pub tells_duplicates: bool,
    /// Whether its id may be published again as if it were new.
    pub frees_id: bool,
    /// Whether its content is kept, so that it can be retried.
    pub keeps_content: bool,
}

/// Decides what becomes of a message that left a queue with these settings.
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
    let frees_id = reason.frees_id() && tracking.is_deduplicated;
    if removed.missed_deadline && !is_processed {
        let verdict = facts.verdict(Outcome::DeadlineMissed, None, Flags::NONE);
        return Decision::StaysMissed { verdict, frees_id };
    }
    let flags = Flags::NONE
        .with_if(reason == Reason::AutoAcked, Flags::UNVERIFIED)
        .with_if(removed.missed_deadline, Flags::LATE);
    let verdict = facts.verdict(outcome, Some(reason), flags);
    Decision::Settled(Told {
        tells_duplicates: !tracking.is_copy,
        frees_id,
        keeps_content: !tracking.is_copy && may_be_tried_again(reason),
        ..facts.told(verdict, settings)
    })
}

/// The verdict on a message whose deadline passed in a queue with these settings. It stays there.
pub fn deadline_missed(
    tracking: &Tracking,
    attempts: u16,
    published_at_ms: u64,
    settings: &Settings,
) -> Told {
    let facts = Facts { tracking, published_at_ms, attempts };
    // Kept now: if it fails later, that changes nothing any more.
    let keeps_content = !tracking.is_copy;
    let verdict = facts.verdict(Outcome::DeadlineMissed, None, Flags::NONE);
    Told { keeps_content, ..facts.told(verdict, settings) }
}

/// The verdict on a message that reached no queue.
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

    /// Addresses a verdict to whoever asked for it: the message itself or, on its behalf, its queue.
    fn told(&self, verdict: Verdict, settings: &Settings) -> Told {
        let notify = self.tracking.notify_or(settings.request.notify);
        let is_processed = verdict.outcome == Outcome::Processed;
        Told {
            verdict,
            notifies: notify.is_some_and(|notify| notify.wants(verdict.outcome)),
            // The confirm was refused when the deadline passed.
            confirms: (!verdict.is_late()).then_some(is_processed),
            tells_duplicates: false,
            frees_id: false,
            keeps_content: false,
        }
    }
}

/// Whether somebody may want to retry a message that left for this reason.
fn may_be_tried_again(reason: Reason) -> bool {
    match reason {
        Reason::Rejected
        | Reason::DeliveryLimit
        | Reason::Expired
        | Reason::MaxLength
        | Reason::Refused
        | Reason::Purged
        | Reason::QueueDeleted
        | Reason::Cancelled => true,
        Reason::Acked | Reason::AutoAcked => false,
    }
}

#[cfg(test)]
mod tests;
