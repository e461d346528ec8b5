//! The part `clusters`: the tests that kill nodes, brokers and workers, for many rounds.
//!
//! Each is in the part `rust`, too, for one round. This part is run by name only.

use std::time::Duration;

use anyhow::Result;

use super::{Context, Needs, Part, Tally, rust};
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
        // One after the other, with what they have to say in the log.
        cargo.args(["--", "--test-threads", "1", "--nocapture"]).env("WILCO_TEST_ROUNDS", ROUNDS);
        rust::run(self.name(), &mut cargo, context, LIMIT)
    }
}
