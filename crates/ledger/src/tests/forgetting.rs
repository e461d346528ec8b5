//! What is forgotten by age, by size, and by the window.

use outcome::{Cursor, Outcome, OutcomeQuery};
use segment_log::{Disk, FaultyDisk};

use super::support::{QUEUE, hash, published, settled, tiny};
use crate::options::Sizes;
use crate::{Ledger, Options, dedup_key};

fn open(disk: &FaultyDisk, options: &Options) -> Ledger {
    Ledger::open_sized(disk.clone(), options.clone(), tiny()).unwrap()
}

/// Message `n` comes and goes at `n` milliseconds.
fn append(ledger: &Ledger, n: u64) {
    ledger.append(&published(n * 20, n, n));
    ledger.append(&settled(Cursor { position: n * 20 + 10, nth: 0 }, n, n, Outcome::Processed));
}

fn log_bytes(disk: &FaultyDisk) -> usize {
    let names = disk.list().unwrap();
    let logs = names.iter().filter(|name| name.ends_with(".log"));
    logs.map(|name| disk.contents(name).unwrap().len()).sum()
}

fn oldest(ledger: &Ledger) -> u64 {
    let page = ledger.outcomes(&OutcomeQuery { limit: 1, ..OutcomeQuery::default() }).unwrap();
    page.events.first().map_or(u64::MAX, |event| event.time_ms)
}

#[test]
fn events_go_by_age_and_their_ids_by_the_window() {
    let disk = FaultyDisk::new(1);
    let options = Options { retention_ms: 200, window_ms: 1000, bytes_max: u64::MAX };
    let ledger = open(&disk, &options);
    for n in 0..2000 {
        append(&ledger, n);
        if n % 10 == 9 {
            ledger.flush(n * 20 + 20, n).unwrap();
        }
    }
    let check = |ledger: &Ledger| {
        let oldest = oldest(ledger);
        // Whole segments are deleted, each at most a sixteenth of the retention.
        assert!((1770..=1800).contains(&oldest), "{oldest}");
        for n in 0..2000 {
            let events = ledger.events(hash(n)).unwrap();
            assert_eq!(events.len(), if n < oldest { 0 } else { 2 }, "{n} of {oldest}");
        }
        let seen = |n: u64| ledger.first_seen(dedup_key(hash(n), QUEUE)).unwrap();
        assert!((1000..2000).all(|n| seen(n) == Some(n)));
        assert!((0..900).all(|n| seen(n).is_none()));
    };
    check(&ledger);
    drop(ledger);
    let ledger = open(&disk, &options);
    // Times are known only after the first flush.
    assert!((1000..2000).all(|n| ledger.first_seen(dedup_key(hash(n), QUEUE)).unwrap() == Some(n)));
    ledger.flush(40_000, 2000).unwrap();
    check(&ledger);
    // Nothing happens any more, and yet everything is forgotten in the end.
    for now_ms in [2300, 2301, 3500, 3501] {
        for _ in 0..200 {
            ledger.flush(40_000, now_ms).unwrap();
        }
    }
    assert_eq!(oldest_or_none(&ledger), None);
    assert!(ledger.size_bytes() < 3000, "{}", ledger.size_bytes());
    assert!(ledger.file_count() < 4, "{}", ledger.file_count());
    assert!(log_bytes(&disk) < 10_000 + (256 << 10));
    drop(ledger);
    assert_eq!(open(&disk, &options).applied(), 40_000);
}

fn oldest_or_none(ledger: &Ledger) -> Option<u64> {
    let page = ledger.outcomes(&OutcomeQuery { limit: 1, ..OutcomeQuery::default() }).unwrap();
    page.events.first().map(|event| event.time_ms)
}

#[test]
fn events_go_when_they_are_too_much_and_the_window_stays() {
    let disk = FaultyDisk::new(1);
    let options = Options { bytes_max: 120_000, ..Options::default() };
    // A run is at least one block, so tiny ones take more space than they should.
    let sizes = Sizes { memory_entries: 300, step_entries: 300, ..tiny() };
    let open = || Ledger::open_sized(disk.clone(), options.clone(), sizes.clone()).unwrap();
    let ledger = open();
    for n in 0..3000 {
        append(&ledger, n);
        if n % 10 == 9 {
            ledger.flush(n * 20 + 20, n).unwrap();
            assert!(ledger.size_bytes() <= 125_000, "{}", ledger.size_bytes());
        }
    }
    let check = |ledger: &Ledger| {
        let oldest = oldest(ledger);
        assert!((500..2990).contains(&oldest), "{oldest}");
        for n in 0..3000 {
            let events = ledger.events(hash(n)).unwrap();
            assert_eq!(events.len(), if n < oldest { 0 } else { 2 }, "{n} of {oldest}");
            assert_eq!(ledger.first_seen(dedup_key(hash(n), QUEUE)).unwrap(), Some(n));
        }
    };
    check(&ledger);
    drop(ledger);
    check(&open());
}

#[test]
fn a_cursor_into_what_is_gone_goes_on_with_what_is_left() {
    let disk = FaultyDisk::new(1);
    let options = Options { bytes_max: 20_000, ..Options::default() };
    let ledger = open(&disk, &options);
    for n in 0..1000 {
        append(&ledger, n);
        if n % 10 == 9 {
            ledger.flush(n * 20 + 20, n).unwrap();
        }
    }
    let after = Some(Cursor { position: 30, nth: 0 });
    let page = ledger.outcomes(&OutcomeQuery { after, limit: 1, ..Default::default() }).unwrap();
    assert_eq!(page.events[0].time_ms, oldest(&ledger));
}
