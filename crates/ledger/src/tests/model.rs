//! Random work against a list of all events; large events; many readers.

use std::borrow::Cow;

use outcome::{Cursor, Event, Outcome, OutcomeQuery, What};
use proptest::prelude::*;
use segment_log::{FaultyDisk, RealDisk};

use super::support::{Model, QUEUE, hash, published, settled, tiny};
use crate::{Ledger, Options};

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    /// An event of message `n`; `same_record` puts it into the record of the one before.
    Append {
        n: u64,
        kind: u8,
        outcome: usize,
        later_ms: u64,
        same_record: bool,
        blob: usize,
    },
    Flush,
    /// Reopens without a flush: what came since the last one is appended again.
    Reopen,
    Ask(OutcomeQuery),
}

fn step() -> impl Strategy<Value = Step> {
    let append = (
        0..40_u64,
        0..6_u8,
        0..6_usize,
        0..20_u64,
        any::<bool>(),
        prop_oneof![9 => Just(0), 1 => 0..3000_usize],
    )
        .prop_map(|(n, kind, outcome, later_ms, same_record, blob)| Step::Append {
            n,
            kind,
            outcome,
            later_ms,
            same_record,
            blob,
        });
    prop_oneof![
        60 => append,
        6 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        3 => query().prop_map(Step::Ask),
    ]
}

fn query() -> impl Strategy<Value = OutcomeQuery> {
    (
        prop::option::of((0..3000_u64, 0..3_u32)),
        1..9_usize,
        prop::option::of(prop::sample::select(vec!["/", "other"])),
        prop::option::of(prop::sample::select(vec!["orders", "mails", "none"])),
        prop::option::of(0..6_usize),
        (prop::option::of(1000..3000_u64), prop::option::of(1000..3000_u64)),
    )
        .prop_map(|(after, limit, vhost, queue, outcome, (since_ms, until_ms))| OutcomeQuery {
            after: after.map(|(position, nth)| Cursor { position, nth }),
            limit,
            vhost: vhost.map(str::to_owned),
            queue: queue.map(str::to_owned),
            outcome: outcome.map(|at| Outcome::ALL[at]),
            since_ms,
            until_ms,
        })
}

fn event(at: Cursor, time_ms: u64, step: &Step) -> Option<Event<'static>> {
    let Step::Append { n, kind, outcome, blob, .. } = step else { return None };
    let id = hash(*n);
    let queue = || Cow::from("orders");
    let what = match kind {
        0 => return Some(Event { at, ..published(at.position, time_ms, *n) }),
        1 => What::Delivered { queue: queue(), worker: "w".into(), attempt: 2 },
        2 => What::Received { queue: queue() },
        3 => What::Moved { position: at.position + 7 },
        4 => What::Progress { queue: queue(), permille: 400, text: "frames".into() },
        _ => {
            let mut event = settled(at, time_ms, *n, Outcome::ALL[*outcome]);
            if let What::Settled(settled) = &mut event.what
                && *blob > 0
            {
                settled.details.result = Some(vec![7; *blob].into());
                settled.details.error = Some(bstr::BString::from("e".repeat(*blob / 3)).into());
            }
            return Some(event);
        }
    };
    Some(Event { at, id, time_ms, what })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_answers_as_a_list_of_all_events_would(
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let disk = FaultyDisk::new(1);
        let open = || Ledger::open_sized(disk.clone(), Options::default(), tiny()).unwrap();
        let mut ledger = open();
        let mut model = Model::default();
        let (mut at, mut time_ms) = (Cursor { position: 1, nth: 0 }, 1000);
        for step in &steps {
            match step {
                Step::Append { later_ms, same_record, .. } => {
                    at = if *same_record {
                        Cursor { nth: at.nth + 1, ..at }
                    } else {
                        Cursor { position: at.position + 10, nth: 0 }
                    };
                    time_ms += later_ms;
                    let event = event(at, time_ms, step).unwrap();
                    ledger.append(&event);
                    model.events.push(event);
                }
                Step::Flush => {
                    // A record is always followed as a whole.
                    at = Cursor { position: at.position + 10, nth: 0 };
                    ledger.flush(at.position, time_ms).unwrap();
                    model.applied = at.position;
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = open();
                    prop_assert_eq!(ledger.applied(), model.applied);
                    model.until(model.applied).check(&ledger);
                    model.follow_from(ledger.applied(), &ledger);
                }
                Step::Ask(query) => model.check_outcomes(&ledger, query),
            }
        }
        model.check(&ledger);
    }
}

