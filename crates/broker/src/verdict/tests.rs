//! The rules as a table: a row for each kind of message, a column for each way to leave.

use outcome::{Notify, OutcomeRequest};

use super::*;
use crate::QueueId;

fn removed(reason: Reason, missed_deadline: bool) -> Removed {
    Removed {
        message: None,
        position: None,
        reason,
        dead_letter: false,
        is_tracked: true,
        missed_deadline,
        attempts: 3,
        by: None,
    }
}

fn decide(reason: Reason, missed: bool, tracking: &Tracking, settings: &Settings) -> Decision {
    verdict(&removed(reason, missed), tracking, 1000, settings)
}

/// What a row of the table says: outcome, whether it is late, how the confirm is decided, whether
/// the content is kept.
type Row = (Reason, Outcome, bool, Option<bool>, bool);

#[test]
fn each_way_to_leave_has_its_outcome() {
    let good = Some(true);
    let bad = Some(false);
    let table: [Row; 10] = [
        (Reason::Acked, Outcome::Processed, false, good, false),
        (Reason::AutoAcked, Outcome::Processed, false, good, false),
        (Reason::Rejected, Outcome::Failed, false, bad, true),
        (Reason::DeliveryLimit, Outcome::Failed, false, bad, true),
        (Reason::Expired, Outcome::Expired, false, bad, true),
        (Reason::MaxLength, Outcome::Dropped, false, bad, true),
        (Reason::Cancelled, Outcome::Dropped, false, bad, true),
        (Reason::Refused, Outcome::Dropped, false, bad, true),
        (Reason::Purged, Outcome::Dropped, false, bad, true),
        (Reason::QueueDeleted, Outcome::Dropped, false, bad, true),
    ];
    let tracking = Tracking { queue_count: 2, ..Tracking::default() };
    for (reason, outcome, is_late, confirms, keeps_content) in table {
        let Decision::Settled(told) = decide(reason, false, &tracking, &Settings::default()) else {
            panic!("{reason:?} settles");
        };
        let Told { verdict, .. } = told;
        assert_eq!((verdict.outcome, verdict.reason), (outcome, Some(reason)));
        assert_eq!((verdict.attempts, verdict.queue_count), (3, 2));
        assert_eq!(verdict.published_at_ms, 1000);
        assert_eq!((verdict.is_late(), told.confirms), (is_late, confirms), "{reason:?}");
        assert_eq!(verdict.is_unverified(), reason == Reason::AutoAcked);
        assert_eq!(told.keeps_content, keeps_content, "{reason:?}");
        assert!(!told.notifies && told.tells_duplicates && !told.frees_id, "{reason:?}");
    }
}

#[test]
fn a_missed_deadline_stays_the_outcome_unless_it_was_acked_after_all() {
    for reason in Reason::ALL {
        let decision = decide(reason, true, &Tracking::default(), &Settings::default());
        match (reason.outcome(), decision) {
            (Outcome::Processed, Decision::Settled(told)) => {
                assert!(told.verdict.is_late(), "{reason:?}");
                assert_eq!(told.confirms, None, "it was refused when the deadline passed");
            }
            (_, Decision::StaysMissed { verdict, frees_id }) => {
                assert!(!frees_id, "{reason:?}");
                assert_eq!((verdict.outcome, verdict.reason), (Outcome::DeadlineMissed, None));
            }
            other => panic!("{reason:?}: {other:?}"),
        }
    }
}

#[test]
fn an_outcome_message_has_no_outcome_of_its_own() {
    let tracking = Tracking { outcome_of: Some(QueueId(4)), ..Tracking::default() };
    for reason in Reason::ALL {
        for missed in [false, true] {
            let is_received = reason.outcome() == Outcome::Processed;
            let decision = decide(reason, missed, &tracking, &Settings::default());
            assert_eq!(decision, Decision::OutcomeMessage { is_received });
        }
    }
}

