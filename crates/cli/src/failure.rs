//! Why a command failed: one line on standard error and the exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use crate::visible::visible;

/// A failed command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request makes no sense: arguments, environment or configuration. Exit code 2.
    Usage(String),
    /// Somebody has interrupted it. Exit code 130, as shells have it; they know why.
    Interrupted,
    /// It made sense but did not work: store in use, port in use, no such user. Exit code 1.
    Runtime(String),
}

impl Failure {
    /// A runtime failure, from anything that describes what happened.
    pub(crate) fn runtime(error: impl fmt::Display) -> Self {
        Self::Runtime(error.to_string())
    }

    /// Prints the line and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, 2),
            Self::Runtime(text) => (text, 1),
            Self::Interrupted => return ExitCode::from(130),
        };
        // If standard error is closed, nobody is left to be told.
        let _ = writeln!(std::io::stderr().lock(), "wilco: {}", visible(&one_line(text)));
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(format!("{error:#}"))
    }
}

/// The text as one line, without line ends and indentation.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
