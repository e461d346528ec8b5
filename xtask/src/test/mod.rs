//! `cargo xtask test`: sets up what the tests need, runs them all, adds up the results.
//!
//! Each part stands alone: one that fails or cannot be set up does not keep the others from
//! running. At the end it prints how long each took; the last line is
//! `N passed, N failed, N skipped`, the sum over all parts.

mod broker;
mod clusters;
mod deny;
mod fuzz;
mod package;
mod python;
mod rules;
mod rust;
mod tables;
mod tally;
mod times;
mod venv;

pub(crate) use tables::{go, jars as java_jars};

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::tally::{Note, Tally};
use self::times::Times;
use self::venv::Venv;
use crate::{
    command,
    servers::{self, ServersArgs},
    workspace::Workspace,
};

/// The arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// Runs only this part; may be given more than once. `--list` names them.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Prints the parts and what each runs.
    #[arg(long)]
    list: bool,
    /// Tests the broker at this URL instead of starting wilco.
    #[arg(long, value_name = "AMQP_URL", env = "WILCO_TEST_AMQP")]
    against: Option<String>,
}

/// A group of tests that are run in one way.
pub(crate) trait Part: Sync {
    /// One word, for `--only` and for the report.
    fn name(&self) -> &'static str;
    /// One line for `--list`.
    fn about(&self) -> &'static str;
    /// What must be built first.
    fn needs(&self) -> Needs;
    /// Whether it is run only if it is named.
    fn is_by_name_only(&self) -> bool {
        false
    }
    /// Whether its tests mostly wait, so that it may run alongside others of that kind.
    fn mostly_waits(&self) -> bool {
        false
    }
    /// Runs the tests. An error is a failure of the part itself, counted as one failed test.
    fn run(&self, context: &Context) -> Result<Tally>;
}

/// What a part needs built before it runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// The binary `wilco`.
    Binary,
    /// All crates with their tests, and the binary.
    Workspace,
}

/// What every part is given.
pub(crate) struct Context {
    /// The workspace under test.
    pub(crate) workspace: Workspace,
    /// The Python environment, created by the first part that asks for it.
    pub(crate) venv: OnceLock<Result<Venv, String>>,
    binary: Option<PathBuf>,
    against: Option<String>,
}

impl Context {
    /// Tells a test program which broker to use, the same way for all of them.
    pub(crate) fn name_broker(&self, command: &mut Command) {
        if let Some(binary) = &self.binary {
            command.env("WILCO_BIN", binary);
        }
        if let Some(url) = &self.against {
            command.env("WILCO_TEST_AMQP", url);
        }
    }

    /// Where a part writes the output of what it ran.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.workspace.scratch().join("log").join(format!("{name}.log"))
    }
}

fn parts() -> Vec<Box<dyn Part>> {
    let mut parts: Vec<Box<dyn Part>> =
        vec![Box::new(rules::Tidy), Box::new(deny::Deny), Box::new(package::Packages)];
    parts.push(Box::new(rust::Rust));
    parts.push(Box::new(clusters::Clusters));
    parts.extend(python::suites().into_iter().map(|suite| Box::new(suite) as Box<dyn Part>));
    parts.push(Box::new(fuzz::Fuzz));
    // Not next to the suites: those who mostly wait would run alongside, and a first build does not.
    parts.extend(tables::tables().into_iter().map(|table| Box::new(table) as Box<dyn Part>));
    parts
}

