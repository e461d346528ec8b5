//! Random work and crashes against a naive model: a map of records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use segment_log::{Batch, FaultyDisk, Log, LogError};

use crate::{Owned, check_reads, open};

const SEGMENT_BYTES_MAX: u64 = 600;

#[derive(Debug, Clone)]
enum Op {
    Append { kind: u8, len: usize },
    Group { lens: Vec<usize> },
    Write,
    Sync,
    Roll,
    DeleteOldest,
    FillDisk { free_bytes: u64 },
    EmptyDisk,
    FailNextSync,
    CrashAtSync { n: u64 },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0_usize..60, 1 => 60_usize..900];
    prop_oneof![
        12 => (0_u8..0xFF, len.clone()).prop_map(|(kind, len)| Op::Append { kind, len }),
        4 => prop::collection::vec(len, 0..4).prop_map(|lens| Op::Group { lens }),
        10 => Just(Op::Write),
        6 => Just(Op::Sync),
        1 => Just(Op::Roll),
        1 => Just(Op::DeleteOldest),
        1 => (0_u64..800).prop_map(|free_bytes| Op::FillDisk { free_bytes }),
        1 => Just(Op::EmptyDisk),
        1 => Just(Op::FailNextSync),
        1 => (1_u64..6).prop_map(|n| Op::CrashAtSync { n }),
        2 => Just(Op::Crash),
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
    /// A write failed half-way: these may or may not be found after a crash.
    in_doubt: Vec<Entry>,
    /// Everything before it must survive.
    synced_end: u64,
    /// A segment whose deletion was interrupted.
    half_deleted: Option<(u64, u64)>,
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
            half_deleted: None,
            known_holes: BTreeSet::new(),
            next_fill: 0,
        }
    }

    fn append(&mut self, kind: u8, len: usize, group: Option<u64>) {
        self.next_fill = self.next_fill.wrapping_add(1);
        // Zeros are the hardest to tell from nothing.
        let fill = if self.next_fill.is_multiple_of(3) { 0 } else { self.next_fill };
        let payload = vec![fill; len];
        let (a, b) = payload.split_at(len / 3);
        let position = self.batch.append(kind, fill, &[a, b]);
        self.pending.push(Entry { record: Owned { position, kind, flags: fill, payload }, group });
    }

    /// Gives up on errors as a node does: a restart, here with a crash.
    fn settle(&mut self, result: Result<(), LogError>) {
        match result {
            Ok(()) => {}
            Err(LogError::DiskFull) => {}
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
            Err(LogError::DiskFull) => {}
            Err(_) => self.in_doubt = self.pending.clone(),
        }
        self.settle(result);
    }

    fn delete_oldest(&mut self) {
        let segment = self.log.segments()[0];
        if segment.is_active {
            let result = self.log.delete_segment(segment.base);
            assert!(matches!(result, Err(LogError::Misuse(_))));
            return;
        }
        let result = self.log.delete_segment(segment.base);
        match result {
            Ok(()) => {
                self.written.retain(|position, _| *position >= segment.end);
                // Deleting syncs what was written.
                self.synced_end = self.log.next_position();
            }
            Err(_) => self.half_deleted = Some((segment.base, segment.end)),
        }
        self.settle(result);
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.disk.set_capacity_bytes(None);
        let opened = open(self.disk.clone(), SEGMENT_BYTES_MAX).expect("recovers from any crash");
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
                self.half_deleted.is_some_and(|(base, end)| (base..end).contains(position));
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
        assert_eq!(again.log.next_position(), next);
        self.log = again.log;
        self.batch.reset(next);
        self.pending.clear();
        self.written = found;
        self.half_deleted = None;
        self.synced_end = next;
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
            Op::DeleteOldest => self.delete_oldest(),
            Op::FillDisk { free_bytes } => {
                use segment_log::Disk as _;
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
