//! Crashes at every point, full disks, failed syncs.

use outcome::{Cursor, Outcome};
use segment_log::FaultyDisk;

use super::support::{Model, published, settled, tiny};
use crate::options::Sizes;
use crate::{Ledger, LedgerError, Options};

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Appends the events of `messages` more messages; returns the position after them.
fn grow(model: &mut Model, random: &mut Random, messages: u64, ledger: &Ledger) -> u64 {
    let mut position = model.events.last().map_or(1, |event| event.at.position + 10);
    for _ in 0..random.below(30) + 1 {
        let (n, time_ms) = (random.below(messages), 1000 + position);
        let at = Cursor { position, nth: 0 };
        let event = match random.below(2) {
            0 => published(position, time_ms, n),
            _ => settled(at, time_ms, n, Outcome::ALL[random.below(6) as usize]),
        };
        ledger.append(&event);
        model.events.push(event);
        position += 10;
    }
    position
}

fn open(disk: &FaultyDisk) -> Result<Ledger, LedgerError> {
    Ledger::open_sized(disk.clone(), Options::default(), tiny())
}

#[test]
fn after_a_crash_the_ledger_is_as_of_a_flush_and_following_on_makes_it_whole() {
    for seed in 0..150 {
        let disk = FaultyDisk::new(seed);
        let mut random = Random(seed);
        let mut model = Model::default();
        // What the ledger may hold after a crash: the state of the last flush, or of the one under
        // way.
        let mut promised = 0;
        let mut tried = 0;
        let mut crash_count = 0;
        while crash_count < 6 {
            if random.below(3) == 0 {
                // Opening may be interrupted too.
                disk.set_crash_at_sync(random.below(6) + 1);
                if open(&disk).is_err() {
                    disk.crash();
                    crash_count += 1;
                    continue;
                }
                disk.crash();
            }
            let ledger = open(&disk).unwrap();
            let applied = ledger.applied();
            assert!([promised, tried].contains(&applied), "seed {seed}: {applied}");
            model.until(applied).check(&ledger);
            model.follow_from(applied, &ledger);
            model.check(&ledger);
            promised = applied;
            disk.set_crash_at_sync(random.below(40) + 1);
            loop {
                tried = grow(&mut model, &mut random, 300, &ledger);
                match ledger.flush(tried, 1000 + tried) {
                    Ok(()) => promised = tried,
                    Err(_) => break,
                }
            }
            assert!(promised == tried || ledger.applied() <= tried);
            drop(ledger);
            disk.crash();
            crash_count += 1;
        }
        let ledger = open(&disk).unwrap();
        model.follow_from(ledger.applied(), &ledger);
        model.check(&ledger);
    }
}

#[test]
fn a_full_disk_delays_and_loses_nothing() {
    for seed in 0..40 {
        let disk = FaultyDisk::new(seed);
        let mut random = Random(seed);
        let mut model = Model::default();
        let ledger = open(&disk).unwrap();
        let mut refused_count = 0;
        let mut applied = 0;
        for round in 0..80 {
            applied = grow(&mut model, &mut random, 300, &ledger);
            match round % 20 {
                5 => disk.set_capacity_bytes(Some(ledger.size_bytes() + random.below(4000))),
                15 => disk.set_capacity_bytes(None),
                _ => {}
            }
            if ledger.flush(applied, 1000).is_err() {
                refused_count += 1;
            }
            if round % 10 == 0 {
                model.check(&ledger);
            }
        }
        assert!(refused_count > 0, "seed {seed}");
        ledger.flush(applied, 1000).unwrap();
        model.check(&ledger);
        drop(ledger);
        let ledger = open(&disk).unwrap();
        assert_eq!(ledger.applied(), applied);
        model.check(&ledger);
    }
}

#[test]
fn a_failed_sync_is_an_error_until_the_ledger_is_opened_again() {
    let disk = FaultyDisk::new(1);
    let ledger = open(&disk).unwrap();
    let mut model = Model::default();
    let applied = grow(&mut model, &mut Random(1), 300, &ledger);
    disk.fail_next_sync();
    assert!(ledger.flush(applied, 0).is_err());
    assert!(ledger.flush(applied, 0).is_err());
    assert_eq!(ledger.applied(), 0);
    model.check(&ledger);
    drop(ledger);
    disk.crash();
    let ledger = open(&disk).unwrap();
    model.follow_from(ledger.applied(), &ledger);
    model.check(&ledger);
}

#[test]
fn the_window_survives_crashes_while_pages_come_and_go() {
    for seed in 0..120 {
        let disk = FaultyDisk::new(seed);
        let mut random = Random(seed);
        let mut model = Model::default();
        let options = Options { bytes_max: 40_000, ..Options::default() };
        // Some with entries in memory when their pages go, some without.
        let memory_entries = if seed % 2 == 0 { 10 } else { 500 };
        let sizes = Sizes { memory_entries, step_entries: 40, ..tiny() };
        let open = || Ledger::open_sized(disk.clone(), options.clone(), sizes.clone());
        for _ in 0..8 {
            let ledger = open().unwrap();
            model.follow_from(ledger.applied(), &ledger);
            model.check_what_is_kept(&ledger);
            disk.set_crash_at_sync(random.below(200) + 1);
            loop {
                let applied = grow(&mut model, &mut random, 1 << 40, &ledger);
                if ledger.flush(applied, 1000).is_err() {
                    break;
                }
            }
            drop(ledger);
            disk.crash();
        }
        let ledger = open().unwrap();
        model.follow_from(ledger.applied(), &ledger);
        model.check_what_is_kept(&ledger);
        assert!(ledger.events(model.events[0].id).unwrap() != model.until(10).events, "{seed}");
    }
}
