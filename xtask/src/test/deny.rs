//! The part `deny`: checks the dependencies against deny.toml, where cargo-deny is installed.
//!
//! cargo-deny is not built here, unlike cargo-fuzz: that takes minutes, and its findings change
//! with Cargo.lock and with new advisories, not with every change.

use std::time::Duration;

use anyhow::Result;

use super::{Context, Needs, Part, Tally, print_output};
use crate::command::{self, Finished};

/// The checks of cargo-deny; each counts as one test.
const CHECKS: [&str; 4] = ["advisories", "bans", "licenses", "sources"];
const LIMIT: Duration = Duration::from_secs(5 * 60);
const NOT_INSTALLED: &str = "cargo-deny is not installed (cargo install cargo-deny --locked)";

/// Runs cargo-deny.
pub(crate) struct Deny;

impl Part for Deny {
    fn name(&self) -> &'static str {
        "deny"
    }

    fn about(&self) -> &'static str {
        "licences, advisories and sources of what is built on, by cargo-deny"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let mut tally = Tally::default();
        if !run(context, "version", &["--version"])?.succeeded() {
            for check in CHECKS {
                tally.note_skipped(check, NOT_INSTALLED);
            }
            return Ok(tally);
        }
        for check in CHECKS {
            let finished = run(context, check, &["--workspace", "check", check])?;
            if finished.succeeded() {
                tally.note_passed();
            } else if has_no_advisories(&finished.output) {
                tally.note_skipped(check, "the advisories cannot be fetched from here");
            } else {
                print_output(&finished.output, &context.log(&log_name(check)));
                tally.note_failed(check, finished.ending());
            }
        }
        Ok(tally)
    }
}

fn run(context: &Context, name: &str, arguments: &[&str]) -> Result<Finished> {
    let mut deny = command::cargo();
    deny.arg("deny").args(arguments).current_dir(context.workspace.root());
    command::run(&mut deny, &context.log(&log_name(name)), LIMIT)
}

fn log_name(check: &str) -> String {
    format!("deny-{check}")
}

/// Whether the list of advisories could not be fetched: that says nothing about the crates.
fn has_no_advisories(output: &str) -> bool {
    output.contains("failed to fetch advisory database")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fetched_is_not_what_is_found() {
        assert!(has_no_advisories("[ERROR] failed to fetch advisory database https://x.example\n"));
        assert!(!has_no_advisories("error[vulnerability]: Double free\n"));
    }
}
