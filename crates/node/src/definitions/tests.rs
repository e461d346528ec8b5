//! Facts about the definitions, in memory and on disk.

mod crash;
mod model;

use std::fs;

use redb::backends::InMemoryBackend;
use segment_log::FaultyDisk;

use super::*;

fn vhost(name: &str) -> Change {
    Change::VhostPut { name: name.to_owned(), incarnation: 0 }
}

fn queue(vhost: &str, name: &str, id: u32) -> Change {
    let queue = StoredQueue {
        id,
        name: name.to_owned(),
        durable: true,
        auto_delete: false,
        exclusive: false,
        arguments: vec![0x0f, 0xa0],
    };
    Change::QueuePut { vhost: vhost.to_owned(), queue }
}

fn in_memory() -> DefinitionStore {
    DefinitionStore::open_with_backend(InMemoryBackend::new()).expect("a store")
}

#[test]
fn a_new_store_is_empty() {
    let store = in_memory();
    assert_eq!(store.load().expect("definitions"), Definitions::default());
    assert_eq!(store.applied_position(), 0);
}

#[test]
fn what_was_applied_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("definitions.redb");
    let store = DefinitionStore::open_file(&path).expect("a store");
    store.apply(&[vhost("/"), queue("/", "orders", 7)], 4711).expect("applied");
    assert_eq!(store.applied_position(), 4711);
    let before = store.load().expect("definitions");
    assert_eq!(before.next_queue_id, 8);
    drop(store);

    let store = DefinitionStore::open_file(&path).expect("a store");
    assert_eq!(store.applied_position(), 4711);
    assert_eq!(store.load().expect("definitions"), before);
}

#[test]
fn an_id_is_not_given_again_after_its_queue_is_gone() {
    let store = in_memory();
    let gone = Change::QueueDeleted { vhost: "/".into(), name: "q".into(), id: 3 };
    store.apply(&[queue("/", "q", 3), gone], 1).expect("applied");
    let definitions = store.load().expect("definitions");
    assert!(definitions.queues.is_empty());
    assert_eq!(definitions.next_queue_id, 4);
}

#[test]
fn a_late_deletion_spares_the_next_queue_of_that_name() {
    let mut definitions = Definitions::default();
    definitions.apply(&queue("/", "q", 4));
    definitions.apply(&Change::QueueDeleted { vhost: "/".into(), name: "q".into(), id: 3 });
    assert_eq!(definitions.queues.len(), 1);
}

#[test]
fn a_store_in_use_is_refused_in_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("definitions.redb");
    let _store = DefinitionStore::open_file(&path).expect("a store");
    let error = DefinitionStore::open_file(&path).expect_err("in use");
    assert!(matches!(error, DefinitionError::InUse { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the definitions {} are in use by another process", path.display())
    );
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("definitions.redb");
    for content in [b"{}".to_vec(), vec![b'x'; 10_000], b"redx".to_vec()] {
        fs::write(&path, &content).expect("written");
        let error = DefinitionStore::open_file(&path).expect_err("no store");
        assert!(matches!(error, DefinitionError::Damaged { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(fs::read(&path).expect("read"), content);
    }
}

#[test]
fn a_store_cut_short_or_overwritten_is_refused_not_emptied() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("definitions.redb");
    let store = DefinitionStore::open_file(&path).expect("a store");
    store.apply(&[vhost("/"), queue("/", "orders", 7)], 1).expect("applied");
    drop(store);
    let whole = fs::read(&path).expect("read");

    let mut overwritten = whole.clone();
    overwritten[64..320].fill(0xa5);
    for content in [whole[..5000].to_vec(), whole[..320].to_vec(), overwritten] {
        fs::write(&path, &content).expect("written");
        let error = DefinitionStore::open_file(&path).and_then(|store| store.load());
        let error = error.expect_err("damaged");
        assert!(matches!(error, DefinitionError::Damaged { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_flipped_bit_is_harmless_or_refused() {
    let disk = FaultyDisk::new(1);
    let store = DefinitionStore::open_on_disk(&disk, "d").expect("a store");
    let changes: Vec<_> = (0..200).map(|id| queue("/", &format!("queue {id}"), id)).collect();
    store.apply(&changes, 1).expect("applied");
    let before = store.load().expect("definitions");
    drop(store);
    let whole = disk.contents("d").expect("a file");
    let written = whole.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at);
    let mut refused_count = 0;
    for at in written.step_by(401) {
        disk.put("d", &whole);
        assert!(disk.flip_byte("d", at as u64));
        match DefinitionStore::open_on_disk(&disk, "d").and_then(|store| store.load()) {
            Ok(after) => assert_eq!(after, before, "byte {at}"),
            Err(_) => refused_count += 1,
        }
    }
    assert!(refused_count > 10, "{refused_count}");
}

#[test]
fn a_store_of_another_format_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("definitions.redb");
    drop(DefinitionStore::open_file(&path).expect("a store"));
    let database = redb::Database::open(&path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    transaction
        .open_table(tables::META)
        .and_then(|mut meta| Ok(meta.insert(tables::FORMAT, 9).map(drop)?))
        .expect("written");
    transaction.commit().expect("committed");
    drop(database);
    let error = DefinitionStore::open_file(&path).expect_err("another format");
    assert!(error.to_string().ends_with("have format 9, this version reads format 1"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = DefinitionStore::open_file("/no/such/directory/d.redb").expect_err("no directory");
    assert!(matches!(error, DefinitionError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/directory/d.redb"), "{error}");
}

#[test]
fn a_change_record_reads_as_it_was_written() {
    // The form on disk: records written by one version are read by the next one.
    let record = b"\x01{\"queue_put\":{\"vhost\":\"/\",\"queue\":{\"id\":7,\"name\":\"orders\",\
        \"durable\":true,\"auto_delete\":false,\"exclusive\":false,\"arguments\":\"0fa0\"}}}";
    assert_eq!(
        queue("/", "orders", 7).encode().escape_ascii().to_string(),
        record.escape_ascii().to_string()
    );
    assert_eq!(Change::decode(record).expect("a change"), queue("/", "orders", 7));
}

#[test]
fn a_bad_change_record_is_an_error() {
    let check = |record: &[u8], reason: &str| {
        let error = Change::decode(record).expect_err("no change").to_string();
        assert!(error.contains(reason), "{error}");
    };
    check(b"", "empty");
    check(b"\x02{}", "version is 2");
    check(b"\x01{\"vhost_put\":{", "EOF");
    check(b"\x01{\"vhost_moved\":{\"name\":\"/\"}}", "unknown variant");
    for arguments in ["0", "0g", "é"] {
        let record = format!(
            "\x01{{\"exchange_put\":{{\"vhost\":\"/\",\"exchange\":{{\"name\":\"e\",\
             \"kind\":\"direct\",\"durable\":true,\"auto_delete\":false,\"internal\":false,\
             \"arguments\":\"{arguments}\"}}}}}}"
        );
        check(record.as_bytes(), "hexadecimal");
    }
}
