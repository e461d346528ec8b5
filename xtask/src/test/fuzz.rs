//! The part `fuzz`: each target in fuzz/ for a bounded time, where nightly Rust is installed.
//!
//! What the fuzzer finds beyond the seeds in fuzz/seeds goes to fuzz/corpus, which git ignores; a
//! failing input is left in fuzz/artifacts, and the output names it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use super::{Context, Needs, Part, Tally, print_output};
use crate::command;

const VERSION: &str = "0.13.2";
const SECONDS_PER_TARGET: u64 = 20;
const SET_UP_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs cargo-fuzz, which it builds into target/xtask if it has to.
pub(crate) struct Fuzz;

impl Part for Fuzz {
    fn name(&self) -> &'static str {
        "fuzz"
    }

    fn about(&self) -> &'static str {
        "each fuzz target for 20 seconds"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let directory = context.workspace.root().join("fuzz");
        let targets = targets(&directory)?;
        let mut tally = Tally::default();
        let tool = match cargo_fuzz(context) {
            Ok(tool) => tool,
            Err(reason) => {
                for target in targets {
                    tally.note_skipped(target, reason.clone());
                }
                return Ok(tally);
            }
        };
        let log = context.log("fuzz-build");
        let built = command::run(nightly(&tool, &directory).arg("build"), &log, SET_UP_LIMIT)?;
        if !built.succeeded() {
            print_output(&built.output, &log);
            tally.note_failed("cargo fuzz build", built.ending());
            return Ok(tally);
        }
        for target in targets {
            fuzz(context, &tool, &directory, &target, &mut tally)?;
        }
        Ok(tally)
    }
}

fn fuzz(
    context: &Context,
    tool: &Path,
    directory: &Path,
    target: &str,
    tally: &mut Tally,
) -> Result<()> {
    let corpus = directory.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let mut run = nightly(tool, directory);
    run.arg("run").arg(target).arg(corpus);
    let seeds = directory.join("seeds").join(target);
    if seeds.is_dir() {
        run.arg(seeds);
    }
    run.arg("--").arg(format!("-max_total_time={SECONDS_PER_TARGET}")).arg("-timeout=10");
    let log = context.log(&format!("fuzz-{target}"));
    let limit = Duration::from_secs(SECONDS_PER_TARGET * 3) + Duration::from_secs(60);
    let finished = command::run(&mut run, &log, limit)?;
    if finished.succeeded() {
        tally.note_passed();
    } else {
        print_output(&finished.output, &log);
        tally.note_failed(target, finished.ending());
    }
    Ok(())
}

/// cargo-fuzz under the nightly toolchain. Cargo tells its children which toolchain it uses, and
/// that would override the choice made here.
fn nightly(tool: &Path, directory: &Path) -> Command {
    let mut command = Command::new(tool);
    command.arg("fuzz").current_dir(directory).env("RUSTUP_TOOLCHAIN", "nightly");
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// The names of fuzz/targets/*.rs.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(directory.join("targets"))? {
        let path = entry?.path();
        if let (Some(name), Some("rs")) =
            (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|s| s.to_str()))
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// Finds or builds cargo-fuzz. The error is the reason why fuzzing is impossible here.
fn cargo_fuzz(context: &Context) -> Result<PathBuf, String> {
    let toolchains = Command::new("rustup").args(["toolchain", "list"]).output();
    let toolchains = toolchains.map_err(|_| "no rustup, so no nightly Rust".to_owned())?;
    if !String::from_utf8_lossy(&toolchains.stdout).lines().any(|l| l.starts_with("nightly")) {
        return Err("nightly Rust is not installed (rustup toolchain install nightly)".into());
    }
    let root = context.workspace.scratch().join("cargo-fuzz");
    let tool = root.join("bin/cargo-fuzz");
    if tool.exists() {
        return Ok(tool);
    }
    println!("fuzz: building cargo-fuzz {VERSION}");
    let mut install = command::cargo();
    install.args(["install", "cargo-fuzz", "--locked", "--version", VERSION, "--root"]).arg(&root);
    let finished = command::run(&mut install, &context.log("cargo-fuzz"), SET_UP_LIMIT)
        .map_err(|error| format!("{error:#}"))?;
    if finished.succeeded() {
        Ok(tool)
    } else {
        Err(format!("cargo-fuzz cannot be installed: {}", finished.last_line()))
    }
}
