//! Every call of the disk, refused for every reason: what is temporary, what poisons.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use segment_log::faulty::FaultyFile;
use segment_log::{Batch, Disk, DiskFile, FaultyDisk, Log, LogError, Options};

use crate::open;

const SEGMENT_BYTES_MAX: u64 = 300;
const ERRNOS: [Errno; 6] =
    [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO];

/// What can be asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    List,
    Create,
    Open,
    Remove,
    Rename,
    SyncDirectory,
    Write,
    Read,
    Sync,
    SetLen,
    Len,
}

/// The table in `docs/storage-format.md`.
fn is_temporary(call: Call, errno: Errno) -> bool {
    let is_full = matches!(errno, Errno::NOSPC | Errno::DQUOT);
    let is_out_of_files = matches!(errno, Errno::MFILE | Errno::NFILE);
    match call {
        Call::Create | Call::Open => is_full || is_out_of_files || errno == Errno::NOMEM,
        Call::List | Call::Rename | Call::Remove => is_full || is_out_of_files,
        Call::Write | Call::SetLen => is_full,
        Call::Read | Call::Len | Call::Sync | Call::SyncDirectory => false,
    }
}

/// A disk that refuses one call, chosen by its number.
#[derive(Clone)]
struct Refusing {
    disk: FaultyDisk,
    plan: Arc<Mutex<Plan>>,
}

struct RefusingFile {
    file: FaultyFile,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    count: usize,
    refusal: Option<(usize, Errno)>,
    refused: Option<Call>,
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().expect("nobody panics with it")
}

fn ask(plan: &Mutex<Plan>, call: Call) -> io::Result<()> {
    let mut plan = lock(plan);
    plan.count += 1;
    match plan.refusal {
        Some((at, errno)) if at == plan.count => {
            plan.refused = Some(call);
            Err(errno.into())
        }
        _ => Ok(()),
    }
}

impl Refusing {
    fn new(disk: FaultyDisk, refusal: Option<(usize, Errno)>) -> Self {
        let plan = Plan { refusal, ..Plan::default() };
        Self { disk, plan: Arc::new(Mutex::new(plan)) }
    }

    fn file(&self, file: FaultyFile) -> RefusingFile {
        RefusingFile { file, plan: Arc::clone(&self.plan) }
    }
}

