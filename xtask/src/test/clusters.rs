//! The part `clusters`: the tests that kill nodes, brokers and workers, for many rounds.
//!
//! Each is in the part `rust`, too, for one round. This part is run by name only.

use std::time::Duration;

use anyhow::Result;

use super::rust::count;
use super::{Context, Needs, Part, Tally, print_output, venv::Venv};
use crate::command;

const LIMIT: Duration = Duration::from_secs(90 * 60);
const ROUNDS: &str = "10";
/// Of the package end-to-end.
const TESTS: [&str; 3] = ["activemq", "kafka", "rabbitmq_cluster"];

/// See the module's documentation.
pub(crate) struct Clusters;

impl Part for Clusters {
    fn name(&self) -> &'static str {
        "clusters"
    }

    fn about(&self) -> &'static str {
        "clusters and brokers killed again and again, for the better part of an hour; by name only"
    }

    fn needs(&self) -> Needs {
        Needs::Workspace
    }

    fn is_by_name_only(&self) -> bool {
        true
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let mut cargo = command::cargo();
        cargo.args(["test", "--package", "end-to-end", "--no-fail-fast"]);
        for test in TESTS {
            cargo.args(["--test", test]);
        }
        // One after the other, with what they have to say.
        cargo.args(["--", "--test-threads", "1", "--nocapture"]);
        cargo.current_dir(context.workspace.root()).env("WILCO_TEST_ROUNDS", ROUNDS);
        context.name_broker(&mut cargo);
        if let Ok(venv) = context.venv.get_or_init(|| Venv::ready(context)) {
            cargo.env("WILCO_TEST_PYTHON", venv.python().get_program());
        }
        let log = context.log(self.name());
        let finished = command::run(&mut cargo, &log, LIMIT)?;
        let mut tally = count(&finished.output);
        print_output(&finished.output, &log);
        if !finished.succeeded() && tally.failed.is_empty() {
            tally.note_failed("cargo test", finished.ending());
        }
        Ok(tally)
    }
}
