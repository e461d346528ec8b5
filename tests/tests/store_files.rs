//! The files of the store: closed to other users, and missed when they are gone.

use end_to_end::{Broker, Json, broker::is_external, client::block, eventually, skip, table};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Small segments, and no warning except about the store: few connections need few open files.
const CONFIG: &str = "[store]\nsegment_bytes = 1048576\n[limits]\nconnections_max = 100\n";

fn start_under(test: &str, directory: &Path, surroundings: &str) -> Option<Broker> {
    let config = directory.join("wilco.toml");
    fs::write(&config, CONFIG).expect("a file");
    let arguments = ["--config", config.to_str().expect("a path in UTF-8")];
    Broker::own_under(test, surroundings, &arguments)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("its status").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("another mode");
}

/// Everything in a directory, including directories.
fn inside(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a readable directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let with_content = |path: PathBuf| {
        let mut paths = if path.is_dir() { inside(&path) } else { Vec::new() };
        paths.push(path);
        paths
    };
    paths.flat_map(with_content).collect()
}

/// The segments of the log, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = inside(&data.join("log"));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

#[track_caller]
fn is_closed_to_others(data: &Path) {
    assert_eq!(mode(data), 0o700, "{}", data.display());
    let paths = inside(data);
    assert!(paths.iter().any(|path| path.ends_with("control.sock")), "{paths:?}");
    assert!(paths.iter().any(|path| path.ends_with("definitions.redb")), "{paths:?}");
    for path in paths {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}: {:o}", path.display(), mode(&path));
    }
}

/// Confirmed persistent messages of a kilobyte, tracked: `stem-0`, `stem-1` and so on.
#[track_caller]
fn fill(broker: &Broker, queue: &str, stem: &str, count: usize) {
    let client = broker.client();
    client.confirm_select();
    client.declare(queue, deduplicating());
    // A batch is never divided between segments, so not all at once.
    for numbers in (0..count).collect::<Vec<_>>().chunks(100) {
        let send = |number: &usize| {
            let id = format!("{stem}-{number}");
            let properties = BasicProperties::default().with_delivery_mode(2);
            client.send("", queue, "x".repeat(1000), properties.with_message_id(id.into()), false)
        };
        for confirm in numbers.iter().map(send).collect::<Vec<_>>() {
            assert!(block(confirm).expect("a confirm").is_ack());
        }
    }
}

fn deduplicating() -> FieldTable {
    table([("x-message-deduplication", AMQPValue::Boolean(true))])
}

#[test]
fn store_is_closed_to_others_whatever_the_umask() {
    let test = "store_is_closed_to_others_whatever_the_umask";
    for umask in ["umask 022", "umask 000", "umask 077"] {
        let directory = tempfile::tempdir().expect("a directory");
        let Some(mut broker) = start_under(test, directory.path(), umask) else { return };
        fill(&broker, "q", "id", 1500);
        assert!(segments(broker.data()).len() > 1);
        is_closed_to_others(broker.data());
        // What is set aside from damage is as secret as where it came from.
        assert!(broker.stop().success());
        let first = segments(broker.data()).remove(0);
        let mut bytes = fs::read(&first).expect("a segment");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&first, bytes).expect("a damaged segment");
        broker.start();
        let paths = inside(broker.data());
        assert!(paths.iter().any(|path| path.extension().is_some_and(|of| of == "quarantine")));
        is_closed_to_others(broker.data());
    }
}

#[test]
fn store_that_was_open_to_others_is_closed_at_the_start() {
    let test = "store_that_was_open_to_others_is_closed_at_the_start";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut broker) = start_under(test, directory.path(), "umask 022") else { return };
    fill(&broker, "q", "id", 1500);
    assert!(broker.stop().success());
    for path in inside(broker.data()) {
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    set_mode(broker.data(), 0o755);
    broker.start();
    is_closed_to_others(broker.data());
    assert_eq!(broker.client().ready_count("q"), 1500);
}

#[test]
fn store_is_closed_in_a_directory_that_was_there() {
    let test = "store_is_closed_in_a_directory_that_was_there";
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    fs::create_dir(&data).expect("a directory");
    set_mode(&data, 0o755);
    let Some(broker) = Broker::own_with(test, Some(&data), &[]) else { return };
    fill(&broker, "q", "id", 1);
    is_closed_to_others(&data);
}