#[test]
fn a_real_disk_gives_the_same_answers_while_everybody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let disk = RealDisk::new(directory.path().join("ledger")).unwrap();
        Ledger::open_sized(disk, Options::default(), tiny()).unwrap()
    };
    let ledger = open();
    let published_count = std::sync::atomic::AtomicU64::new(0);
    const COUNT: u64 = 3000;
    let mut model = Model::default();
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (ledger, published_count) = (&ledger, &published_count);
            scope.spawn(move || {
                let mut after = None;
                let mut outcome_count = 0;
                let mut n = reader;
                loop {
                    let known = published_count.load(std::sync::atomic::Ordering::Acquire);
                    if known > 0 {
                        n = (n + 7919) % known;
                        let events = ledger.events(hash(n)).unwrap();
                        assert!((1..=2).contains(&events.len()), "{n} of {known}");
                        let key = crate::dedup_key(hash(n), QUEUE);
                        assert_eq!(ledger.first_seen(key).unwrap(), Some(1000 + n));
                    }
                    let query = OutcomeQuery { after, limit: 100, ..OutcomeQuery::default() };
                    let page = ledger.outcomes(&query).unwrap();
                    outcome_count += page.events.len() as u64;
                    after = page.next;
                    if known == COUNT && !page.has_more {
                        assert_eq!(outcome_count, COUNT);
                        return;
                    }
                }
            });
        }
        for n in 0..COUNT {
            let at = Cursor { position: n * 20 + 10, nth: 0 };
            let events =
                [published(n * 20, 1000 + n, n), settled(at, 1000 + n, n, Outcome::Processed)];
            for event in events {
                ledger.append(&event);
                model.events.push(event);
            }
            published_count.store(n + 1, std::sync::atomic::Ordering::Release);
            if n % 64 == 0 {
                ledger.flush(n * 20 + 20, 1000 + n).unwrap();
            }
        }
    });
    ledger.flush(COUNT * 20, 1000 + COUNT).unwrap();
    drop(ledger);
    model.check(&open());
}

#[test]
fn large_results_and_messages_come_back() {
    let disk = FaultyDisk::new(1);
    let open = || Ledger::open(disk.clone(), Options::default()).unwrap();
    let mut model = Model::default();
    let ledger = open();
    for n in 0..20 {
        let at = Cursor { position: n * 10, nth: 0 };
        let mut event = settled(at, 1000 + n, n, Outcome::Failed);
        if let What::Settled(settled) = &mut event.what {
            settled.details.result =
                Some((0..64 << 10).map(|byte| byte as u8).collect::<Vec<_>>().into());
            settled.message = Some(vec![n as u8; 1 << 20].into());
            settled.details.error = Some(bstr::BString::from("x".repeat(70_000)).into());
        }
        ledger.append(&event);
        model.events.push(event);
        if n % 7 == 0 {
            ledger.flush(n * 10 + 1, 1000).unwrap();
        }
    }
    model.check(&ledger);
    ledger.flush(1000, 2000).unwrap();
    drop(ledger);
    model.check(&open());
    // Each query reads a bounded stretch: 20 MiB do not fit in one.
    let ledger = open();
    let page = ledger.outcomes(&OutcomeQuery { limit: 100, ..OutcomeQuery::default() }).unwrap();
    assert!(page.has_more && (3..15).contains(&page.events.len()), "{}", page.events.len());
}

#[test]
fn what_comes_before_the_time_asked_for_is_not_read() {
    let disk = FaultyDisk::new(1);
    let ledger = Ledger::open_sized(disk.clone(), Options::default(), tiny()).unwrap();
    for n in 0..500 {
        ledger.append(&settled(Cursor { position: n, nth: 0 }, n, n, Outcome::Processed));
    }
    ledger.flush(500, 500).unwrap();
    let query = OutcomeQuery { since_ms: Some(495), limit: 100, ..OutcomeQuery::default() };
    let page = ledger.outcomes(&query).unwrap();
    // One query is enough, although it reads a bounded amount.
    assert_eq!((page.events.len(), page.has_more), (5, false));
    assert_eq!(page.next, Some(Cursor { position: 499, nth: 0 }));
    let query = OutcomeQuery { outcome: Some(Outcome::Failed), ..OutcomeQuery::default() };
    let page = ledger.outcomes(&query).unwrap();
    assert_eq!((page.events.len(), page.has_more), (0, false));
}
