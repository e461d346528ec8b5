//! The part `rust`: `cargo test --workspace`, counted from what libtest prints.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Context, Needs, Note, Part, Tally, print_output, venv::Venv};
use crate::command;

const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Unit, property, simulator, documentation and end-to-end tests of all crates.
pub(crate) struct Rust;

impl Part for Rust {
    fn name(&self) -> &'static str {
        "rust"
    }

    fn about(&self) -> &'static str {
        "cargo test --workspace, documentation tests included"
    }

    fn needs(&self) -> Needs {
        Needs::Workspace
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let mut cargo = command::cargo();
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        run(self.name(), &mut cargo, context, LIMIT)
    }
}

/// Runs `cargo test` with what the tests ask for, and counts.
pub(super) fn run(
    part: &str,
    cargo: &mut Command,
    context: &Context,
    limit: Duration,
) -> Result<Tally> {
    cargo.current_dir(context.workspace.root());
    context.name_broker(cargo);
    // For the tests that start a client in Python; without it they are skipped, and say so.
    if let Ok(venv) = context.venv.get_or_init(|| Venv::ready(context)) {
        cargo.env("WILCO_TEST_PYTHON", venv.python().get_program());
    }
    let log = context.log(part);
    let finished = command::run(cargo, &log, limit)?;
    let mut tally = count(&finished.output);
    if !finished.succeeded() {
        print_output(&finished.output, &log);
        if tally.failed.is_empty() {
            // A test program that crashed, or code that did not build, has no result line.
            tally.note_failed("cargo test", finished.ending());
        }
    }
    Ok(tally)
}

/// Adds up the `test result:` lines; the lines of single tests only supply names.
fn count(output: &str) -> Tally {
    let mut tally = Tally::default();
    let mut names = Tally::default();
    for line in output.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            let counts = Counts::parse(result);
            tally.passed_count += counts.passed;
            take(&mut names.failed, counts.failed, &mut tally.failed);
            take(&mut names.skipped, counts.ignored, &mut tally.skipped);
            names = Tally::default();
        } else if let Some(skipped) = line.strip_prefix("skipped: ") {
            // A test that cannot run here says so; libtest counts it as passed.
            if let Some((name, reason)) = skipped.split_once(": ") {
                tally.passed_count = tally.passed_count.saturating_sub(1);
                tally.note_skipped(name, reason);
            }
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" ... FAILED") {
                names.note_failed(name, "");
            } else if let Some((name, reason)) = test.split_once(" ... ignored") {
                names.note_skipped(name, reason.trim_start_matches([',', ' ']));
            }
        }
    }
    tally
}

/// Moves `count` notes over; if a test's output hid its name, a nameless note takes its place.
fn take(names: &mut Vec<Note>, count: u64, into: &mut Vec<Note>) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    names.resize_with(count, || Note { name: "a test".into(), reason: "see the output".into() });
    into.append(names);
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
    fn parse(result: &str) -> Self {
        let mut counts = Self::default();
        let fields = result.split_once(". ").map_or("", |(_, fields)| fields);
        for field in fields.split("; ") {
            let Some((number, what)) = field.split_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            match what {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.ignored = number,
                _ => {}
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_failures_named() {
        let tally = count(
            "running 4 tests\n\
             test a::passes ... ok\n\
             test a::fails ... FAILED\n\
             test a::slow ... ignored, takes an hour\n\
             test a::other ... ignored\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out\n\
             \n   Doc-tests amqp\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 0.01s\n",
        );
        assert_eq!(tally.to_string(), "6 passed, 1 failed, 2 skipped");
        assert_eq!(tally.failed[0].to_string(), "a::fails");
        assert_eq!(tally.skipped[0].to_string(), "a::slow: takes an hour");
        assert_eq!(tally.skipped[1].to_string(), "a::other");
    }

    #[test]
    fn counts_hold_even_where_output_hides_a_name() {
        let tally = count(
            "test a::fails ... noise\nFAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn test_that_says_it_did_not_run_is_skipped_not_passed() {
        let tally = count(
            "skipped: crash::kill_9: needs its own broker\n\
             test crash::kill_9 ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        // The result line may come before or after the test's own message.
        assert_eq!(tally.skipped[0].to_string(), "crash::kill_9: needs its own broker");
    }
}
