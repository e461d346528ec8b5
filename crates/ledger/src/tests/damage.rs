//! Damaged and missing files.

use outcome::{Cursor, Outcome, OutcomeQuery};
use segment_log::{Disk, FaultyDisk};

use super::support::{Model, QUEUE, hash, published, settled, tiny};
use crate::{Ledger, Options, dedup_key};

fn open(disk: &FaultyDisk) -> Ledger {
    Ledger::open_sized(disk.clone(), Options::default(), tiny()).unwrap()
}

/// A ledger of many pages and runs, closed.
fn fill(disk: &FaultyDisk, count: u64) -> Model {
    let ledger = open(disk);
    let mut model = Model::default();
    for n in 0..count {
        let at = Cursor { position: n * 20 + 10, nth: 0 };
        for event in [published(n * 20, 1000 + n, n), settled(at, 1000 + n, n, Outcome::Processed)]
        {
            ledger.append(&event);
            model.events.push(event);
        }
        if n % 20 == 19 {
            ledger.flush(n * 20 + 20, 1000 + n).unwrap();
        }
    }
    ledger.flush(count * 20, 1000 + count).unwrap();
    model.applied = count * 20;
    model
}

fn names(disk: &FaultyDisk, prefix: &str, suffix: &str) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with(prefix) && name.ends_with(suffix));
    names.sort();
    names
}

#[test]
fn without_manifest_or_runs_everything_is_made_anew_from_the_pages() {
    for damage in 0..5 {
        let disk = FaultyDisk::new(1);
        let model = fill(&disk, 400);
        let runs = names(&disk, "", ".run");
        assert!(runs.len() >= 4, "{runs:?}");
        match damage {
            0 => disk.remove("manifest").unwrap(),
            1 => assert!(disk.flip_byte("manifest", 20)),
            2 => runs.iter().for_each(|name| disk.remove(name).unwrap()),
            3 => names(&disk, "index", ".run")
                .iter()
                .for_each(|name| assert!(disk.flip_byte(name, 3))),
            _ => disk.put(&runs[0], b"short"),
        }
        model.check_all_but_damaged_runs(&disk, damage == 3);
    }
}

impl Model {
    /// Damage inside a run is found when it is read; the next opening repairs it.
    fn check_all_but_damaged_runs(&self, disk: &FaultyDisk, is_damaged_inside: bool) {
        if is_damaged_inside {
            let ledger = open(disk);
            for n in 0..400 {
                ledger.events(hash(n)).unwrap();
            }
            ledger.append(&published(self.applied, 5000, 1000));
            for n in 0..30 {
                // Enough flushes for the manifest to be written again.
                ledger.append(&published(self.applied + 10 + n, 5000, 1001 + n));
            }
            ledger.flush(self.applied + 100, 5000).unwrap();
        }
        let ledger = open(disk);
        self.check(&ledger);
        for _ in 0..50 {
            ledger.flush(ledger.applied(), 2000).unwrap();
        }
        self.check(&ledger);
        drop(ledger);
        self.check(&open(disk));
    }
}

#[test]
fn a_damaged_page_costs_its_own_events_only() {
    let disk = FaultyDisk::new(1);
    let model = fill(&disk, 200);
    let log = names(&disk, "", ".log")[0].clone();
    let middle = disk.contents(&log).unwrap().len() as u64 / 2;
    for is_open in [true, false] {
        let ledger = open(&disk);
        if is_open {
            assert!(disk.flip_byte(&log, middle));
        }
        let lost: Vec<_> =
            (0..200).filter(|n| ledger.events(hash(*n)).unwrap().len() < 2).collect();
        assert!((1..=12).contains(&lost.len()), "{lost:?}");
        let query = OutcomeQuery { limit: 1, ..OutcomeQuery::default() };
        let (mut found, mut query) = (Vec::new(), query);
        loop {
            let page = ledger.outcomes(&query).unwrap();
            found.extend(page.events);
            query.after = page.next;
            if !page.has_more {
                break;
            }
        }
        assert!((180..200).contains(&found.len()), "{}", found.len());
        assert_eq!(ledger.applied(), model.applied);
        assert!((0..200).all(|n| {
            let seen = ledger.first_seen(dedup_key(hash(n), QUEUE)).unwrap();
            seen == Some(1000 + n)
        }));
    }
}

#[test]
fn the_window_outlives_a_lost_manifest_and_its_pages() {
    let disk = FaultyDisk::new(1);
    fill(&disk, 400);
    for name in names(&disk, "", ".log") {
        disk.remove(&name).unwrap();
    }
    disk.remove("manifest").unwrap();
    let ledger = open(&disk);
    assert_eq!(ledger.applied(), 0);
    let known = (0..400)
        .filter(|n| ledger.first_seen(dedup_key(hash(*n), QUEUE)).unwrap() == Some(1000 + n))
        .count();
    assert!(known > 380, "{known}");
    // Followed from the start again, into positions that have been used before.
    let model = {
        let mut model = Model::default();
        for n in 0..400 {
            let event = published(n * 20, 1000 + n, n);
            ledger.append(&event);
            model.events.push(event);
        }
        model
    };
    ledger.flush(8000, 2000).unwrap();
    model.check(&ledger);
    drop(ledger);
    model.check(&open(&disk));
}

#[test]
fn files_that_nobody_knows_of_are_removed() {
    let disk = FaultyDisk::new(1);
    let model = fill(&disk, 100);
    disk.put("index-0000009999.run", b"left by a crash");
    disk.put("window-0000009998.run", b"left by a crash");
    disk.put("manifest.new", b"torn");
    model.check(&open(&disk));
    assert!(disk.contents("index-0000009999.run").is_none());
    assert!(disk.contents("window-0000009998.run").is_none());
}
