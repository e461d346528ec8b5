//! On a real directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use segment_log::{Batch, Disk, LogError, RealDisk, Reserve};

use crate::{Owned, open};

const SEGMENT_BYTES_MAX: u64 = 64 << 10;

#[test]
fn a_log_in_a_directory_is_found_again_and_its_readers_keep_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::new(directory.path().join("a/b")).expect("is created");
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    let mut batch = Batch::new(0);
    let mut expected: Vec<Owned> = Vec::new();
    for round in 0..50_u8 {
        for size in [0, 10, 1000, 9000] {
            batch.append(round, 1, &[&vec![round; size]]);
        }
        log.write(&batch).expect("writes");
        log.sync().expect("syncs");
        expected.extend(segment_log::records(batch.as_bytes(), batch.start()).map(Owned::from));
        batch.reset(log.next_position());
    }
    assert!(log.segments().len() > 5);
    let reader = log.reader();
    thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, expected) = (reader.clone(), &expected);
            scope.spawn(move || {
                let mut buffer = Vec::new();
                for record in expected {
                    reader.read(record.position, &mut buffer).expect("reads");
                    assert_eq!(buffer, record.payload);
                }
            });
        }
    });
    let oldest = log.segments()[0];
    log.delete_segment(oldest.base).expect("deletes");
    expected.retain(|record| record.position >= oldest.end);
    drop(log);
    let opened = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens again");
    assert_eq!(opened.records, expected);
    assert_eq!(opened.recovery.torn_tail, None);
    assert!(disk.free_bytes().expect("is known") > 0);
}

#[test]
fn zeros_written_ahead_are_the_end_and_garbage_in_them_is_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::new(directory.path()).expect("is there");
    let mut log = open(disk.clone(), 1 << 20).expect("opens").log;
    let mut batch = Batch::new(0);
    batch.append(1, 0, &[b"small"]);
    log.write(&batch).expect("writes");
    log.sync().expect("syncs");
    let end = log.next_position();
    drop(log);
    let path = directory.path().join("00000000000000000000.log");
    let len = fs::metadata(&path).expect("is there").len();
    assert!(len > 100_000, "zeros ahead: {len}");
    assert_eq!(open(disk.clone(), 1 << 20).expect("opens").recovery.torn_tail, None);

    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(b"garbage", 50_000).expect("writes");
    let opened = open(disk.clone(), 1 << 20).expect("opens");
    let torn = opened.recovery.torn_tail.expect("is torn");
    assert_eq!((torn.position, torn.bytes), (end, 50_007 - 32 - end));
    assert_eq!(fs::metadata(&path).expect("is there").len(), 32 + end);
}

#[test]
fn directory_and_files_are_their_owners_alone() {
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o7777;
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("a/b");
    let disk = RealDisk::new(&directory).expect("is created");
    assert_eq!((mode(&parent.path().join("a")), mode(&directory)), (0o700, 0o700));
    drop(open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens"));
    let files =
        || fs::read_dir(&directory).expect("is listed").map(|entry| entry.expect("is read"));
    assert!(files().count() > 0);
    assert!(files().all(|file| mode(&file.path()) == 0o600));

    // Modes as an earlier version left them.
    let segment = directory.join("00000000000000000000.log");
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("is ours");
    fs::set_permissions(&segment, Permissions::from_mode(0o644)).expect("is ours");
    let disk = RealDisk::new(&directory).expect("is there");
    drop(open(disk, SEGMENT_BYTES_MAX).expect("opens"));
    assert_eq!((mode(&directory), mode(&segment)), (0o700, 0o600));
}

/// Set for the process that the next test starts: the limit is the whole process's.
const IS_CHILD: &str = "SEGMENT_LOG_TEST_WITHOUT_DESCRIPTORS";

#[test]
fn a_process_without_descriptors_goes_on_when_it_has_some() {
    if std::env::var_os(IS_CHILD).is_none() {
        let test = "real::a_process_without_descriptors_goes_on_when_it_has_some";
        let mut child = Command::new(std::env::current_exe().expect("is known"));
        let output = child.args(["--exact", test]).env(IS_CHILD, "1").output().expect("starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::new(directory.path()).expect("is there");
    let mut log = open(disk.clone(), SEGMENT_BYTES_MAX).expect("opens").log;
    let mut reserve = Reserve::open(disk.clone(), 10_000);
    assert!(reserve.restore().expect("there is room"));
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).expect("is lowered");
    let use_up = || -> Vec<File> { (0..).map_while(|_| File::open("/dev/null").ok()).collect() };
    let mut used_up = use_up();
    let mut batch = Batch::new(0);
    let mut refused = Vec::new();
    for round in 0..4 {
        batch.reset(log.next_position());
        batch.append(1, 0, &[&[7; 60_000]]);
        if let Err(error) = log.write(&batch) {
            assert!(matches!(error, LogError::OutOfFiles), "{error}");
            assert!(matches!(log.write(&batch), Err(LogError::OutOfFiles)));
            refused.push(round);
            used_up.clear();
            log.write(&batch).expect("there are some again");
            used_up = use_up();
        }
        log.sync().expect("needs none");
    }
    assert_eq!(refused, [2], "one roll was prepared, before and after");
    assert!(reserve.release().expect("needs none"));
    assert!(matches!(open(disk.clone(), SEGMENT_BYTES_MAX), Err(LogError::OutOfFiles)));
    drop(used_up);
    let oldest = log.segments()[0].base;
    log.delete_segment(oldest).expect("deletes");
    drop(log);
    assert_eq!(open(disk, SEGMENT_BYTES_MAX).expect("opens").records.len(), 3);
}
