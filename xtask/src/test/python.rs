//! The parts in Python: wilco's own tests, and two client libraries' own test suites.
//!
//! All run under pytest with tests/python/plugin/wilco_pytest.py, which starts the broker, skips
//! what excluded.toml lists, and reports each test as a line of JSON.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    Context, Needs, Part, Tally, print_output,
    venv::{Venv, python_tests},
};
use crate::command;

const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Time for one test; one that hangs fails by name.
const TEST_LIMIT_SECONDS: &str = "90";

/// One pytest run.
pub(crate) struct Suite {
    name: &'static str,
    about: &'static str,
    /// The PyPI source package the tests come from; `None` for wilco's own.
    package: Option<&'static str>,
    arguments: &'static [&'static str],
}

/// All suites, in the order in which they run.
pub(crate) fn suites() -> Vec<Suite> {
    vec![
        Suite {
            name: "article",
            about: "the article's programs in pika and AMQPStorm",
            package: None,
            arguments: &["test_article.py"],
        },
        Suite {
            name: "python",
            about: "what users of pika, kombu and Celery do; durability",
            package: None,
            arguments: &[".", "--ignore=test_article.py"],
        },
        Suite {
            name: "amqpstorm",
            about: "AMQPStorm's functional suite, unmodified",
            package: Some("amqpstorm"),
            arguments: &["amqpstorm/tests/functional"],
        },
        Suite {
            name: "py-amqp",
            about: "py-amqp's integration suite, unmodified",
            package: Some("amqp"),
            arguments: &["t/integration"],
        },
    ]
}

impl Part for Suite {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn needs(&self) -> Needs {
        Needs::Binary
    }

    fn mostly_waits(&self) -> bool {
        true
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        match context.venv.get_or_init(|| Venv::ready(context)) {
            Ok(venv) => {
                let directory = match self.package {
                    Some(package) => venv.source(context, package)?,
                    None => python_tests(context),
                };
                self.run_in(context, venv, &directory)
            }
            Err(reason) => Ok(Tally::skip(self.name, reason)),
        }
    }
}

impl Suite {
    fn run_in(&self, context: &Context, venv: &Venv, directory: &Path) -> Result<Tally> {
        let own = python_tests(context);
        let path = std::env::join_paths([own.join("redirect"), own.join("plugin")])?;
        let report = context.workspace.scratch().join(format!("{}.jsonl", self.name));
        if report.exists() {
            fs::remove_file(&report)?;
        }
        let mut pytest = venv.python();
        pytest
            .args(["-m", "pytest", "-p", "wilco_pytest", "-p", "no:cacheprovider"])
            .args(["--timeout", TEST_LIMIT_SECONDS, "--tb=short", "-ra", "-v"])
            .args(self.arguments)
            .current_dir(directory)
            .env("PYTHONPATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WILCO_TEST_REPORT", &report);
        if self.package.is_some() {
            pytest.env("WILCO_TEST_SUITE", self.name);
        }
        context.name_broker(&mut pytest);
        let log = context.log(self.name);
        let finished = command::run(&mut pytest, &log, LIMIT)?;
        let lines = fs::read_to_string(&report).unwrap_or_default();
        let mut tally = count(&lines)?;
        if !finished.succeeded() {
            print_output(&finished.output, &log);
            if tally.failed.is_empty() {
                tally.note_failed("pytest", finished.ending());
            }
        }
        Ok(tally)
    }
}

#[derive(Deserialize)]
struct Line {
    name: String,
    verdict: Verdict,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

fn count(lines: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    for line in lines.lines() {
        let Line { name, verdict, reason } =
            serde_json::from_str(line).with_context(|| format!("not a report line: {line}"))?;
        match verdict {
            Verdict::Passed => tally.note_passed(),
            Verdict::Failed => tally.note_failed(name, reason),
            Verdict::Skipped => tally.note_skipped(name, reason),
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_lines_become_counts_and_names() {
        let tally = count(
            "{\"name\":\"t::a\",\"verdict\":\"passed\",\"reason\":\"\"}\n\
             {\"name\":\"t::b\",\"verdict\":\"skipped\",\"reason\":\"TLS\"}\n\
             {\"name\":\"t::c\",\"verdict\":\"failed\",\"reason\":\"in call\"}\n",
        )
        .unwrap();
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(tally.skipped[0].to_string(), "t::b: TLS");
    }

    #[test]
    fn torn_report_is_an_error() {
        assert!(count("{\"name\":\"t::a\",").is_err());
    }
}
