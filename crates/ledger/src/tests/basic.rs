//! The basics.

use outcome::{Cursor, Outcome, OutcomeQuery};
use segment_log::FaultyDisk;

use super::support::{QUEUE, hash, published, settled, tiny};
use crate::options::Sizes;
use crate::{Ledger, Options, dedup_key};

#[test]
fn events_are_found_at_once_and_after_flush_and_reopening() {
    let disk = FaultyDisk::new(1);
    let events: Vec<_> = (0..100)
        .flat_map(|n| {
            let at = Cursor { position: n * 100 + 50, nth: 0 };
            [published(n * 100, 1000 + n, n), settled(at, 1001 + n, n, Outcome::Processed)]
        })
        .collect();
    let check = |ledger: &Ledger| {
        for n in 0..100_usize {
            let found = ledger.events(hash(n as u64)).unwrap();
            assert_eq!(found, events[n * 2..n * 2 + 2]);
            let seen = ledger.first_seen(dedup_key(hash(n as u64), QUEUE)).unwrap();
            assert_eq!(seen, Some(1000 + n as u64));
        }
        assert!(ledger.events(hash(100)).unwrap().is_empty());
        assert_eq!(ledger.first_seen(dedup_key(hash(100), QUEUE)).unwrap(), None);
        assert_eq!(ledger.first_seen(dedup_key(hash(0), "other")).unwrap(), None);
        let (mut found, mut query) = (Vec::new(), OutcomeQuery { limit: 7, ..Default::default() });
        loop {
            let page = ledger.outcomes(&query).unwrap();
            found.extend(page.events);
            query.after = page.next;
            if !page.has_more {
                break;
            }
        }
        assert!(found.iter().eq(events.iter().skip(1).step_by(2)));
    };
    let ledger = Ledger::open_sized(disk.clone(), Options::default(), tiny()).unwrap();
    for event in &events {
        ledger.append(event);
        ledger.append(event);
    }
    check(&ledger);
    ledger.flush(10_000, 2000).unwrap();
    check(&ledger);
    assert_eq!(ledger.applied(), 10_000);
    drop(ledger);
    let ledger = Ledger::open_sized(disk, Options::default(), tiny()).unwrap();
    assert_eq!(ledger.applied(), 10_000);
    check(&ledger);
    ledger.append(&events[7]);
    check(&ledger);
}

#[test]
fn of_an_id_used_over_and_over_again_the_latest_is_told() {
    let sizes = Sizes { events_bytes: 2000, ..tiny() };
    let disk = FaultyDisk::new(1);
    let ledger = Ledger::open_sized(disk, Options::default(), sizes).unwrap();
    let events: Vec<_> = (0..1000).map(|n| published(n, n, 7)).collect();
    for event in &events {
        ledger.append(event);
    }
    ledger.flush(1000, 1000).unwrap();
    let found = ledger.events(hash(7)).unwrap();
    assert!((50..500).contains(&found.len()), "{}", found.len());
    assert_eq!(found, events[1000 - found.len()..]);
}
