//! Points a to d through other people's clients, beside `wilco bench`: so that it is known for which
//! of them its figures stand.
//!
//! The programs are in tests/load and tests/examples/load.rs: they take port, point and seconds, and
//! print what they published and consumed. RabbitMQ's Java client is where `cargo xtask test --only
//! java` has fetched it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::load::Load;
use super::peer::Peer;
use super::table;
use crate::command;
use crate::test::{go, java_jars};
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(600);
/// Clock ticks in a second, as /proc counts them (sysconf(3), `_SC_CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;
const GO_LOAD: &str = "tests/load/go";

/// What puts the load on.
enum Client {
    /// The generator, with this option.
    Bench(&'static str),
    Program(Command),
}

/// What a program says.
#[derive(Deserialize)]
struct Said {
    published: u64,
    consumed: u64,
    seconds: f64,
}

#[derive(Clone, Copy)]
struct Figures {
    cost: f64,
    published_rate: f64,
    consumed_rate: f64,
}

/// Arguments of the generator for each point, which are those of the programs.
const POINTS: [(&str, &str); 4] = [
    ("a", "--queue clients.a --size 16 --time {seconds}"),
    (
        "b",
        "--queue clients.b --size 1024 --persistent --durable --confirm 1000 --ack-every 1 \
         --prefetch 200 --time {seconds}",
    ),
    (
        "c",
        "--queue clients.c --size 1024 --persistent --durable --confirm 1000 --consumers 0 \
         --time {seconds}",
    ),
    (
        "d",
        "--queue clients.c --size 1024 --durable --publishers 0 --ack-every 1 --prefetch 200 \
         --count {backlog}",
    ),
];

/// Measures every client in turn, round by round, and prints medians.
pub(super) fn run(
    workspace: &Workspace,
    load: &Load,
    peer: &mut Peer,
    rounds: usize,
    seconds: u64,
) -> Result<()> {
    let mut clients = [
        ("wilco bench --writes each", Client::Bench("--writes each")),
        ("wilco bench --writes gathered", Client::Bench("--writes gathered")),
        ("lapin", Client::Program(lapin(workspace)?)),
        ("amqp091-go", Client::Program(go_client(workspace)?)),
        ("Java client", Client::Program(java_client(workspace)?)),
    ];
    let mut results: Vec<Vec<Vec<Figures>>> = vec![vec![Vec::new(); POINTS.len()]; clients.len()];
    for round in 1..=rounds {
        for (who, (name, client)) in clients.iter_mut().enumerate() {
            let mut backlog = 0;
            for (at, (key, arguments)) in POINTS.iter().enumerate() {
                let figures = match client {
                    Client::Bench(writes) => {
                        let arguments = arguments
                            .replace("{seconds}", &seconds.to_string())
                            .replace("{backlog}", &backlog.to_string());
                        let measured = load.run(peer, &format!("{writes} {arguments}"))?;
                        backlog = measured.published;
                        let cost = measured.server.and_then(|cost| cost.cpu_seconds_per_million);
                        Figures {
                            cost: cost.unwrap_or(f64::NAN),
                            published_rate: measured.publish_rate,
                            consumed_rate: measured.consume_rate,
                        }
                    }
                    Client::Program(program) => measure(program, peer, key, seconds, workspace)?,
                };
                let Figures { cost, published_rate, consumed_rate } = figures;
                println!(
                    "round {round} of {rounds}, {key}, {name}: published {published_rate:.0}/s, \
                     consumed {consumed_rate:.0}/s, server {cost:.2} s per million"
                );
                results[who][at].push(figures);
            }
        }
    }
    print!("\n| point: server CPU s per million; published, consumed k/s |");
    clients.iter().for_each(|(name, _)| print!(" {name} |"));
    print!("\n|---|{}\n", "---|".repeat(clients.len()));
    for (at, (key, _)) in POINTS.iter().enumerate() {
        print!("| {key} |");
        for of_client in &results {
            let median = |of: fn(&Figures) -> f64| {
                let mut values: Vec<f64> = of_client[at].iter().map(of).collect();
                table::median(&mut values).unwrap_or(f64::NAN)
            };
            let rates = (median(|f| f.published_rate) / 1e3, median(|f| f.consumed_rate) / 1e3);
            print!(" {:.2}; {:.1}, {:.1} |", median(|figures| figures.cost), rates.0, rates.1);
        }
        println!();
    }
    Ok(())
}

fn measure(
    program: &Command,
    peer: &Peer,
    key: &str,
    seconds: u64,
    workspace: &Workspace,
) -> Result<Figures> {
    let pid = peer.pid().context("only a broker started here can be measured")?;
    let port = peer.port().context("the URI has no port")?;
    let mut command = Command::new(program.get_program());
    command.args(program.get_args()).args([&port, key, &seconds.to_string()]);
    let before = processor_seconds(pid)?;
    let finished =
        command::run(&mut command, &workspace.scratch().join("bench/client.log"), LIMIT)?;
    ensure!(finished.succeeded(), "{key}: {}: {}", finished.ending(), finished.output.trim());
    let Said { published, consumed, seconds } = serde_json::from_str(finished.last_line())
        .with_context(|| format!("the program says {}", finished.output))?;
    let count = match (published, consumed) {
        (0, count) | (count, 0) => count as f64,
        (published, consumed) => (published + consumed) as f64 / 2.0,
    };
    Ok(Figures {
        cost: (processor_seconds(pid)? - before) / count * 1e6,
        published_rate: published as f64 / seconds,
        consumed_rate: consumed as f64 / seconds,
    })
}

/// User and system time of a process (proc(5), stat).
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split(' ').skip(12).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn lapin(workspace: &Workspace) -> Result<Command> {
    let mut build = command::cargo();
    build.args(["build", "--release", "--package", "end-to-end", "--example", "load"]);
    step(workspace, build.current_dir(workspace.root()))?;
    Ok(Command::new(workspace.target().join("release/examples/load")))
}

fn go_client(workspace: &Workspace) -> Result<Command> {
    let program = workspace.scratch().join("go/load");
    step(workspace, go(workspace, GO_LOAD).args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(Command::new(program))
}

fn java_client(workspace: &Workspace) -> Result<Command> {
    let jars = java_jars(workspace);
    ensure!(jars.is_dir(), "the Java client is missing: `cargo xtask test --only java` fetches it");
    let classes: PathBuf = workspace.scratch().join("java/load");
    let path = std::env::join_paths([classes.clone(), jars.join("*")])?;
    let mut javac = Command::new("javac");
    javac.arg("-d").arg(&classes).arg("-cp").arg(&path);
    step(workspace, javac.arg(workspace.root().join("tests/load/java/Load.java")))?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(path).arg("Load");
    Ok(java)
}

fn step(workspace: &Workspace, command: &mut Command) -> Result<()> {
    let log = workspace.scratch().join("bench/build.log");
    let finished = command::run(command, &log, LIMIT)?;
    let program = command.get_program().to_string_lossy().into_owned();
    ensure!(finished.succeeded(), "{program}: {}: {}", finished.ending(), finished.output.trim());
    Ok(())
}