impl Disk for Refusing {
    type File = RefusingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        ask(&self.plan, Call::List)?;
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<RefusingFile> {
        ask(&self.plan, Call::Create)?;
        self.disk.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<RefusingFile> {
        ask(&self.plan, Call::Open)?;
        self.disk.open(name).map(|file| self.file(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        ask(&self.plan, Call::Remove)?;
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        ask(&self.plan, Call::Rename)?;
        self.disk.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        ask(&self.plan, Call::SyncDirectory)?;
        self.disk.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for RefusingFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = ask(&self.plan, Call::Write) {
            // Some of it goes through, as on a disk that is nearly full.
            self.file.write_at(&buf[..buf.len() / 2], offset)?;
            return Err(error);
        }
        self.file.write_at(buf, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        ask(&self.plan, Call::Read)?;
        self.file.read_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        ask(&self.plan, Call::Sync)?;
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        ask(&self.plan, Call::SetLen)?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        ask(&self.plan, Call::Len)?;
        self.file.len()
    }
}

/// What one run of the work led to.
struct Outcome {
    /// Positions and contents of what the log said is durable and did not delete.
    promised: BTreeMap<u64, u8>,
    /// Errors that were temporary.
    temporary_count: usize,
    /// The error that ended the run.
    fatal: Option<LogError>,
}

/// Does something, and once more after a temporary error.
fn twice<T>(
    temporary_count: &mut usize,
    mut work: impl FnMut() -> Result<T, LogError>,
) -> Result<T, LogError> {
    match work() {
        Err(error) if error.is_temporary() => {
            *temporary_count += 1;
            work()
        }
        done => done,
    }
}

/// Opens, writes, rolls and deletes.
fn work(disk: &Refusing) -> Outcome {
    let mut outcome = Outcome { promised: BTreeMap::new(), temporary_count: 0, fatal: None };
    outcome.fatal = try_work(disk, &mut outcome).err();
    outcome
}

fn try_work(disk: &Refusing, outcome: &mut Outcome) -> Result<(), LogError> {
    let count = &mut outcome.temporary_count;
    let options = || Options { segment_bytes_max: SEGMENT_BYTES_MAX, ..Options::default() };
    let (mut log, recovery) = twice(count, || {
        let mut found = BTreeMap::new();
        let opened = Log::open(disk.clone(), options(), &mut |record| {
            found.insert(record.position, record.payload[0]);
        });
        outcome.promised = found;
        opened
    })?;
    assert_eq!(recovery.missing, []);
    for round in 0..9_u8 {
        let len = if round == 5 { 900 } else { 90 };
        let mut batch = Batch::new(log.next_position());
        let position = batch.append(1, 0, &[&vec![round; len]]);
        let written = twice(count, || log.write(&batch));
        poisons_unless_temporary(&mut log, written.as_ref().err());
        written?;
        let synced = log.sync();
        poisons_unless_temporary(&mut log, synced.as_ref().err());
        synced?;
        outcome.promised.insert(position, round);
        if round % 4 != 3 {
            continue;
        }
        let segments = log.segments();
        let (gone, kept) = segments.split_at(segments.len() / 2);
        // The deletion may have been done even if it answered with an error.
        outcome.promised.retain(|position, _| *position >= kept[0].base);
        for segment in gone {
            let deleted = twice(count, || {
                let deleted = log.delete_segment(segment.base);
                let is_there = log.segments().contains(segment);
                match &deleted {
                    Ok(()) => assert!(!is_there),
                    Err(error) => assert!(is_there || !error.is_temporary()),
                }
                deleted
            });
            poisons_unless_temporary(&mut log, deleted.as_ref().err());
            deleted?;
        }
    }
    Ok(())
}

fn poisons_unless_temporary(log: &mut Log<Refusing>, error: Option<&LogError>) {
    if error.is_some_and(|error| !error.is_temporary()) {
        assert!(matches!(log.sync(), Err(LogError::Poisoned)));
        assert!(matches!(log.roll(), Err(LogError::Poisoned)));
    }
}

/// A disk with a log on it, one of whose records is damaged.
fn worn_disk() -> FaultyDisk {
    let disk = FaultyDisk::new(5);
    let outcome = work(&Refusing::new(disk.clone(), None));
    assert!(outcome.fatal.is_none() && outcome.temporary_count == 0);
    let names = disk.list().expect("the disk is up");
    let oldest = names.iter().find(|name| name.ends_with(".log")).expect("a segment");
    assert!(disk.flip_byte(oldest, 60));
    disk
}

#[test]
fn every_refusal_is_temporary_or_poisons_as_documented_and_loses_nothing() {
    let mut seen: BTreeMap<Call, usize> = BTreeMap::new();
    for (errno, is_worn) in ERRNOS.into_iter().flat_map(|errno| [(errno, false), (errno, true)]) {
        for at in 1.. {
            let faulty = if is_worn { worn_disk() } else { FaultyDisk::new(5) };
            let disk = Refusing::new(faulty.clone(), Some((at, errno)));
            let outcome = work(&disk);
            let Some(call) = lock(&disk.plan).refused else { break };
            *seen.entry(call).or_default() += 1;
            let what = format!("{errno:?} at call {at}, {call:?}");
            if is_temporary(call, errno) {
                assert!(outcome.fatal.is_none(), "{what}: {:?}", outcome.fatal);
            } else {
                let is_io = matches!(outcome.fatal, Some(LogError::Io { .. }));
                assert!(is_io && outcome.temporary_count == 0, "{what}: {:?}", outcome.fatal);
            }
            faulty.crash();
            let opened = open(faulty, SEGMENT_BYTES_MAX).expect("opens");
            assert_eq!(opened.recovery.missing, [], "{what}");
            let found: BTreeMap<u64, u8> =
                opened.records.iter().map(|record| (record.position, record.payload[0])).collect();
            for (position, payload) in &outcome.promised {
                assert_eq!(found.get(position), Some(payload), "{what}: {position}");
            }
        }
    }
    assert_eq!(seen.len(), 11, "every call is there: {seen:?}");
}
