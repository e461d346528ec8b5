//! Random work and crashes against a naive model: a map of records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use segment_log::{Batch, Disk, FaultyDisk, Log, LogError, Missing};

use crate::{Owned, check_reads, open};

const SEGMENT_BYTES_MAX: u64 = 600;

#[derive(Debug, Clone)]
enum Op {
    Append {
        kind: u8,
        len: usize,
    },
    Group {
        lens: Vec<usize>,
    },
    Write,
    Sync,
    Roll,
    Delete {
        from: usize,
        count: usize,
    },
    FillDisk {
        free_bytes: u64,
    },
    EmptyDisk,
    OutOfFiles(bool),
    FailNextSync,
    CrashAtSync {
        n: u64,
    },
    Crash,
    /// Somebody deletes a segment while nothing runs.
    LoseSegment {
        nth: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0_usize..60, 1 => 60_usize..900];
    prop_oneof![
        12 => (0_u8..0xFF, len.clone()).prop_map(|(kind, len)| Op::Append { kind, len }),
        4 => prop::collection::vec(len, 0..4).prop_map(|lens| Op::Group { lens }),
        10 => Just(Op::Write),
        6 => Just(Op::Sync),
        1 => Just(Op::Roll),
        2 => (0_usize..3, 1_usize..3).prop_map(|(from, count)| Op::Delete { from, count }),
        1 => (0_u64..800).prop_map(|free_bytes| Op::FillDisk { free_bytes }),
        1 => Just(Op::EmptyDisk),
        1 => any::<bool>().prop_map(Op::OutOfFiles),
        1 => Just(Op::FailNextSync),
        1 => (1_u64..6).prop_map(|n| Op::CrashAtSync { n }),
        2 => Just(Op::Crash),
        1 => (0_usize..4).prop_map(|nth| Op::LoseSegment { nth }),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    record: Owned,
    group: Option<u64>,
}

struct World {
    disk: FaultyDisk,
    log: Log<FaultyDisk>,
    batch: Batch,
    /// What is in the batch, not yet written.
    pending: Vec<Entry>,
    /// What was written, by position.
    written: BTreeMap<u64, Entry>,
    /// A write failed halfway: these may or may not be found after a crash.
    in_doubt: Vec<Entry>,
    /// Everything before it must survive.
    synced_end: u64,
    /// Segments whose deletion was interrupted.
    half_deleted: Vec<(u64, u64)>,
    known_holes: BTreeSet<u64>,
    next_fill: u8,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("a healthy disk");
        assert!(opened.records.is_empty());
        Self {
            disk,
            log: opened.log,
            batch: Batch::new(0),
            pending: Vec::new(),
            written: BTreeMap::new(),
            in_doubt: Vec::new(),
            synced_end: 0,
            half_deleted: Vec::new(),
            known_holes: BTreeSet::new(),
            next_fill: 0,
        }
    }

    fn append(&mut self, kind: u8, len: usize, group: Option<u64>) {
        self.next_fill = self.next_fill.wrapping_add(1);
        // Zeros are the hardest to tell from empty space.
        let fill = if self.next_fill.is_multiple_of(3) { 0 } else { self.next_fill };
        let payload = vec![fill; len];
        let (a, b) = payload.split_at(len / 3);
        let position = self.batch.append(kind, fill, &[a, b]);
        self.pending.push(Entry { record: Owned { position, kind, flags: fill, payload }, group });
    }

