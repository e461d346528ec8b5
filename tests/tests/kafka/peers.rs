//! The article's programs, written with kafka-python: its producer with a worker of the library, and its worker with
//! a producer of the library.
//!
//! They run with the interpreter that `WILCO_TEST_PYTHON` names, else with that of `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::{Server, skip, unique};
use wilco::{Failure, Outcome, Queue, Wilco};

const PATIENCE: Duration = Duration::from_secs(60);
/// Share groups and classic ones.
const SERVERS: [&str; 2] = ["kafka-4.4", "kafka-3.9"];

fn python(test: &str) -> Option<PathBuf> {
    let python = match std::env::var_os("WILCO_TEST_PYTHON") {
        Some(python) => python.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask/venv/bin/python"),
    };
    let imports = Command::new(&python).args(["-c", "import kafka"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(test, "no Python with kafka-python");
    None
}

fn program(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(name));
    command.stdin(Stdio::null());
    command
}

fn on_each(test: &str, run: impl AsyncFn(&str, &Wilco, &Path)) {
    let Some(python) = python(test) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for name in SERVERS {
        let Some(server) = Server::start(test, name) else { continue };
        let address = server.address().to_string();
        runtime.block_on(async {
            let wilco = Wilco::connect(&format!("kafka://{address}")).await.expect("it lets us in");
            run(&address, &wilco, &python).await;
            wilco.close().await;
        });
    }
}

async fn work(task: String) -> Result<String, Failure> {
    match task.as_str() {
        "bad" => Err(Failure::permanent("a hole in the cup")),
        _ => Ok(task.to_uppercase()),
    }
}

#[test]
fn a_producer_in_python_is_told_what_became_of_its_tasks() {
    on_each(
        "a_producer_in_python_is_told_what_became_of_its_tasks",
        async |address, wilco, python| {
            let queue: Queue<String, String> = Queue::named(unique("task_queue"));
            let replies = unique("replies");
            wilco.declare_queue(&replies).await.expect("declared");
            let _working = wilco.worker().handle(queue.clone(), work).spawn();
            wilco.declare_queue(queue.name()).await.expect("declared");
            let mut producer = program(python, "article_producer.py");
            producer.args([address, queue.name(), &replies, r#""cup""#, r#""bad""#, "no JSON"]);
            let output = tokio::task::spawn_blocking(move || producer.output());
            let output =
                tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("no panic");
            let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
            let mut told: Vec<&str> = output.lines().collect();
            told.sort_unstable();
            let [cup, bad, odd] = told[..] else { panic!("{output}") };
            assert_eq!(
                (cup, bad),
                (r#"task-0 processed "CUP""#, "task-1 failed a hole in the cup")
            );
            assert!(odd.starts_with("task-2 failed"), "{odd}");
        },
    );
}

#[test]
fn a_worker_in_python_tells_what_became_of_the_tasks() {
    on_each("a_worker_in_python_tells_what_became_of_the_tasks", async |address, wilco, python| {
        let queue: Queue<String, String> = Queue::named(unique("task_queue"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let mut worker = program(python, "article_worker.py");
        let mut worker = worker.args([address, queue.name(), "2"]).spawn().expect("it starts");
        let mut told = Vec::new();
        for task in ["cup", "bad"] {
            let receipt = producer.send(&task.to_owned()).await.expect("taken");
            told.push(receipt.outcome_within(PATIENCE).await.expect("it is told"));
        }
        worker.wait().expect("it ends");
        let [Outcome::Processed(cup), Outcome::Failed(bad)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(cup.result().expect("a text"), "CUP");
        assert_eq!(bad.error, "a hole in the cup");
    });
}