#[test]
fn who_asked_is_told_the_message_before_its_queue() {
    let asks = |notify| Settings {
        request: OutcomeRequest { notify, ..OutcomeRequest::default() },
        ..Settings::default()
    };
    let (all, good, bad) = (Some(Notify::All), Some(Notify::Processed), Some(Notify::Failed));
    // What the message asks for, what its queue asks for, whether it is a copy; notified if
    // processed, if failed, when it is addressed to its queue.
    let table = [
        (None, None, false, (false, false)),
        (all, None, false, (true, true)),
        (good, None, false, (true, false)),
        (bad, None, false, (false, true)),
        (None, all, false, (true, true)),
        (bad, all, false, (false, true)),
        (None, all, true, (false, false)),
        (all, None, true, (true, true)),
    ];
    for (notify, of_queue, is_copy, expected) in table {
        let tracking = Tracking { notify, is_copy, ..Tracking::default() };
        let told = |reason| match decide(reason, false, &tracking, &asks(of_queue)) {
            Decision::Settled(told) => told.notifies,
            other => panic!("{other:?}"),
        };
        let row = (notify, of_queue, is_copy);
        // Through an exchange, only what the message itself asks for counts.
        let shared = Tracking { is_unanswerable: true, ..tracking };
        let own = notify
            .map_or((false, false), |it| (it.wants(Outcome::Processed), it.wants(Outcome::Failed)));
        let told_shared = |reason| match decide(reason, false, &shared, &asks(of_queue)) {
            Decision::Settled(told) => told.notifies,
            other => panic!("{other:?}"),
        };
        assert_eq!((told_shared(Reason::Acked), told_shared(Reason::Rejected)), own, "{row:?}");
        assert_eq!((told(Reason::Acked), told(Reason::Rejected)), expected, "{row:?}");
        let missed = deadline_missed(&tracking, 1, 0, &asks(of_queue));
        assert_eq!(missed.notifies, expected.1, "{row:?}: a missed deadline is no success");
    }
}

#[test]
fn a_copy_is_nobodys_duplicate_and_is_not_kept() {
    let tracking = Tracking { is_copy: true, is_deduplicated: true, ..Tracking::default() };
    for reason in Reason::ALL {
        let Decision::Settled(told) = decide(reason, false, &tracking, &Settings::default()) else {
            panic!("{reason:?} settles");
        };
        assert!(told.verdict.is_copy() && !told.tells_duplicates && !told.keeps_content);
    }
}

#[test]
fn what_nobody_has_processed_may_come_again() {
    let free = [Reason::Refused, Reason::Purged, Reason::Cancelled, Reason::QueueDeleted];
    for reason in Reason::ALL {
        for is_deduplicated in [false, true] {
            let tracking = Tracking { is_deduplicated, ..Tracking::default() };
            let decision = decide(reason, false, &tracking, &Settings::default());
            let Decision::Settled(told) = decision else { panic!("{reason:?} settles") };
            assert_eq!(told.frees_id, free.contains(&reason) && is_deduplicated);
        }
    }
}

#[test]
fn what_left_no_queue_has_no_reason_of_one() {
    let tracking = Tracking { notify: Some(Notify::Failed), ..Tracking::default() };
    let missed = deadline_missed(&tracking, 2, 7, &Settings::default());
    let unroutable = unroutable(&tracking, 7);
    for (told, outcome, attempts) in
        [(missed, Outcome::DeadlineMissed, 2), (unroutable, Outcome::Unroutable, 0)]
    {
        assert_eq!((told.verdict.outcome, told.verdict.reason), (outcome, None));
        assert_eq!((told.verdict.attempts, told.verdict.published_at_ms), (attempts, 7));
        assert_eq!((told.notifies, told.confirms), (true, Some(false)));
        assert!(!told.tells_duplicates && !told.frees_id);
        let is_missed = outcome == Outcome::DeadlineMissed;
        assert_eq!(told.keeps_content, is_missed, "it may fail later");
    }
}
