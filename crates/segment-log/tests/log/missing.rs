//! Segments that somebody deleted, and positions that only the owner remembers.

use segment_log::{
    Batch, Disk, DiskFile, FaultyDisk, Log, LogError, Missing, Options, SEGMENT_HEADER_SIZE,
};

use crate::damage::used_bytes;
use crate::{Opened, open};

const SEGMENT_BYTES_MAX: u64 = 400;
const MANIFEST: &str = "segments";

fn name(base: u64) -> String {
    format!("{base:020}.log")
}

fn append(log: &mut Log<FaultyDisk>, payload: &[u8]) -> Result<u64, LogError> {
    let mut batch = Batch::new(log.next_position());
    let position = batch.append(1, 0, &[payload]);
    log.write(&batch)?;
    log.sync()?;
    Ok(position)
}

/// A log of five segments with three records each, except for the last, which has one; and their
/// bases.
fn five_segments(disk: &FaultyDisk) -> (Log<FaultyDisk>, Vec<u64>) {
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    for _ in 0..13 {
        append(&mut log, &[7; 100]).expect("a healthy disk");
    }
    let bases: Vec<u64> = log.segments().iter().map(|segment| segment.base).collect();
    assert_eq!(bases, [0, 336, 672, 1008, 1344]);
    (log, bases)
}

/// Somebody deletes files.
fn lose(disk: &FaultyDisk, names: &[String]) {
    names.iter().for_each(|name| disk.remove(name).expect("is there"));
    disk.sync_directory().expect("a healthy disk");
}

fn reopen(disk: &FaultyDisk) -> Opened<FaultyDisk> {
    disk.crash();
    open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens")
}

#[test]
fn a_deleted_segment_is_told_at_every_opening_until_something_is_written() {
    for lost in 0..5 {
        let disk = FaultyDisk::new(lost);
        let (log, bases) = five_segments(&disk);
        let lost = lost as usize;
        // The last one could have grown by a segment's size beyond the batch it was begun for.
        let end = bases.get(lost + 1).copied().unwrap_or(1344 + 112 + SEGMENT_BYTES_MAX);
        drop(log);
        lose(&disk, &[name(bases[lost])]);
        for _ in 0..3 {
            let Opened { recovery, records, log } = reopen(&disk);
            let segment = bases[lost];
            assert_eq!(recovery.missing, [Missing { segment, base: segment, end }]);
            assert_eq!(records.len(), if lost == 4 { 12 } else { 10 });
            assert_eq!(recovery.quarantined, []);
            assert_eq!(log.next_position(), if lost == 4 { end } else { 1344 + 112 });
        }
        append(&mut reopen(&disk).log, b"goes on").expect("writes");
        assert_eq!(reopen(&disk).recovery.missing, []);
    }
}

#[test]
fn a_closed_segment_that_was_cut_is_told_with_what_is_gone() {
    for cut in 0..4 {
        // Cut to nothing, within the header, to the header, within a record, to the end of one.
        for len in [0, 20, SEGMENT_HEADER_SIZE, 32 + 50, 32 + 112] {
            let disk = FaultyDisk::new(1);
            let (log, bases) = five_segments(&disk);
            drop(log);
            let file = disk.open(&name(bases[cut])).expect("is there");
            file.set_len(len).and_then(|()| file.sync_data()).expect("a healthy disk");
            let Opened { recovery, log, .. } = reopen(&disk);
            let [Missing { segment, base, end }] = recovery.missing[..] else {
                panic!("segment {cut} cut to {len}: {:?}", recovery.missing)
            };
            assert_eq!((segment, end), (bases[cut], bases[cut + 1]));
            let left = len.saturating_sub(SEGMENT_HEADER_SIZE);
            assert!((segment..=segment + left).contains(&base), "cut to {len}: from {base}");
            assert_eq!(log.next_position(), 1344 + 112);
        }
    }
}

#[test]
fn positions_of_lost_segments_are_not_used_again_even_if_all_are_lost() {
    let disk = FaultyDisk::new(1);
    let (mut log, bases) = five_segments(&disk);
    // A batch larger than a segment, into an empty one: the manifest must allow for it first.
    log.roll().expect("rolls");
    let large = append(&mut log, &[1; 5000]).expect("writes");
    let end = log.next_position();
    let mut names: Vec<_> = bases.into_iter().map(name).collect();
    names.push(name(large));
    lose(&disk, &names);
    let mut opened = reopen(&disk);
    assert_eq!(opened.recovery.missing.len(), 6);
    assert!(opened.recovery.missing.is_sorted_by(|a, b| a.end <= b.base));
    let next = append(&mut opened.log, b"new").expect("writes");
    assert!(next >= end && opened.recovery.missing[5].end <= next);
    // And once more, with nothing in the last but what was not promised.
    opened.log.roll().expect("rolls");
    let base = opened.log.next_position();
    lose(&disk, &[name(base)]);
    let opened = reopen(&disk);
    assert_eq!(opened.recovery.missing.first().map(|missing| missing.base), Some(base));
    assert!(opened.log.next_position() > base);
}

