//! Damage done by hand: torn at every byte, flipped at every byte, headers, whole segments.

use segment_log::{Batch, Damage, Disk, FaultyDisk, Log, LogError, Options, SEGMENT_HEADER_SIZE};

use crate::{Owned, open};

const NAME: &str = "00000000000000000000.log";
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
const HEADER: usize = SEGMENT_HEADER_SIZE as usize;

/// Five records, the middle two in a group, as the bytes of a segment file.
fn sample() -> (Vec<u8>, Vec<Owned>) {
    let disk = FaultyDisk::new(0);
    let mut batch = Batch::new(0);
    batch.append(1, 0, &[b"first"]);
    // Zeros, but not at the end: a tear that leaves only zeros behind would be none.
    batch.append(2, 9, &[&[0; 39], b"."]);
    batch.begin_group();
    batch.append(3, 0, &[b"one of two"]);
    batch.append(4, 0, &[b"two of two"]);
    batch.end_group();
    batch.append(5, 0, &[b"last, and a little longer"]);
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    log.write(&batch).expect("writes");
    log.sync().expect("syncs");
    let mut bytes = disk.contents(NAME).expect("is there");
    bytes.truncate(HEADER + batch.len_bytes());
    let records = segment_log::records(batch.as_bytes(), 0).map(Owned::from).collect();
    (bytes, records)
}

fn disk_with(bytes: &[u8]) -> FaultyDisk {
    let disk = FaultyDisk::new(7);
    disk.put(NAME, bytes);
    disk
}

/// Total bytes of all files.
pub(crate) fn used_bytes(disk: &FaultyDisk) -> u64 {
    let names = disk.list().expect("the disk is up");
    names.iter().filter_map(|name| disk.contents(name)).map(|bytes| bytes.len() as u64).sum()
}

/// Where the outermost record around each of the sample's records ends.
fn top_level_ends(records: &[Owned]) -> Vec<u64> {
    let end = |record: &Owned| record.position + 12 + record.payload.len() as u64;
    let group_end = end(&records[3]);
    vec![end(&records[0]), end(&records[1]), group_end, group_end, end(&records[4])]
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_after_the_last_whole_record() {
    let (bytes, records) = sample();
    let ends = top_level_ends(&records);
    for zeros in [0, 1, 300] {
        for len in HEADER..bytes.len() {
            let mut torn = bytes[..len].to_vec();
            torn.resize(len + zeros, 0);
            let data_end = (len - HEADER) as u64;
            let expected: Vec<_> = records
                .iter()
                .zip(&ends)
                .filter(|(_, end)| **end <= data_end)
                .map(|(record, _)| record.clone())
                .collect();
            let disk = disk_with(&torn);
            let mut opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
            assert_eq!(opened.records, expected, "torn at {len}");
            assert!(opened.recovery.quarantined.is_empty());
            let cut = ends.iter().copied().filter(|end| *end <= data_end).max().unwrap_or(0);
            assert_eq!(opened.log.next_position(), cut);
            // A tear that leaves only zeros behind is no tear.
            let is_torn = torn[HEADER + cut as usize..].iter().any(|byte| *byte != 0);
            assert_eq!(opened.recovery.torn_tail.map(|torn| torn.position), is_torn.then_some(cut));
            // And the log goes on from there.
            let mut batch = Batch::new(cut);
            batch.append(6, 0, &[b"next"]);
            opened.log.write(&batch).expect("writes");
            opened.log.sync().expect("syncs");
            let again = open(disk, SEGMENT_BYTES_MAX).expect("opens again");
            assert_eq!(again.records.len(), expected.len() + 1);
            assert_eq!(again.recovery.torn_tail, None);
        }
    }
}

#[test]
fn a_flipped_bit_costs_only_its_own_record() {
    let (bytes, records) = sample();
    let ends = top_level_ends(&records);
    for offset in HEADER..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << bit;
            let position = (offset - HEADER) as u64;
            let hit = *ends.iter().find(|end| position < **end).expect("inside");
            let opened = open(disk_with(&flipped), SEGMENT_BYTES_MAX).expect("opens");
            let expected: Vec<_> = records
                .iter()
                .zip(&ends)
                .filter(|(_, end)| **end != hit)
                .map(|(record, _)| record.clone())
                .collect();
            assert_eq!(opened.records, expected, "bit {bit} at {offset}");
            let is_last = hit == ends[4];
            assert_eq!(opened.recovery.torn_tail.is_some(), is_last);
            assert_eq!(opened.recovery.quarantined.len(), usize::from(!is_last));
        }
    }
}

