//! Why a command failed: one line on standard error and the exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for makes no sense: arguments, environment or configuration. Exit code 2.
    Usage(String),
    /// It made sense and did not work: store in use, port busy, no such user. Exit code 1.
    Runtime(String),
}

impl Failure {
    /// A run-time failure from whatever says what happened.
    pub(crate) fn runtime(error: impl fmt::Display) -> Self {
        Self::Runtime(error.to_string())
    }

    /// Prints the line and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, 2),
            Self::Runtime(text) => (text, 1),
        };
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "wilco: {}", one_line(text));
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(format!("{error:#}"))
    }
}

/// Text as one line, its lines' ends and indentation gone.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