#[test]
fn what_the_log_itself_deletes_is_never_missing_wherever_it_crashes() {
    for seed in 0..200 {
        let disk = FaultyDisk::new(seed);
        let (mut log, bases) = five_segments(&disk);
        disk.set_crash_at_sync(seed % 10 + 1);
        let mut work = || -> Result<(), LogError> {
            log.delete_segments(&bases[1..3])?;
            append(&mut log, &[7; 400])?;
            log.delete_segment(bases[0])?;
            append(&mut log, &[7; 400]).map(drop)
        };
        let is_done = work().is_ok();
        let opened = reopen(&disk);
        assert_eq!(opened.recovery.missing, []);
        assert!(!opened.recovery.is_manifest_damaged && !is_done);
        // A segment that came back is listed again.
        let segments = opened.log.segments();
        let oldest = segments[0].base;
        assert!(segments.len() > 1);
        drop(opened);
        lose(&disk, &[name(oldest)]);
        assert_eq!(reopen(&disk).recovery.missing.len(), 1);
    }
}

#[test]
fn without_a_list_nothing_is_said_and_a_damaged_one_is_told_of() {
    let disk = FaultyDisk::new(1);
    let (log, bases) = five_segments(&disk);
    drop(log);
    lose(&disk, &[MANIFEST.to_owned(), name(bases[1])]);
    let opened = reopen(&disk);
    assert_eq!((opened.recovery.missing.len(), opened.recovery.is_manifest_damaged), (0, false));
    lose(&disk, &[name(bases[2])]);
    assert_eq!(reopen(&disk).recovery.missing.len(), 1, "the list was made anew");

    assert!(disk.flip_byte(MANIFEST, 30));
    for _ in 0..2 {
        let opened = reopen(&disk);
        assert!(opened.recovery.is_manifest_damaged);
        assert_eq!(opened.recovery.missing, []);
    }
    append(&mut reopen(&disk).log, b"goes on").expect("writes");
    assert!(!reopen(&disk).recovery.is_manifest_damaged);
}

#[test]
fn segments_are_deleted_from_a_full_disk_and_without_descriptors() {
    let disk = FaultyDisk::new(1);
    let (mut log, bases) = five_segments(&disk);
    disk.set_capacity_bytes(Some(used_bytes(&disk)));
    log.delete_segment(bases[0]).expect("what it needs is prepared");
    // Nothing is prepared now, and there is not even room for a list.
    disk.set_capacity_bytes(Some(0));
    log.delete_segment(bases[1]).expect("the list has gone in the meantime");
    log.delete_segment(bases[2]).expect("and once more");
    assert!(matches!(append(&mut log, b"x"), Err(LogError::DiskFull)));
    disk.set_capacity_bytes(None);
    append(&mut log, b"x").expect("there is room again");
    let opened = reopen(&disk);
    assert_eq!(opened.recovery.missing, []);
    let mut log = opened.log;
    assert_eq!(log.segments().len(), 2);
    disk.set_out_of_files(true);
    log.roll().expect("is prepared");
    assert!(matches!(log.delete_segment(bases[3]), Err(LogError::OutOfFiles)));
    assert_eq!(log.segments().len(), 3);
    disk.set_out_of_files(false);
    log.delete_segment(bases[3]).expect("there are descriptors again");
    assert_eq!(reopen(&disk).log.segments().len(), 2);
}

#[test]
fn the_list_costs_two_syncs_for_a_roll_and_two_for_a_deletion_of_many() {
    let disk = FaultyDisk::new(1);
    let (mut log, bases) = five_segments(&disk);
    let mut count = disk.sync_count();
    let mut syncs = || {
        let before = std::mem::replace(&mut count, disk.sync_count());
        disk.sync_count() - before
    };
    log.roll().expect("rolls");
    assert_eq!(syncs(), 5, "old segment, new one, its name; list, its name");
    log.delete_segments(&bases[..4]).expect("deletes");
    assert_eq!(syncs(), 3, "list, its name; names gone");
    append(&mut log, b"x").expect("writes");
    assert_eq!(syncs(), 1, "a write knows nothing of it");
    drop(log);
    open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(syncs(), 2, "nor does an opening that finds all as listed");
}

#[test]
fn one_that_somebody_deleted_while_the_log_was_open_is_deleted() {
    let disk = FaultyDisk::new(1);
    let (mut log, bases) = five_segments(&disk);
    lose(&disk, &[name(bases[1])]);
    log.delete_segment(bases[1]).expect("is gone");
    assert!(matches!(log.delete_segment(bases[1]), Err(LogError::NotFound(_))));
    assert!(matches!(log.delete_segments(&[bases[2], 5]), Err(LogError::NotFound(5))));
    assert_eq!(log.segments().len(), 4, "none of them, not the others");
}

#[test]
fn the_log_goes_on_where_its_owner_says_if_it_ends_before() {
    let disk = FaultyDisk::new(1);
    let (log, _) = five_segments(&disk);
    let end = log.next_position();
    drop(log);
    let open_at = |position_min| {
        let options = Options { segment_bytes_max: SEGMENT_BYTES_MAX, position_min };
        Log::open(disk.clone(), options, &mut |_| {})
    };
    for position_min in [0, end] {
        let (log, _) = open_at(position_min).expect("opens");
        assert_eq!((log.next_position(), log.segments().len()), (end, 5));
    }
    for _ in 0..2 {
        let (log, recovery) = open_at(9000).expect("opens");
        assert_eq!((log.next_position(), log.segments().len()), (9000, 6));
        assert_eq!(recovery.next_position, 9000);
        disk.crash();
    }
    // Only the last segment ends in zeros.
    assert_eq!(disk.contents(&name(1344)).map(|contents| contents.len()), Some(32 + 112));
    let mut opened = reopen(&disk);
    assert_eq!(append(&mut opened.log, b"there").expect("writes"), 9000);
    assert_eq!(reopen(&disk).records.len(), 14);
    assert!(matches!(open_at(u64::MAX), Err(LogError::Misuse(_))));
}