#[test]
fn shared_directory_is_refused() {
    if is_external() {
        return skip("shared_directory_is_refused", "needs to own the broker's process");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("like-tmp");
    fs::create_dir(&data).expect("a directory");
    set_mode(&data, 0o1777);
    let path = data.to_str().expect("a path in UTF-8");
    // Bounded, since the broker would run on if it were not refused.
    let mut command = Command::new("timeout");
    command.arg("10").arg(end_to_end::broker::binary());
    command.args(["serve", "--data", path, "--amqp", "127.0.0.1:0", "--http", "off"]);
    let output = command.output().expect("the command runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0 && code != 124), "it starts");
    assert!(errors.contains(path), "{errors}");
    let says_what_to_do = ["--data", "chmod", "directory of its own", "own directory"];
    assert!(says_what_to_do.iter().any(|words| errors.contains(words)), "{errors}");
    // Another user's directory: nothing is put into it, and nothing about it is changed.
    assert_eq!(mode(&data), 0o1777);
    assert_eq!(inside(&data), Vec::<PathBuf>::new());
}

/// The texts of warnings and errors, without their times.
fn warnings(output: &str) -> Vec<String> {
    let of = |line: &str| {
        let (_, text) = line.split_once(" WARN ").or_else(|| line.split_once(" ERROR "))?;
        Some(text.to_owned())
    };
    output.lines().filter_map(of).collect()
}

/// Starts, with the flag if that is needed; returns what was logged that is not logged without the
/// loss.
#[track_caller]
fn told_at_start(broker: &mut Broker, usual: &[String]) -> String {
    let before = broker.output().len();
    if !broker.try_start(&[]) {
        let refusal = broker.output().split_off(before);
        assert!(refusal.contains("--accept-loss"), "it does not start, and why? {refusal}");
        assert!(broker.try_start(&["--accept-loss"]), "not even with the flag: {refusal}");
        return refusal;
    }
    let output = broker.output().split_off(before);
    let mut told = warnings(&output);
    told.retain(|text| !usual.contains(text));
    let with_number = told.iter().any(|text| text.contains(|char: char| char.is_ascii_digit()));
    assert!(with_number, "the loss is not told: {output}");
    told.join("\n")
}

/// A stopped store with users and some segments, of which the oldest have been deleted normally.
fn stopped_store(test: &str, directory: &Path) -> Option<(Broker, Vec<String>)> {
    let mut broker = start_under(test, directory, "true")?;
    fill(&broker, "done", "done", 2000);
    broker.client().delete("done");
    broker.manage(&["user", "add", "anna", "--password", "secret"]);
    fill(&broker, "q", "id", 4000);
    eventually("the oldest segment is gone", || {
        segments(broker.data())
            .first()
            .is_some_and(|path| !path.ends_with(format!("{:020}.log", 0)))
    });
    assert!(broker.stop().success());
    // In this state it starts without any warning.
    let before = broker.output().len();
    broker.start();
    assert!(broker.stop().success());
    let usual = warnings(&broker.output().split_off(before));
    assert!(usual.is_empty(), "{usual:?}");
    assert!(segments(broker.data()).len() >= 4);
    Some((broker, usual))
}

/// Deletes part of a stopped store; the loss must be reported, and what is left must work.
#[track_caller]
fn is_missed(test: &str, delete: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    let Some((mut broker, usual)) = stopped_store(test, directory.path()) else { return };
    delete(broker.data());
    told_at_start(&mut broker, &usual);
    let left = broker.client().ready_count("q");
    fill(&broker, "q", "new", 3);
    eventually("what is new is known", || broker.message("new-2")["state"].text() == "queued");
    // Accepted once; from then on this is the store.
    assert!(broker.stop().success());
    broker.start();
    assert_eq!(broker.client().ready_count("q"), left + 3);
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("a file less");
}

#[test]
fn deleted_definitions_are_missed() {
    let test = "deleted_definitions_are_missed";
    let directory = tempfile::tempdir().expect("a directory");
    let Some((mut broker, usual)) = stopped_store(test, directory.path()) else { return };
    remove(&broker.data().join("definitions.redb"));
    // Messages without a queue would all be lost, and users with them: not without asking.
    let told = told_at_start(&mut broker, &usual);
    assert!(told.contains("--accept-loss"), "{told}");
}

#[test]
fn deleted_first_segment_is_missed() {
    is_missed("deleted_first_segment_is_missed", |data| remove(&segments(data)[0]));
}

#[test]
fn deleted_middle_segment_is_missed() {
    is_missed("deleted_middle_segment_is_missed", |data| remove(&segments(data)[2]));
}

#[test]
fn deleted_last_segment_is_missed() {
    let delete = |data: &Path| remove(segments(data).last().expect("a segment"));
    is_missed("deleted_last_segment_is_missed", delete);
}

#[test]
fn cut_segment_is_missed() {
    // Truncated to its header, to nothing, to half.
    for len in [|_: u64| 32, |_| 0, |len| len / 2] {
        is_missed("cut_segment_is_missed", |data| {
            let file = fs::OpenOptions::new().write(true).open(&segments(data)[1]);
            let file = file.expect("a segment");
            let before = file.metadata().expect("a length").len();
            file.set_len(len(before)).expect("cut");
        });
    }
}

#[test]
fn deleted_webhooks_are_missed() {
    is_missed("deleted_webhooks_are_missed", |data| remove(&data.join("management.redb")));
}

#[test]
fn deleted_log_is_missed() {
    let delete = |data: &Path| fs::remove_dir_all(data.join("log")).expect("a directory less");
    is_missed("deleted_log_is_missed", delete);
}

#[test]
fn deleted_ledger_is_missed() {
    let delete = |data: &Path| fs::remove_dir_all(data.join("ledger")).expect("a directory less");
    is_missed("deleted_ledger_is_missed", delete);
}

/// After the log has become shorter: new messages are found, settled, and their ids remembered.
#[track_caller]
fn goes_on(broker: &mut Broker, queue: &str) {
    fill(broker, queue, "new", 5);
    let client = broker.client();
    let mut new = Vec::new();
    while let Some(message) = client.get(queue) {
        let id = message.properties.message_id().as_ref().expect("an id").to_string();
        client.ack(&message);
        if id.starts_with("new-") {
            new.push(id);
        }
    }
    assert_eq!(new.len(), 5, "{new:?}");
    for id in &new {
        assert_eq!(broker.settled(id)["outcome"].text(), "processed");
    }
    let outcomes = broker.outcomes_of(queue);
    let is_listed = |id| outcomes.iter().any(|outcome| outcome["message_id"].text() == id);
    assert!(new.iter().all(is_listed), "{new:?} in {outcomes:?}");
    drop(client);
    assert!(broker.stop().success());
    broker.start();
    fill(broker, queue, "new", 5);
    assert_eq!(broker.client().ready_count(queue), 0, "ids are forgotten");
}

#[test]
fn ledger_goes_on_after_the_end_of_the_log_was_lost() {
    let test = "ledger_goes_on_after_the_end_of_the_log_was_lost";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut broker) = start_under(test, directory.path(), "true") else { return };
    fill(&broker, "old", "old", 1500);
    // The ledger follows the log; it must have reached the end.
    eventually("it is followed", || broker.message("old-1499") != Json::Null);
    assert!(broker.stop().success());
    let last = segments(broker.data()).pop().expect("a segment");
    let bytes = fs::read(&last).expect("the segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("a record") + 1;
    fs::write(&last, &bytes[..end / 2]).expect("a shorter segment");
    told_at_start(&mut broker, &[]);
    let left = broker.client().ready_count("old");
    assert!((1..1500).contains(&left), "{left}");
    goes_on(&mut broker, "q");
}

#[test]
fn ledger_goes_on_after_an_older_log_was_put_back() {
    let test = "ledger_goes_on_after_an_older_log_was_put_back";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut broker) = start_under(test, directory.path(), "true") else { return };
    fill(&broker, "old", "old", 50);
    assert!(broker.stop().success());
    let log = broker.data().join("log");
    let backup = directory.path().join("backup");
    fs::create_dir(&backup).expect("a directory");
    for path in segments(broker.data()) {
        let name = path.file_name().expect("a name");
        fs::copy(&path, backup.join(name)).expect("a copy");
    }
    broker.start();
    fill(&broker, "old", "lost", 300);
    assert!(broker.stop().success());
    fs::remove_dir_all(&log).expect("a directory less");
    fs::rename(&backup, &log).expect("the backup in its place");
    told_at_start(&mut broker, &[]);
    assert_eq!(broker.client().ready_count("old"), 50);
    goes_on(&mut broker, "q");
}