    /// On errors, gives up as a node does: it restarts, here after a crash.
    fn settle(&mut self, result: Result<(), LogError>) {
        match result {
            Ok(()) => {}
            Err(error) if error.is_temporary() => self.log.sync().expect("not poisoned"),
            Err(LogError::Io { .. }) => {
                assert!(matches!(self.log.sync(), Err(LogError::Poisoned)));
                assert!(matches!(self.log.write(&self.batch), Err(LogError::Poisoned)));
                self.crash();
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn write(&mut self) {
        let result = self.log.write(&self.batch);
        match &result {
            Ok(()) => {
                for entry in self.pending.drain(..) {
                    self.written.insert(entry.record.position, entry);
                }
                self.batch.reset(self.log.next_position());
            }
            Err(error) if error.is_temporary() => {}
            Err(_) => self.in_doubt = self.pending.clone(),
        }
        self.settle(result);
    }

    fn delete(&mut self, from: usize, count: usize) {
        let segments: Vec<_> = self.log.segments().into_iter().skip(from).take(count).collect();
        let bases: Vec<u64> = segments.iter().map(|segment| segment.base).collect();
        let result = self.log.delete_segments(&bases);
        if segments.iter().any(|segment| segment.is_active) {
            assert!(matches!(result, Err(LogError::Misuse(_))));
            return;
        }
        let left = self.log.segments();
        let is_in_doubt = result.as_ref().is_err_and(|error| !error.is_temporary());
        for segment in segments {
            if is_in_doubt {
                self.half_deleted.push((segment.base, segment.end));
            } else if !left.contains(&segment) {
                self.written.retain(|at, _| !(segment.base..segment.end).contains(at));
            }
        }
        if result.is_ok() && !bases.is_empty() {
            // Deleting syncs what was written.
            self.synced_end = self.log.next_position();
        }
        self.settle(result);
    }

    fn lose_segment(&mut self, nth: usize) {
        self.crash();
        let segments = self.log.segments();
        let lost = segments[nth % segments.len()];
        if lost.base == lost.end {
            return;
        }
        self.disk.remove(&format!("{:020}.log", lost.base)).expect("is there");
        self.disk.sync_directory().expect("a healthy disk");
        self.written.retain(|at, _| !(lost.base..lost.end).contains(at));
        let end = self.recover(|missing| missing.iter().map(|lost| lost.base).eq([lost.base]));
        assert!(end >= lost.end, "its positions are not used again");
        // After this write it is not reported any more.
        self.append(1, 5, None);
        self.write();
    }

    fn crash(&mut self) {
        self.recover(<[Missing]>::is_empty);
    }

    /// Crashes, opens, and compares; returns the next position.
    fn recover(&mut self, is_missing_right: impl Fn(&[Missing]) -> bool) -> u64 {
        self.disk.crash();
        self.disk.set_capacity_bytes(None);
        let opened = open(self.disk.clone(), SEGMENT_BYTES_MAX).expect("recovers from any crash");
        assert!(is_missing_right(&opened.recovery.missing), "{:?}", opened.recovery.missing);
        assert!(!opened.recovery.is_manifest_damaged);
        for entry in self.in_doubt.drain(..) {
            self.written.insert(entry.record.position, entry);
        }
        let mut found = BTreeMap::new();
        for record in &opened.records {
            let entry = self.written.get(&record.position).expect("nothing is invented");
            assert_eq!(entry.record, *record);
            found.insert(record.position, entry.clone());
        }
        let next = opened.log.next_position();
        assert!(next >= self.synced_end);
        for (position, entry) in &self.written {
            let is_deleted =
                self.half_deleted.iter().any(|(base, end)| (base..end).contains(&position));
            if *position < self.synced_end && !is_deleted {
                assert!(found.contains_key(position), "lost a synced record at {position}");
            }
            if let Some(group) = entry.group {
                let members = self.written.values().filter(|other| other.group == Some(group));
                let survived = members.filter(|m| found.contains_key(&m.record.position)).count();
                let whole = self.written.values().filter(|e| e.group == Some(group)).count();
                assert!(survived == 0 || survived == whole, "a group came apart");
            }
        }
        if let Some(torn) = opened.recovery.torn_tail {
            assert!(torn.position >= self.synced_end && torn.position == next);
        }
        for hole in &opened.recovery.quarantined {
            assert!(hole.position >= self.synced_end || self.known_holes.contains(&hole.position));
            assert!(hole.file.is_some());
            self.known_holes.insert(hole.position);
        }
        // Opening again finds the same, and has nothing left to cut.
        let again = open(self.disk.clone(), SEGMENT_BYTES_MAX).expect("opens again");
        assert_eq!(again.records, opened.records);
        assert_eq!(again.recovery.torn_tail, None);
        assert_eq!(again.recovery.missing, opened.recovery.missing);
        assert_eq!(again.log.next_position(), next);
        self.log = again.log;
        self.batch.reset(next);
        self.pending.clear();
        self.written = found;
        self.half_deleted.clear();
        self.synced_end = next;
        next
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append { kind, len } => self.append(kind, len, None),
            Op::Group { lens } => {
                let group = Some(self.batch.end());
                self.batch.begin_group();
                for len in lens {
                    self.append(1, len, group);
                }
                self.batch.end_group();
            }
            Op::Write => self.write(),
            Op::Sync => {
                let result = self.log.sync();
                if result.is_ok() {
                    self.synced_end = self.log.next_position();
                }
                self.settle(result);
            }
            Op::Roll => {
                let end = self.log.next_position();
                let result = self.log.roll();
                if result.is_ok() && self.log.segments().last().map(|s| s.base) == Some(end) {
                    self.synced_end = end;
                }
                self.settle(result);
            }
            Op::Delete { from, count } => self.delete(from, count),
            Op::LoseSegment { nth } => self.lose_segment(nth),
            Op::OutOfFiles(is_out) => self.disk.set_out_of_files(is_out),
            Op::FillDisk { free_bytes } => {
                self.disk.set_capacity_bytes(None);
                let free = self.disk.free_bytes().unwrap_or(0);
                self.disk.set_capacity_bytes(Some(u64::MAX / 2));
                let used = self.disk.free_bytes().map_or(0, |left| u64::MAX / 2 - left);
                assert!(free > 0 || used == 0);
                self.disk.set_capacity_bytes(Some(used + free_bytes));
            }
            Op::EmptyDisk => self.disk.set_capacity_bytes(None),
            Op::FailNextSync => self.disk.fail_next_sync(),
            Op::CrashAtSync { n } => self.disk.set_crash_at_sync(n),
            Op::Crash => self.crash(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn synced_records_survive_in_order_and_groups_stay_whole(
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(seed);
        for op in ops {
            world.apply(op);
        }
        let live: Vec<_> = world.written.values().map(|entry| entry.record.clone()).collect();
        check_reads(&world.log, &live);
        world.crash();
    }
}
