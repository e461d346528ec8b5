//! Which measurement the arguments ask for, and its report on standard output.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::{drive, library, standing, tracked};

/// Runs the load and prints the summary to standard output. Progress goes to standard error.
///
/// # Errors
///
/// Arguments that contradict each other; a broker that cannot be reached, refuses what the run
/// needs, or closes a connection; with `--tracked`, a message without exactly one outcome.
pub fn run(args: &BenchArgs) -> Result<()> {
    args.check()?;
    let json = args.json;
    if let Some(url) = &args.transport {
        return print(&library::drive(args, url)?, json);
    }
    if let Some(count) = args.idle_connections {
        let hold = Duration::from_secs_f64(args.time.unwrap_or(5.0));
        return print(&standing::idle(&args.uri, count, hold, args.server_pid)?, json);
    }
    if args.topology {
        return print(&standing::topology(&args.uri, &args.topology_plan(), args.keep)?, json);
    }
    if let Some(by) = args.tracked {
        let report = tracked::drive(args, by)?;
        print(&report, json)?;
        return report.check();
    }
    print(&drive::drive(args)?, json)
}

fn print(report: &(impl Serialize + Display), json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}