#[test]
fn damaged_bytes_are_kept_in_a_file_of_their_own() {
    let (mut bytes, records) = sample();
    let at = HEADER + records[1].position as usize;
    bytes[at + 20] ^= 1;
    let disk = disk_with(&bytes);
    for is_known in [false, true, true, true] {
        let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
        let [damage] = &opened.recovery.quarantined[..] else { panic!("one stretch") };
        assert_eq!((damage.position, damage.bytes), (records[1].position, 52));
        assert_eq!((damage.damage, damage.is_known), (Damage::Records, is_known));
        let name = damage.file.as_deref().expect("copied");
        disk.crash();
        assert_eq!(disk.contents(name).expect("is there"), bytes[at..at + 52]);
        let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
        let mut buffer = Vec::new();
        let result = opened.log.reader().read(records[1].position, &mut buffer);
        assert!(matches!(result, Err(LogError::Corrupt { .. })));
    }
}

#[test]
fn a_full_disk_does_not_keep_a_damaged_log_from_opening() {
    let (mut bytes, records) = sample();
    bytes[HEADER + records[1].position as usize] ^= 1;
    let disk = disk_with(&bytes);
    disk.set_capacity_bytes(Some(bytes.len() as u64));
    let opened = open(disk, SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(opened.records.len(), 4);
    assert_eq!(opened.recovery.quarantined[0].file, None);
}

#[test]
fn records_inside_a_payload_are_never_taken_for_records_of_the_log() {
    let (inner, _) = sample();
    let mut batch = Batch::new(0);
    // Exactly the bytes that would be right at this position.
    let mut forged = Batch::new(12);
    forged.append(66, 0, &[b"forged"]);
    batch.append(1, 0, &[forged.as_bytes(), &inner]);
    let at = batch.append(2, 0, &[b"after"]);
    let whole = {
        let mut bytes = sample().0[..HEADER].to_vec();
        bytes.extend_from_slice(batch.as_bytes());
        bytes
    };
    // Damaged payload: what follows is found, what is inside is not.
    let mut damaged = whole.clone();
    damaged[HEADER + 70] ^= 0x40;
    let opened = open(disk_with(&damaged), SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(opened.records.iter().map(|record| record.position).collect::<Vec<_>>(), [at]);
    // Torn payload: nothing is found.
    let torn = &whole[..HEADER + 60];
    assert_eq!(open(disk_with(torn), SEGMENT_BYTES_MAX).expect("opens").records, []);
}

#[test]
fn a_damaged_file_header_is_mended_where_records_follow() {
    let (bytes, records) = sample();
    for offset in 0..HEADER {
        let mut bad = bytes.clone();
        bad[offset] ^= 0x10;
        let disk = disk_with(&bad);
        let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
        assert_eq!(opened.records, records);
        assert_eq!(opened.recovery.quarantined[0].damage, Damage::Header);
        assert_eq!(disk.contents(NAME).as_deref(), Some(&bytes[..]));
    }
}

#[test]
fn a_segment_torn_at_its_creation_is_begun_again() {
    let (bytes, _) = sample();
    for len in 0..=HEADER {
        let opened = open(disk_with(&bytes[..len]), SEGMENT_BYTES_MAX).expect("opens");
        assert_eq!(opened.records, []);
        assert_eq!(opened.recovery.quarantined, []);
        assert_eq!(opened.log.segments().len(), 1);
    }
}

#[test]
fn a_segment_of_garbage_is_put_aside_and_its_positions_are_not_used_again() {
    let disk = disk_with(&[0x5A; 4000]);
    let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(opened.recovery.quarantined[0].damage, Damage::Segment);
    assert_eq!(opened.log.next_position(), 4000 - HEADER as u64);
    assert!(disk.contents(&format!("{NAME}.quarantine")).is_some());
    let again = open(disk, SEGMENT_BYTES_MAX).expect("opens again");
    assert_eq!(again.recovery.quarantined, []);
    assert_eq!(again.log.next_position(), 4000 - HEADER as u64);
}

#[test]
fn a_crash_after_a_segment_was_put_aside_does_not_free_its_positions() {
    let disk = FaultyDisk::new(3);
    disk.put(&format!("{NAME}.quarantine"), &[0x5A; 4000]);
    let mut opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(opened.log.next_position(), 4000 - HEADER as u64);
    opened.log.sync().expect("syncs");
    // The same behind a segment that is good.
    disk.put("00000000000000009000.log.quarantine", &[0x5A; 1000]);
    let again = open(disk, SEGMENT_BYTES_MAX).expect("opens again");
    assert_eq!(again.log.next_position(), 10_000 - HEADER as u64);
    assert_eq!(again.log.segments().len(), 2);
}

#[test]
fn a_truncated_segment_that_has_a_successor_is_reported() {
    let (bytes, records) = sample();
    let disk = disk_with(&bytes);
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    log.roll().expect("rolls");
    disk.put(NAME, &bytes[..bytes.len() - 3]);
    let opened = open(disk, SEGMENT_BYTES_MAX).expect("opens");
    assert_eq!(opened.records, records[..4]);
    assert_eq!(opened.recovery.torn_tail, None);
    assert_eq!(opened.recovery.quarantined[0].position, records[4].position);
    assert_eq!(opened.log.segments().len(), 2);
}

#[test]
fn overlapping_segments_and_other_versions_are_refused() {
    let (bytes, _) = sample();
    let disk = disk_with(&bytes);
    // A successor that begins where this one has records.
    disk.put("00000000000000000010.log", &{
        let other = FaultyDisk::new(2);
        other.put(&format!("{NAME}.quarantine"), &[1; HEADER + 10]);
        open(other.clone(), SEGMENT_BYTES_MAX).expect("opens");
        other.contents("00000000000000000010.log").expect("is there")
    });
    let refused = open(disk, SEGMENT_BYTES_MAX).map(|_| ());
    assert!(matches!(refused, Err(LogError::Format { .. })), "{refused:?}");

    let disk = disk_with(&[]);
    disk.put("00000000000000000077.log", &bytes);
    let refused = open(disk, SEGMENT_BYTES_MAX).map(|_| ());
    assert!(matches!(refused, Err(LogError::Format { .. })), "{refused:?}");
}

#[test]
fn damage_after_opening_is_told_to_whoever_scans_or_reads() {
    let (bytes, records) = sample();
    let disk = disk_with(&bytes);
    let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens");
    disk.flip_byte(NAME, HEADER as u64 + records[1].position + 14);
    let reader = opened.log.reader();
    let mut count = 0;
    let result = reader.scan_segment(0, &mut |_| count += 1);
    assert!(
        matches!(result, Err(LogError::Corrupt { position }) if position == records[1].position)
    );
    assert_eq!(count, 4, "everything else is visited");
    let mut buffer = Vec::new();
    assert!(reader.read(records[1].position, &mut buffer).is_err());
    reader.read_range(0, 1000, &mut buffer).expect("the first record is good");
    assert_eq!(segment_log::records(&buffer, 0).count(), 1);
}

#[test]
fn a_full_disk_keeps_nothing_of_the_batch_and_takes_it_later() {
    for free in 0..124 {
        let disk = FaultyDisk::new(free);
        let options = Options { segment_bytes_max: SEGMENT_BYTES_MAX, ..Options::default() };
        let (mut log, _) = Log::open(disk.clone(), options, &mut |_| {}).expect("opens");
        disk.set_capacity_bytes(Some(used_bytes(&disk) + free));
        let mut batch = Batch::new(0);
        batch.append(1, 0, &[&[7; 50]]);
        batch.append(2, 0, &[&[8; 50]]);
        let is_full = matches!(log.write(&batch), Err(LogError::DiskFull));
        assert!(is_full);
        assert_eq!(log.next_position(), 0);
        log.sync().expect("not poisoned");
        disk.set_capacity_bytes(None);
        // A smaller batch must not leave the larger one's remains behind it.
        let mut other = Batch::new(0);
        other.append(3, 0, &[&[9; 20]]);
        let chosen = if free % 2 == 0 { &batch } else { &other };
        log.write(chosen).expect("there is room now");
        log.sync().expect("syncs");
        disk.crash();
        let opened = open(disk, SEGMENT_BYTES_MAX).expect("opens");
        let expected: Vec<_> =
            segment_log::records(chosen.as_bytes(), 0).map(Owned::from).collect();
        assert_eq!(opened.records, expected);
        assert_eq!(opened.recovery.torn_tail, None);
    }
}

#[test]
fn a_failed_sync_poisons_for_ever() {
    let disk = FaultyDisk::new(0);
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    let mut batch = Batch::new(0);
    batch.append(1, 0, &[b"doubtful"]);
    log.write(&batch).expect("writes");
    disk.fail_next_sync();
    assert!(matches!(log.sync(), Err(LogError::Io { action: "sync", .. })));
    batch.reset(log.next_position());
    batch.append(1, 0, &[b"later"]);
    for _ in 0..3 {
        assert!(matches!(log.sync(), Err(LogError::Poisoned)));
        assert!(matches!(log.write(&batch), Err(LogError::Poisoned)));
        assert!(matches!(log.roll(), Err(LogError::Poisoned)));
        assert!(matches!(log.delete_segment(0), Err(LogError::Poisoned)));
    }
    assert!(log.reader().read(0, &mut Vec::new()).is_ok(), "reading goes on");
}

#[test]
fn one_roll_needs_no_descriptor_and_the_next_waits_for_one() {
    let disk = FaultyDisk::new(0);
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    disk.set_out_of_files(true);
    let mut batch = Batch::new(0);
    let mut refused = Vec::new();
    for round in 0..40 {
        batch.reset(log.next_position());
        batch.append(1, 0, &[&[5; 100_000]]);
        while let Err(error) = log.write(&batch) {
            assert!(matches!(error, LogError::OutOfFiles), "{error}");
            assert_eq!(log.next_position(), batch.start());
            log.sync().expect("not poisoned");
            refused.push(round);
            disk.set_out_of_files(false);
        }
        disk.set_out_of_files(true);
    }
    // Ten batches fit into a segment; what is prepared when there is a descriptor serves one roll.
    assert_eq!(refused, [20]);
    disk.set_out_of_files(false);
    log.sync().expect("syncs");
    disk.crash();
    assert_eq!(open(disk, SEGMENT_BYTES_MAX).expect("opens").records.len(), 40);
}

#[test]
fn misuse_changes_nothing() {
    let mut log = open(FaultyDisk::new(0), SEGMENT_BYTES_MAX).expect("opens").log;
    let mut batch = Batch::new(5);
    batch.append(1, 0, &[b"x"]);
    assert!(matches!(log.write(&batch), Err(LogError::Misuse(_))));
    batch.reset(0);
    batch.begin_group();
    assert!(matches!(log.write(&batch), Err(LogError::Misuse(_))));
    assert!(matches!(log.delete_segment(0), Err(LogError::Misuse(_))));
    assert!(matches!(log.delete_segment(9), Err(LogError::NotFound(9))));
    assert!(matches!(log.reader().read(0, &mut Vec::new()), Err(LogError::NotFound(0))));
    assert_eq!(log.next_position(), 0);
    log.sync().expect("not poisoned");
}