/// Runs the chosen parts; returns whether nothing failed.
pub(crate) fn run(arguments: &TestArgs) -> Result<bool> {
    let mut parts = parts();
    if arguments.list {
        for part in &parts {
            println!("{:10} {}", part.name(), part.about());
        }
        return Ok(true);
    }
    for only in &arguments.only {
        ensure!(parts.iter().any(|part| part.name() == only), "no part `{only}`; see --list");
    }
    parts.retain(|part| {
        let is_named = arguments.only.iter().any(|only| only == part.name());
        is_named || (arguments.only.is_empty() && !part.is_by_name_only())
    });

    let mut context = Context {
        workspace: Workspace::load()?,
        venv: OnceLock::new(),
        binary: None,
        against: arguments.against.clone(),
    };
    let mut total = Tally::default();
    let mut times = Times::begin();
    let needs = parts.iter().map(|part| part.needs()).max().unwrap_or(Needs::Nothing);
    let start = Instant::now();
    let built = match build(&mut context, needs) {
        Ok(()) => true,
        Err(error) => {
            total.note_failed("build", format!("{error:#}"));
            false
        }
    };
    times.note("build", start.elapsed());
    // Tests that need one that cannot be had are skipped, and say so.
    if built && needs == Needs::Workspace {
        let start = Instant::now();
        if let Err(error) = servers::run(&ServersArgs::default()) {
            total.note_failed("servers", format!("{error:#}"));
        }
        times.note("servers", start.elapsed());
    }
    if !built {
        parts.retain(|part| part.needs() == Needs::Nothing);
        println!("the build failed: only what needs none is run");
    }
    run_parts(&parts, &context, &mut total, &mut times);
    for note in &total.skipped {
        println!("skipped: {note}");
    }
    for note in &total.failed {
        println!("failed: {note}");
    }
    print!("{times}");
    println!("{total}");
    Ok(total.failed.is_empty())
}

/// Runs all parts; those that mostly wait, side by side.
fn run_parts(parts: &[Box<dyn Part>], context: &Context, total: &mut Tally, times: &mut Times) {
    for group in parts.chunk_by(|a, b| a.mostly_waits() && b.mostly_waits()) {
        std::thread::scope(|scope| {
            let run = |part| scope.spawn(move || run_part(part, context));
            let running: Vec<_> = group.iter().map(|part| (part.name(), run(&**part))).collect();
            for (name, part) in running {
                let panicked = |_| (Tally::fail("xtask", "panicked"), Duration::ZERO);
                let (tally, took) = part.join().unwrap_or_else(panicked);
                total.add(tally);
                times.note(name, took);
            }
        });
    }
}

fn run_part(part: &dyn Part, context: &Context) -> (Tally, Duration) {
    let name = part.name();
    println!("{name}: {}", part.about());
    let start = Instant::now();
    let mut tally =
        part.run(context).unwrap_or_else(|error| Tally::fail(name, format!("{error:#}")));
    for note in tally.failed.iter_mut().chain(&mut tally.skipped) {
        if note.name != name {
            note.name = format!("{name}: {}", note.name);
        }
    }
    let took = start.elapsed();
    // Not in the form of the closing line, which is reserved for the sum.
    println!(
        "{name}: passed {}, failed {}, skipped {} in {:.1} s",
        tally.passed_count,
        tally.failed.len(),
        tally.skipped.len(),
        took.as_secs_f32()
    );
    (tally, took)
}

/// Builds once for all parts: with all targets, cargo chooses the same features as `cargo test`, so
/// nothing is built twice.
fn build(context: &mut Context, needs: Needs) -> Result<()> {
    let given = std::env::var_os("WILCO_BIN").map(PathBuf::from);
    let binary = given.is_none() && context.against.is_none();
    let mut cargo = command::cargo();
    match needs {
        Needs::Workspace => cargo.args(["build", "--workspace", "--all-targets"]),
        Needs::Binary if binary => cargo.args(["build", "--package", "wilco-cli"]),
        Needs::Binary | Needs::Nothing => {
            context.binary = given;
            return Ok(());
        }
    };
    let status = cargo.current_dir(context.workspace.root()).status().context("cargo")?;
    ensure!(status.success(), "cargo build failed");
    context.binary = Some(given.unwrap_or_else(|| context.workspace.target().join("debug/wilco")));
    Ok(())
}

/// Prints what a failing program wrote, shortened so that the end stays visible.
pub(crate) fn print_output(output: &str, log: &Path) {
    const SHOWN_BYTES: usize = 200_000;
    let mut start = output.len().saturating_sub(SHOWN_BYTES);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    if start > 0 {
        println!("[the first {start} bytes are only in {}]", log.display());
    }
    println!("{}", output[start..].trim_end());
}

/// Removes a directory and all in it, if it is there.
fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}
