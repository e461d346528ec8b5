//! `wilco send`, `work` and `queue`, as a shell sees them.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use end_to_end::{Broker, Client, Session, broker, eventually, int, shared, table, text, unique};

/// What a worker of these tests does: `bad…` fails, `later…` only works the second time, all others are
/// echoed with what is known of them.
const SCRIPT: &str = r#"
read -r line
case $line in
    bad*) echo "no $line" >&2; exit 3;;
    later*) [ "$WILCO_ATTEMPT" = 2 ] || exit 75; echo "second attempt";;
    *) echo "$line of $WILCO_QUEUE, $WILCO_HEADER_COLOUR_1";;
esac
"#;

fn wilco(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = broker::wilco();
    command.env("WILCO_URL", broker.uri()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(broker: &Broker, arguments: &[&str]) -> Output {
    wilco(broker, arguments).output().expect("it runs")
}

fn run_with(broker: &Broker, arguments: &[&str], input: &str) -> Output {
    let mut child = wilco(broker, arguments).stdin(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stdout), stdout, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

/// `wilco work`, ended with the test.
struct Worker(Option<Child>);

impl Worker {
    fn start(broker: &Broker, queue: &str, options: &[&str], script: &str) -> Self {
        let mut arguments = vec!["work", queue];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        Self(Some(wilco(broker, &arguments).spawn().expect("it runs")))
    }

    fn signal(&self, name: &str) {
        let id = self.0.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("it runs").success());
    }

    fn end(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("it ends")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start() -> (Session, String) {
    (shared(), unique("jobs"))
}

#[test]
fn what_became_of_a_message_is_its_output_and_exit_code() {
    let (broker, queue) = start();
    let worker = Worker::start(&broker, &queue, &["--backoff", "1ms"], SCRIPT);
    let sent = run(&broker, &["send", &queue, "hello", "--wait", "--header", "colour-1=red"]);
    check(&sent, 0, &format!("hello of {queue}, red\n"));
    let bad = run(&broker, &["send", &queue, "bad egg", "--wait", "--id", "egg-1"]);
    check(&bad, 1, "");
    assert_eq!(String::from_utf8_lossy(&bad.stderr), "wilco: message egg-1: failed: no bad egg\n");
    check(&run(&broker, &["send", &queue, "later", "--wait"]), 0, "second attempt\n");
    let told = run_with(&broker, &["send", &queue, "--wait", "--json", "--id", "a"], "one\ntwo\n");
    let expected = format!(
        "{{\"id\":\"a\",\"outcome\":\"processed\",\"error\":null,\
         \"result\":\"one of {queue}, \\n\",\"attempts\":1}}\n"
    );
    check(&told, 0, &expected);
    worker.signal("-TERM");
    check(&worker.end(), 0, "3 processed, 1 failed, 1 retried, 0 given back\n");
}

#[test]
fn many_messages_are_counted_and_failures_listed() {
    let (broker, queue) = start();
    let _worker = Worker::start(&broker, &queue, &["--concurrency", "8"], SCRIPT);
    let lines: String = (0..200).map(|number| format!("line {number}\n")).collect();
    let all = run_with(&broker, &["send", &queue, "--lines", "-", "--wait"], &lines);
    check(&all, 0, "200 processed, 0 not\n");
    let some = run_with(&broker, &["send", &queue, "--lines", "-", "--wait"], "a\nbad b\nc");
    let stdout = String::from_utf8_lossy(&some.stdout);
    assert!(stdout.starts_with("line 2  "), "{stdout}");
    assert!(stdout.ends_with("  failed: no bad b\n2 processed, 1 not\n"), "{stdout}");
    assert_eq!(some.status.code(), Some(1));
    let ids = run_with(&broker, &["send", &queue, "--lines", "-", "--json"], "a\nb\n");
    assert_eq!(String::from_utf8_lossy(&ids.stdout).matches("{\"id\":").count(), 2);
}

#[test]
fn a_line_that_is_refused_hides_no_other() {
    let (broker, queue) = start();
    let input = format!("one\n{}\nthree\nfour\n", "b".repeat((16 << 20) + 1));
    let sent = run_with(&broker, &["send", &queue, "--lines", "-"], &input);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&sent.stdout), String::from_utf8_lossy(&sent.stderr));
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stderr.starts_with("wilco: line 2: "), "{stderr}");
    assert!(stderr.ends_with("wilco: 1 messages were not sent\n"), "{stderr}");
    assert_eq!(sent.status.code(), Some(1));
    let purged = run(&broker, &["queue", "purge", &queue]);
    check(&purged, 0, &format!("queue {queue} purged: 3 messages removed\n"));
    let _worker = Worker::start(&broker, &queue, &[], SCRIPT);
    let told = run_with(&broker, &["send", &queue, "--lines", "-", "--wait"], &input);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert!(stdout.starts_with("line 2  ") && stdout.contains("  not sent: "), "{stdout}");
    assert!(stdout.ends_with("\n3 processed, 0 not, 1 not sent\n"), "{stdout}");
    assert_eq!(told.status.code(), Some(1));
    let told = run_with(&broker, &["send", &queue, "--lines", "-", "--wait", "--json"], &input);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(stdout.matches("\"outcome\":\"processed\"").count(), 3, "{stdout}");
    assert_eq!(stdout.matches("{\"line\":2,").count(), 1, "{stdout}");
    assert!(stdout.contains("\"outcome\":null,\"error\":\""), "{stdout}");
}

#[test]
fn who_is_interrupted_is_told_what_is_under_way() {
    let (broker, queue) = start();
    assert!(run(&broker, &["queue", "declare", &queue]).status.success());
    let client = Client::connect(&broker.uri());
    let interrupted = |arguments: &[&str], input: &str, count: u32| {
        let mut child = wilco(&broker, arguments).stdin(Stdio::piped()).spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        client.await_ready(&queue, count);
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("it runs").success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (_, stderr) = interrupted(&["send", &queue, "x", "--wait", "--id", "left"], "", 1);
    assert_eq!(stderr, "wilco: message left is under way: see wilco status left\n");
    let lines = &["send", &queue, "--lines", "-", "--wait"];
    let (stdout, _) = interrupted(lines, "a\nb\n", 3);
    assert_eq!(stdout.matches("  not known yet\n").count(), 2, "{stdout}");
    assert!(stdout.ends_with("2 not known yet\n0 processed, 0 not\n"), "{stdout}");
    let lines = &["send", &queue, "--lines", "-", "--wait", "--json"];
    let (stdout, _) = interrupted(lines, "a\n", 4);
    assert!(stdout.contains("\"outcome\":null"), "{stdout}");
}

#[test]
fn a_command_is_done_when_it_ends_whoever_it_has_started() {
    let (broker, queue) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let script = format!("echo ran >> {}; sleep 30 & echo done", log.display());
    let options = ["--timeout", "5s", "--attempts", "3", "--backoff", "1ms"];
    let _worker = Worker::start(&broker, &queue, &options, &script);
    check(&run(&broker, &["send", &queue, "x", "--wait"]), 0, "done\n");
    assert_eq!(std::fs::read_to_string(&log).expect("it ran"), "ran\n");
}

#[test]
fn a_worker_whose_terminal_is_closed_finishes_what_it_has_begun() {
    let (broker, queue) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    let at = directory.path().display();
    let script = format!("touch {at}/begun; sleep 1; touch {at}/done");
    let worker = Worker::start(&broker, &queue, &[], &script);
    assert!(run(&broker, &["send", &queue, "x"]).status.success());
    eventually("it begins", || file("begun").exists());
    worker.signal("-HUP");
    check(&worker.end(), 0, "1 processed, 0 failed, 0 retried, 0 given back\n");
    assert!(file("done").exists());
}

#[test]
fn lines_are_sent_as_they_come() {
    let (broker, queue) = start();
    let _worker = Worker::start(&broker, &queue, &[], "cat");
    let mut child = wilco(&broker, &["send", &queue, "--lines", "-", "--wait", "--json"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    for number in 0..3 {
        writeln!(stdin, "{number}").expect("it reads");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("an outcome");
        assert!(line.starts_with(&format!("{{\"line\":{},", number + 1)), "{line}");
        assert!(line.contains(&format!("\"result\":{number},")), "{line}");
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_worker_that_is_stopped_finishes_and_kills_what_takes_longer() {
    let (broker, queue) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    let script = format!(
        "read -r it; touch {0}/$it.begun; sleep ${{it#*-}}; touch {0}/$it.done",
        directory.path().display()
    );
    let worker = Worker::start(&broker, &queue, &["--concurrency", "2", "--grace", "2s"], &script);
    for body in ["quick-1", "slow-30"] {
        check(
            &run(&broker, &["queue", "declare", &queue]),
            0,
            &format!("queue {queue} is there\n"),
        );
        assert_eq!(run(&broker, &["send", &queue, body]).status.code(), Some(0));
    }
    eventually("both begin", || file("quick-1.begun").exists() && file("slow-30.begun").exists());
    // As Ctrl-C on a terminal does: it is for the worker, which lets what has begun finish.
    worker.signal("-INT");
    check(&worker.end(), 0, "1 processed, 0 failed, 0 retried, 1 given back\n");
    assert!(file("quick-1.done").exists());
    std::thread::sleep(Duration::from_millis(100));
    let pattern = directory.path().display().to_string();
    let left = Command::new("pgrep").args(["-f", &pattern]).output().expect("pgrep");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "its command was killed");
    check(
        &run(&broker, &["queue", "purge", &queue]),
        0,
        &format!("queue {queue} purged: 1 messages removed\n"),
    );
    let deleted = run(&broker, &["queue", "delete", &queue, "--json"]);
    check(&deleted, 0, &format!("{{\"messages\":0,\"queue\":\"{queue}\"}}\n"));
}

#[test]
fn mistakes_are_one_line_and_a_code() {
    let (broker, queue) = start();
    let address = broker.address();
    let wrong = format!("amqp://guest:geheim@{address}");
    let header = "x-deadline=1";
    let table: &[(&[&str], i32, &str)] = &[
        (&["send", &queue, "x", "--url", "http://x"], 2, "is not supported"),
        (&["send", &queue, "x", "--url", &wrong], 1, "check user, password"),
        (&["send", &queue, "x", "--url", "amqp://127.0.0.1:1"], 1, "check that the broker runs"),
        (&["send", &queue, "--file", "/nonexistent"], 1, "cannot read /nonexistent"),
        (&["send", &queue, "x", "--file", "y"], 2, "cannot be used with"),
        (&["send", &queue, "x", "--deadline", "soon"], 2, "a time is written like"),
        (&["send", &queue, "x", "--header", header], 1, "cannot be the name of a header"),
        (&["send", &queue, "x", "--id", ""], 1, "an id has 1 to 255 bytes"),
        (&["work", &queue], 2, "COMMAND"),
        (&["work", &queue, "--", "/no/such"], 2, "there is no command /no/such"),
        (&["work", &queue, "--", "/"], 2, "/ is a directory, not a command"),
        (&["work", &queue, "--", "/etc/passwd"], 2, "not executable"),
        (&["send", &"q".repeat(256), "x"], 1, "cannot be the name of a queue"),
        (&["queue", "declare", "q\nm"], 1, "cannot be the name of a queue"),
        (&["work", &queue, "--concurrency", "0", "--", "cat"], 2, "0 is not in"),
        (&["queue", "purge", &unique("missing")], 1, "NOT_FOUND"),
    ];
    for (arguments, code, text) in table {
        let output = run(&broker, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("wilco: ") && stderr.contains(text), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("geheim") && stderr.matches('\n').count() == 1, "{stderr}");
    }
}

#[test]
fn a_message_is_looked_up_cancelled_and_tried_again() {
    let (broker, queue) = start();
    let id = unique("order");
    assert_eq!(run(&broker, &["send", &queue, "bad", "--id", &id]).status.code(), Some(0));
    let line = |state: &str| {
        let width = queue.len();
        format!("{:width$}  ATTEMPTS  WORKER  STATE\n{queue}  0                 {state}\n", "QUEUE")
    };
    check(&run(&broker, &["status", &id]), 0, &line("queued"));
    check(&run(&broker, &["cancel", &id]), 0, &format!("message {id} cancelled\n"));
    check(&run(&broker, &["status", &id]), 0, &line("dropped: cancelled"));
    let again = run(&broker, &["cancel", &id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("has its outcome"), "{again:?}");
    let retried = run(&broker, &["retry", &id, "--queue", &queue, "--json"]);
    check(&retried, 0, &format!("{{\"id\":\"{id}\"}}\n"));
    let worker = Worker::start(&broker, &queue, &["--attempts", "1"], SCRIPT);
    eventually("it fails", || {
        let status = run(&broker, &["status", &id]);
        String::from_utf8_lossy(&status.stdout).contains("failed: no bad")
    });
    drop(worker);
    let json = run(&broker, &["status", &id, "--json"]);
    assert!(json.stdout.starts_with(b"{\"id\":"), "{json:?}");
    let unknown = run(&broker, &["status", "nobody knows this"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn the_demo_needs_nothing_and_shows_each_outcome() {
    let directory = tempfile::tempdir().expect("a directory");
    let demo =
        broker::wilco().current_dir(directory.path()).args(["demo", "--orders", "16"]).output();
    let demo = demo.expect("it runs");
    let stdout = String::from_utf8_lossy(&demo.stdout);
    for shown in ["processed", "sold out", "no such address", "deadline-missed", "attempt 2"] {
        assert!(stdout.contains(shown), "{shown}: {stdout}");
    }
    assert!(stdout.contains("16 orders to 2 queues"), "{stdout}");
    assert!(demo.status.success() && demo.stderr.is_empty(), "{demo:?}");
    assert!(
        std::fs::read_dir(directory.path()).expect("there").next().is_none(),
        "nothing is left"
    );
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let run = |arguments: &[&str]| {
        let output = broker::wilco().args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let texts = [run(&["completions", "bash"]), run(&["completions", "zsh"]), run(&["man"])];
    for command in ["serve", "send", "work", "status", "retry", "cancel", "queue", "demo", "bench"]
    {
        assert!(texts.iter().all(|text| text.contains(command)), "{command}");
    }
}

#[test]
fn what_is_refused_is_never_silently_fine() {
    let (broker, queue) = start();
    let client = broker.client();
    let arguments = [("x-max-length", int(1)), ("x-overflow", text("reject-publish"))];
    client.declare(&queue, table(arguments));
    assert_eq!(run(&broker, &["send", &queue, "first"]).status.code(), Some(0));
    for _ in 0..10 {
        let refused = run(&broker, &["send", &queue, "second", "--wait"]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("one of its queues is full\n"), "{stderr}");
        let lines = ["send", &queue, "--lines", "-", "--wait", "--json"];
        assert_eq!(run_with(&broker, &lines, "third\n").status.code(), Some(1));
    }
}

#[test]
fn lines_keep_their_order() {
    let (broker, queue) = start();
    let lines: String = (0..2000).map(|number| format!("{number}\n")).collect();
    let sent = run_with(&broker, &["send", &queue, "--lines", "-"], &lines);
    assert_eq!(sent.status.code(), Some(0));
    let client = broker.client();
    for number in 0..2000 {
        let message = client.take(&queue).expect("it is there");
        assert_eq!(message.data, number.to_string().as_bytes());
    }
}

#[test]
fn a_second_interrupt_ends_a_worker_at_once_with_what_it_has_begun() {
    let (broker, queue) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let begun = directory.path().join("begun");
    let worker =
        Worker::start(&broker, &queue, &[], &format!("touch {}; sleep 97", begun.display()));
    assert_eq!(run(&broker, &["send", &queue, "x"]).status.code(), Some(0));
    eventually("it begins", || begun.exists());
    worker.signal("-INT");
    std::thread::sleep(Duration::from_millis(300));
    worker.signal("-INT");
    let began = std::time::Instant::now();
    assert_eq!(worker.end().status.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(10));
    eventually("its command is killed", || {
        let left = Command::new("pgrep").args(["-f", "sleep 97"]).output().expect("pgrep");
        left.stdout.is_empty()
    });
    // The message is there for somebody else.
    eventually("it is back", || broker.client().ready_count(&queue) == 1);
}

#[test]
fn watch_prints_what_becomes_of_everybodys_messages() {
    use std::io::{BufRead, BufReader};
    use std::sync::{Arc, Mutex};

    let (broker, queue) = start();
    let mut watches = Vec::new();
    for options in [["--json"], ["--failures"]] {
        let arguments = [&["watch", queue.as_str()], &options[..]].concat();
        let mut watch = wilco(&broker, &arguments).spawn().expect("it runs");
        let stdout = watch.stdout.take().expect("piped");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sink.lock().expect("no panic").push(line);
            }
        });
        watches.push((Worker(Some(watch)), lines));
    }
    let _worker = Worker::start(&broker, &queue, &[], SCRIPT);
    let has = |at: usize, what: &[&str]| {
        let lines = watches[at].1.lock().expect("no panic");
        lines.iter().any(|line| what.iter().all(|what| line.contains(what)))
    };
    // Until both watch.
    eventually("both watch", || {
        let _ = run(&broker, &["send", &queue, "bad", "--wait"]);
        has(0, &["failed"]) && has(1, &["failed"])
    });
    let good = run(&broker, &["send", &queue, "good", "--id", "w1", "--wait"]);
    assert_eq!(good.status.code(), Some(0));
    let bad = run(&broker, &["send", &queue, "bad one", "--id", "w2", "--wait"]);
    assert_eq!(bad.status.code(), Some(1));
    eventually("a failure is printed", || has(1, &["w2", "failed: no bad one"]));
    eventually("so is a success", || {
        has(0, &[r#""id":"w1""#, r#""outcome":"processed""#])
            && has(0, &["w2", r#""error":"no bad one""#])
    });
    assert!(!has(1, &["w1"]), "only failures were asked for");
    for (watch, _) in watches {
        watch.signal("-INT");
        assert_eq!(watch.end().status.code(), Some(0));
    }
}
