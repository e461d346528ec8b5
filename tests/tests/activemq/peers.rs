//! Other people's clients at the same queues: python-qpid-proton, which speaks AMQP 1.0, and stomp.py.
//!
//! They run with the interpreter that `WILCO_TEST_PYTHON` names, else with that of `cargo xtask test`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use end_to_end::{Json, skip};
use wilco::{Context, Failure};

use crate::brokers::{Activemq, PATIENCE, Texts, on_each_with, producer};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/activemq/peer.py");

/// A peer that runs.
struct Peer {
    process: Child,
    lines: BufReader<ChildStdout>,
}

fn python(test: &str) -> Option<PathBuf> {
    let python = match std::env::var_os("WILCO_TEST_PYTHON") {
        Some(python) => python.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask/venv/bin/python"),
    };
    let imports = Command::new(&python).args(["-c", "import proton, stomp"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(test, "no Python with python-qpid-proton and stomp.py");
    None
}

impl Peer {
    fn start(python: &Path, broker: &Activemq, client: &str, role: &str, queue: &str) -> Self {
        let address = if client == "stomp" { broker.stomp() } else { broker.amqp() };
        let mut command = Command::new(python);
        command.args([SCRIPT, client, role]);
        command.args([&address.ip().to_string(), &address.port().to_string(), queue]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn json(&mut self) -> Json {
        let line = self.line();
        eprintln!("{line}");
        Json::parse(&line).unwrap_or(Json::Null)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each client with each broker.
fn with_each(test: &str, run: impl AsyncFn(&Activemq, &str, &Path)) {
    let Some(python) = python(test) else { return };
    // Else Classic shows the clients of other protocols an AMQP message as bytes.
    on_each_with(test, "transport.transformer=jms", async |broker| {
        drop(broker.connect().await);
        for client in ["proton", "stomp"] {
            run(broker, client, &python).await;
        }
    });
}

#[test]
fn another_program_is_told_what_a_worker_of_the_library_gives_back() {
    let test = "another_program_is_told_what_a_worker_of_the_library_gives_back";
    with_each(test, async |broker, client, python| {
        let wilco = broker.connect().await;
        let queue = Texts::named(format!("produced.{client}"));
        wilco.declare_queue(queue.name()).await.expect("declared");
        let handler = async |body: String, context: Context| {
            let header = |name| context.header(name).unwrap_or("none").to_owned();
            context.progress(0.5, "half");
            // Classic may let what it keeps on disk overtake what it does not.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let (colour, count) = (header("colour"), header("count"));
            Ok::<_, Failure>(format!("{body}, {colour}, {count}, {}", context.id()))
        };
        let _working = wilco.worker().handle(queue.clone(), handler).spawn();
        let mut peer = Peer::start(python, broker, client, "produce", queue.name());
        let (mut told, mut has_progressed) = (peer.json(), false);
        while told["headers"]["x-outcome"].text().is_empty() {
            assert_ne!(told, Json::Null, "it is told");
            has_progressed |= told["headers"]["x-progress"] != Json::Null;
            told = peer.json();
        }
        assert!(has_progressed);
        let headers = &told["headers"];
        assert_eq!(headers["x-outcome"].text(), "processed");
        assert_eq!(headers["x-message-id"].text(), "job-1");
        assert_eq!(headers["x-queue"].text(), queue.name());
        let count = if client == "stomp" { "none" } else { "3" };
        assert_eq!(told["body"].text(), format!("\"seven cups, red, {count}, job-1\""));
        let correlation = match client {
            "stomp" => headers["correlation-id"].text(),
            _ => told["correlation_id"].text(),
        };
        assert_eq!(correlation, "mine");
        wilco.close().await;
    });
}

#[test]
fn another_program_reads_what_a_producer_of_the_library_has_sent() {
    let test = "another_program_reads_what_a_producer_of_the_library_has_sent";
    with_each(test, async |broker, client, python| {
        let wilco = broker.connect().await;
        let queue = Texts::named(format!("worked.{client}"));
        let producer = producer(&wilco, &queue).await;
        let mut peer = Peer::start(python, broker, client, "work", queue.name());
        assert_eq!(peer.line(), "ready");
        let sending = producer.send(&"seven cups".to_owned()).id("job-2").header("colour", "red");
        let receipt = sending.deadline(PATIENCE).await.expect("taken");
        let got = peer.json();
        assert_eq!(got["body"].text(), "\"seven cups\"");
        let headers = &got["headers"];
        assert_eq!(headers["colour"].text(), "red");
        assert_eq!(headers["x-notify"].text(), "all");
        match client {
            "stomp" => assert_eq!(headers["x-deadline"].text(), "60000"),
            _ => {
                assert_eq!(headers["x-deadline"].number(), Some(60_000.0));
                assert_eq!(got["id"].text(), "job-2");
                assert_eq!(got["content_type"].text(), "application/json");
                assert!(got["reply_to"].text().contains("wilco.outcomes."));
                assert!(got["durable"].is_true());
            }
        }
        peer.process.wait().expect("it ends");
        // Who is no worker of the library tells nobody; but the message is gone.
        assert!(receipt.known_outcome().is_none());
        assert_eq!(wilco.purge_queue(queue.name()).await.expect("purged"), 0);
        wilco.close().await;
    });
}
