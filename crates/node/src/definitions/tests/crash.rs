//! A crash after any write leaves the changes of whole transactions, up to some transaction.

use std::io;
use std::sync::{Arc, Mutex};

use segment_log::{Disk, DiskFile, FaultyDisk};

use super::super::*;
use super::{queue, vhost};

/// One thing done to the file.
#[derive(Clone)]
enum Step {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// A disk with one file that remembers every step done to it.
#[derive(Clone, Default)]
struct RecordingDisk(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    exists: bool,
    content: Vec<u8>,
    steps: Vec<Step>,
}

impl Recorded {
    fn step(&mut self, step: Step) {
        match &step {
            Step::Write { offset, bytes } => {
                let start = usize::try_from(*offset).expect("small");
                let end = start + bytes.len();
                self.content.resize(self.content.len().max(end), 0);
                self.content[start..end].copy_from_slice(bytes);
            }
            Step::SetLen(len) => self.content.resize(usize::try_from(*len).expect("small"), 0),
        }
        self.steps.push(step);
    }
}

impl Disk for RecordingDisk {
    type File = Self;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn create(&self, _name: &str) -> io::Result<Self> {
        self.0.lock().expect("no panic").exists = true;
        Ok(self.clone())
    }
    fn open(&self, _name: &str) -> io::Result<Self> {
        let exists = self.0.lock().expect("no panic").exists;
        if exists { Ok(self.clone()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for RecordingDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().expect("no panic").step(Step::Write { offset, bytes: buf.to_vec() });
        Ok(())
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let recorded = self.0.lock().expect("no panic");
        let start = recorded.content.len().min(usize::try_from(offset).expect("small"));
        // Only a few at a time: short reads are allowed, and the reader must go on after them.
        let count = buf.len().min(recorded.content.len() - start).min(1000);
        buf[..count].copy_from_slice(&recorded.content[start..start + count]);
        Ok(count)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().expect("no panic").step(Step::SetLen(len));
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic").content.len() as u64)
    }
}

/// The disk after the first steps, the last of them torn after `torn_at` bytes.
fn crashed(steps: &[Step], torn_at: Option<usize>) -> RecordingDisk {
    let mut recorded = Recorded { exists: true, ..Recorded::default() };
    let last = steps.len().saturating_sub(1);
    for (number, step) in steps.iter().enumerate() {
        let mut step = step.clone();
        if let (Step::Write { bytes, .. }, Some(torn_at), true) =
            (&mut step, torn_at, number == last)
        {
            bytes.truncate(torn_at);
        }
        recorded.step(step);
    }
    recorded.steps.clear();
    RecordingDisk(Arc::new(Mutex::new(recorded)))
}

#[test]
fn a_crash_at_any_write_leaves_whole_transactions() {
    let disk = RecordingDisk::default();
    let batches = [
        vec![vhost("/"), queue("/", "a", 0), queue("/", "b", 1)],
        vec![Change::QueueDeleted { vhost: "/".into(), name: "a".into(), id: 0 }],
        (2..60).map(|id| queue("/", &format!("queue number {id}"), id)).collect(),
    ];
    let store = DefinitionStore::open_on_disk(&disk, "definitions").expect("a store");
    let mut states = vec![Definitions::default()];
    // The number of steps after which each state was durable.
    let mut durable_at = vec![0];
    for (number, batch) in batches.iter().enumerate() {
        store.apply(batch, number as u64 + 1).expect("applied");
        let mut state = states[number].clone();
        batch.iter().for_each(|change| state.apply(change));
        states.push(state);
        durable_at.push(disk.0.lock().expect("no panic").steps.len());
    }
    drop(store);

    let steps = disk.0.lock().expect("no panic").steps.clone();
    assert!(steps.len() > 10);
    for count in 0..=steps.len() {
        for torn_at in [None, Some(1), Some(4), Some(9), Some(64), Some(200)] {
            let disk = crashed(&steps[..count], torn_at);
            let store = DefinitionStore::open_on_disk(&disk, "definitions")
                .unwrap_or_else(|error| panic!("after {count} steps torn at {torn_at:?}: {error}"));
            let found = usize::try_from(store.applied_position()).expect("small");
            assert_eq!(store.load().expect("definitions"), states[found], "after {count} steps");
            // What was on disk before the last step began is still there.
            let least = durable_at.iter().rposition(|&at| at < count.max(1)).unwrap_or(0);
            assert!(found >= least, "after {count} steps: {found}, at least {least}");
            store.apply(&[vhost("after")], 9).expect("the store goes on");
        }
    }
}

/// Lost, reordered and torn writes, over and over on the same disk.
#[test]
fn a_store_on_a_faulty_disk_keeps_what_was_acknowledged() {
    for seed in 0..150 {
        let disk = FaultyDisk::new(seed);
        let mut acknowledged = Definitions::default();
        let mut position = 0;
        for round in 0..6 {
            disk.set_crash_at_sync(1 + (seed * 7 + round * 3) % 11);
            let mut attempted = acknowledged.clone();
            let opened = DefinitionStore::open_on_disk(&disk, "definitions");
            if let Ok(store) = &opened {
                for step in 0..4 {
                    let id = u32::try_from(round * 10 + step).expect("small");
                    let change = queue("/", &format!("queue {}", id % 13), id);
                    attempted.apply(&change);
                    if store.apply(&[change], position + 1).is_err() {
                        break;
                    }
                    position += 1;
                    acknowledged = attempted.clone();
                }
            }
            drop(opened);
            disk.crash();
            let store = DefinitionStore::open_on_disk(&disk, "definitions")
                .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
            let found = store.load().expect("definitions");
            if store.applied_position() == position {
                assert_eq!(found, acknowledged, "seed {seed} round {round}");
            } else {
                // The transaction under way when the machine stopped reached the disk.
                assert_eq!(store.applied_position(), position + 1, "seed {seed} round {round}");
                assert_eq!(found, attempted, "seed {seed} round {round}");
            }
            (acknowledged, position) = (found, store.applied_position());
        }
    }
}
