//! Damage on the disk, and a start that cannot succeed.

use end_to_end::{Broker, broker, client::block};
use lapin::{BasicProperties, types::FieldTable};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

/// Publishes numbered messages of a kilobyte, confirmed.
fn fill(broker: &Broker, queue: &str, count: usize) {
    let client = broker.client();
    client.confirm_select();
    client.declare(queue, FieldTable::default());
    // A batch is never divided between segments, so not all at once.
    for numbers in (0..count).collect::<Vec<_>>().chunks(200) {
        let send = |number: &usize| {
            let properties = BasicProperties::default().with_delivery_mode(2);
            client.send("", queue, body(*number), properties, false)
        };
        for confirm in numbers.iter().map(send).collect::<Vec<_>>() {
            assert!(block(confirm).expect("a confirm").is_ack());
        }
    }
}

fn body(number: usize) -> String {
    format!("{number:05}{}", "x".repeat(1000))
}

/// Takes all messages and returns their numbers; checks that each is complete.
fn numbers(broker: &Broker, queue: &str) -> Vec<usize> {
    let client = broker.client();
    let count = client.ready_count(queue) as usize;
    let consumer = client.consume(queue);
    let bodies = consumer.bodies(count);
    consumer.quiet();
    let number = |text: &String| text[..5].parse().expect("a number");
    let numbers: Vec<_> = bodies.iter().map(number).collect();
    assert!(bodies.iter().zip(&numbers).all(|(text, number)| *text == body(*number)));
    numbers
}

/// The segments of the log, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = files(&data.join("log"));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a readable directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A broker with small segments.
fn broker_with_small_segments(test: &str, directory: &Path) -> Option<Broker> {
    let config = directory.join("wilco.toml");
    fs::write(&config, "[store]\nsegment_bytes = 1048576\n").expect("a file");
    Broker::own_with(test, None, &["--config", config.to_str().expect("a path in UTF-8")])
}

#[test]
fn torn_tail_is_cut_with_a_warning() {
    let test = "torn_tail_is_cut_with_a_warning";
    let Some(mut broker) = Broker::own(test) else { return };
    fill(&broker, "q", 50);
    broker.kill_nine();
    let last = segments(broker.data()).pop().expect("a segment");
    let bytes = fs::read(&last).expect("the segment");
    // After the records there may be zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("a record") + 1;
    fs::write(&last, &bytes[..end - 5]).expect("a shorter segment");
    let before = broker.output().len();

    broker.start();
    let warning = broker.output().split_off(before);
    assert!(warning.contains("WARN") && warning.contains("position"), "{warning}");
    assert_eq!(numbers(&broker, "q"), (0..49).collect::<Vec<_>>());

    fill(&broker, "q", 3);
    broker.restart();
    assert_eq!(numbers(&broker, "q"), (0..49).chain(0..3).collect::<Vec<_>>());
}

#[test]
fn damage_in_the_middle_is_put_aside_and_the_rest_is_kept() {
    let test = "damage_in_the_middle_is_put_aside_and_the_rest_is_kept";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut broker) = broker_with_small_segments(test, directory.path()) else { return };
    let count = 3000;
    fill(&broker, "q", count);
    assert!(broker.stop().success());
    let segments = segments(broker.data());
    assert!(segments.len() >= 3, "{segments:?}");
    let mut bytes = fs::read(&segments[0]).expect("the oldest segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segments[0], bytes).expect("a damaged segment");
    let before = broker.output().len();

    for _ in 0..2 {
        broker.start();
        let kept = numbers(&broker, "q");
        let lost: Vec<_> = (0..count).filter(|number| !kept.contains(number)).collect();
        assert!((1..=2).contains(&lost.len()), "lost {lost:?}");
        assert!(kept.is_sorted());
        broker.kill_nine();
    }
    let warning = broker.output().split_off(before);
    assert!(warning.contains("WARN") && warning.contains("damaged"), "{warning}");
    let aside = files(broker.data())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "quarantine"));
    assert_eq!(aside.count(), 1, "a copy of the damage, once");
}

#[test]
fn drained_segments_are_deleted() {
    let test = "drained_segments_are_deleted";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut broker) = broker_with_small_segments(test, directory.path()) else { return };
    fill(&broker, "q", 5000);
    let full = segments(broker.data()).len();
    assert!(full >= 5, "{full} segments");
    let client = broker.client();
    let consumer = client.consume("q");
    for _ in 0..4999 {
        consumer.next();
    }
    client.ack_up_to(&consumer.next());
    end_to_end::eventually("few segments are left", || segments(broker.data()).len() <= 3);
    broker.restart();
    assert!(broker.client().take("q").is_none());
}

/// Runs the binary, which must end by itself.
fn run(arguments: &[&str]) -> Output {
    let mut child = broker::wilco()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let start = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            // Whether or not it is gone, the test has failed.
            let _ = child.kill();
            panic!("{arguments:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// Asserts failure with one line on standard error that contains all of `words`.
#[track_caller]
fn fails_in_one_line(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

#[test]
fn store_in_use_is_left_alone() {
    let test = "store_in_use_is_left_alone";
    let Some(broker) = Broker::own(test) else { return };
    fill(&broker, "q", 3);
    let data = broker.data().to_str().expect("a path in UTF-8").to_owned();
    let address = format!("127.0.0.1:{}", broker::free_port());
    fails_in_one_line(&["serve", "--data", &data, "--amqp", &address], &[&data]);
    assert_eq!(numbers(&broker, "q"), [0, 1, 2]);
}

#[test]
fn busy_port_is_named() {
    let test = "busy_port_is_named";
    if broker::is_external() {
        return end_to_end::skip(test, "needs to own the broker's process");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a path in UTF-8");
    fails_in_one_line(&["serve", "--data", data, "--amqp", &address], &[&address]);
}

#[test]
fn wrong_configuration_is_named() {
    let test = "wrong_configuration_is_named";
    if broker::is_external() {
        return end_to_end::skip(test, "needs wilco's configuration");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("wilco.toml");
    let path = file.to_str().expect("a path in UTF-8");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a path in UTF-8");
    let cases = [
        ("[limits]\nchanel_max = 5\n", "chanel_max"),
        ("[limit]\n", "limit"),
        ("[limits]\nchannel_max = \"many\"\n", "channel_max"),
        ("[limits]\nframe_max = 1\n", "frame_max"),
        ("[listen]\namqp = \"nowhere\"\n", "amqp"),
        ("[store]\nsegment_bytes = -1\n", "segment_bytes"),
        ("this is no toml", ":1"),
    ];
    for (text, word) in cases {
        fs::write(&file, text).expect("a file");
        fails_in_one_line(&["config", "check", "--config", path], &[path, word]);
        fails_in_one_line(&["serve", "--data", data, "--config", path], &[path, word]);
    }
    fs::write(&file, "[limits]\nchannel_max = 5\n").expect("a file");
    assert!(run(&["config", "check", "--config", path]).status.success());
    fails_in_one_line(&["config", "check", "--config", "/nowhere/wilco.toml"], &["/nowhere"]);
    fails_in_one_line(&["serve", "--amqp", "not an address"], &["--amqp", "not an address"]);
    fails_in_one_line(&["serve", "--nonsense"], &["--nonsense"]);
}
