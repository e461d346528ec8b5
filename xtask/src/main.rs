//! Project tasks, run as `cargo xtask <task>`.
//!
//! - `test`: every test of the project, with all the setup they need.
//! - `bench`: wilco and another broker measured in turn.
//! - `servers`: real servers, prepared for the tests that need them.
//! - `tidy`: the house rules that no compiler checks.
//!
//! Touches nothing outside the workspace's target directory, except that it installs packages of
//! Debian for the servers, and reports what it cannot set up by name instead of failing.

#![allow(clippy::print_stdout, reason = "reporting to a terminal is what this program does")]

mod apt;
mod bench;
mod command;
mod servers;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks of wilco")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test; the last line is `N passed, N failed, N skipped`.
    Test(test::TestArgs),
    /// Measures wilco and another broker in turn and prints the ratios.
    Bench(bench::BenchArgs),
    /// Prepares real servers for the tests and prints where the script is that starts each.
    Servers(servers::ServersArgs),
    /// Checks the house rules: dependency arrows, circles, file lengths, module docs, names.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Servers(arguments) => servers::run(&arguments),
        Task::Tidy => tidy::run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
