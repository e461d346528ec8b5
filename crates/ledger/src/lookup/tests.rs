//! Lookups against a naive map; with damage, with forgetting, and on a full disk.

use std::collections::{BTreeMap, BTreeSet};

use segment_log::FaultyDisk;

use super::*;
use crate::device::files;

fn key(n: u64) -> u128 {
    outcome::IdHash::new("v", n.to_string()).0
}

/// Numbers that look random.
fn scatter(n: u64, below: u64) -> u64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % below
}

#[test]
fn entries_are_found_wherever_they_are_while_runs_are_written_and_merged() {
    for kind in [Kind::Index, Kind::Window] {
        let disk = FaultyDisk::new(1);
        let files = files(disk.clone());
        let lookup = Lookup::new(kind);
        let mut run_set = RunSet::new(700, 3, 100);
        let mut numbers = Numbers::default();
        let mut model: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for n in 0..30_000 {
            let (name, value) = (scatter(n, 9000), n / 2);
            lookup.insert(key(name), value);
            model.entry(name).or_default().insert(value);
            if n % 50 == 0 {
                run_set.work(&lookup, &*files, &mut numbers, n);
            }
            if n % 5000 == 4999 {
                for (name, values) in &model {
                    let mut found = lookup.values(key(*name)).unwrap();
                    found.sort_unstable();
                    found.dedup();
                    let latest = values.last().copied();
                    assert_eq!(lookup.latest(key(*name)).unwrap(), latest);
                    if kind == Kind::Index {
                        assert!(found.iter().eq(values), "{name}");
                    }
                }
                let wrong = (9000..20_000).filter(|n| !lookup.values(key(*n)).unwrap().is_empty());
                assert_eq!(wrong.count(), 0);
            }
        }
        let run_count = lookup.shared.read().runs.len();
        assert!((2..=8).contains(&run_count), "{run_count}");
        assert!(numbers.is_dirty);
        let (covered, listed) = run_set.listing(&lookup);
        assert!(covered > 28_000, "{covered}");
        for run in &listed {
            assert!(!numbers.garbage.contains(&file_name(kind, run.number)));
        }
    }
}

#[test]
fn a_run_is_the_same_after_opening_and_with_its_filter_made_anew() {
    let disk = FaultyDisk::new(1);
    let files = files(disk.clone());
    let lookup = Lookup::new(Kind::Index);
    let mut run_set = RunSet::new(10, 3, 100);
    let mut numbers = Numbers::default();
    for n in 0..2000 {
        lookup.insert(key(n / 2), n);
    }
    assert!(run_set.spill(&lookup, &*files, &mut numbers, 1));
    let (_, listed) = run_set.listing(&lookup);
    let stat = listed[0];
    let name = file_name(Kind::Index, stat.number);
    let check = |listed, is_readable| {
        let lookup = Lookup::new(Kind::Index);
        let is_there = run_set.adopt(&lookup, &*files, stat.number, listed).unwrap();
        assert_eq!(is_there, is_readable);
        for n in (0..2000).filter(|_| is_readable) {
            let mut found = lookup.values(key(n / 2)).unwrap();
            found.sort_unstable();
            assert_eq!(found, [n / 2 * 2, n / 2 * 2 + 1]);
        }
    };
    check(Some(stat), true);
    check(None, true);
    // In the filter, in the footer, in an entry.
    for (offset, with_list, without_list) in
        [(stat.bytes - 200, true, true), (stat.bytes - 10, true, false), (5000, false, false)]
    {
        let before = disk.contents(&name).unwrap();
        disk.flip_byte(&name, offset);
        if offset == 5000 {
            // Only a damaged block is noticed when it is read.
            disk.flip_byte(&name, stat.bytes - 10);
        }
        check(Some(stat), with_list);
        check(None, without_list);
        disk.put(&name, &before);
    }
    let before = disk.contents(&name).unwrap();
    disk.put(&name, &before[..before.len() - 1]);
    check(Some(stat), false);
}

#[test]
fn what_is_below_the_floor_is_not_found_and_leaves_the_disk() {
    let disk = FaultyDisk::new(1);
    let files = files(disk.clone());
    let lookup = Lookup::new(Kind::Window);
    let mut run_set = RunSet::new(100, 3, 1000);
    let mut numbers = Numbers::default();
    for n in 0..2000 {
        lookup.insert(key(n), n);
        run_set.work(&lookup, &*files, &mut numbers, n);
    }
    let before = run_set.size_bytes(&lookup);
    lookup.set_floor(1500);
    assert_eq!(lookup.latest(key(1499)).unwrap(), None);
    assert_eq!(lookup.latest(key(1500)).unwrap(), Some(1500));
    for _ in 0..100 {
        run_set.work(&lookup, &*files, &mut numbers, 2000);
    }
    assert!(run_set.size_bytes(&lookup) < before / 2);
    assert!((1500..2000).all(|n| lookup.latest(key(n)).unwrap() == Some(n)));
    lookup.set_floor(2001);
    for _ in 0..100 {
        run_set.work(&lookup, &*files, &mut numbers, 2000);
    }
    assert_eq!(run_set.size_bytes(&lookup), 0);
}

#[test]
fn a_full_disk_costs_nothing_but_time() {
    let disk = FaultyDisk::new(1);
    let files = files(disk.clone());
    let lookup = Lookup::new(Kind::Window);
    let mut run_set = RunSet::new(100, 3, 100);
    let mut numbers = Numbers::default();
    disk.set_capacity_bytes(Some(6000));
    for n in 0..1000 {
        lookup.insert(key(n), n);
        run_set.work(&lookup, &*files, &mut numbers, n);
    }
    assert!((0..1000).all(|n| lookup.latest(key(n)).unwrap() == Some(n)));
    disk.set_capacity_bytes(None);
    for _ in 0..100 {
        run_set.work(&lookup, &*files, &mut numbers, 1000);
    }
    assert!((0..1000).all(|n| lookup.latest(key(n)).unwrap() == Some(n)));
    assert_eq!(run_set.covered(), 1000);
}
