//! Why a command failed: one line on standard error and the exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;

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

/// Help and version go to standard output; any other parse error is one line instead of clap's
/// paragraph.
pub(crate) fn report_arguments(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::output::text(&error.render().to_string())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage("a subcommand is missing; try --help".to_owned()))
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            // The first paragraph says what is wrong; usage and a hint at --help follow.
            let wrong = text.split("\n\n").next().unwrap_or(text);
            Err(Failure::Usage(format!("{}; try --help", one_line(wrong))))
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
