//! `wilco bench`: a load generator for any AMQP 0-9-1 broker.
//!
//! It opens connections, lets one thread each publish or consume, and watches counters and
//! histograms. It knows nothing of the broker behind the URI: wilco is measured like any other.
//!
//! - `client` is a small blocking client; `publisher` and `consumer` are the workers on it,
//!   `window` the publisher's unconfirmed messages;
//! - `setup` declares what a run needs, `drive` runs it and measures, `report` prints;
//! - `tracked` has workers and a drive of its own: of each message it wants to hear what became of it;
//! - `standing` measures without messages, `server_cost` reads what the broker uses from `/proc`.

mod args;
mod client;
mod consumer;
mod drive;
mod publisher;
mod report;
mod server_cost;
mod setup;
mod standing;
mod stats;
mod tracked;
mod uri;
mod window;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

pub(crate) use args::BenchArgs;

/// Runs the load and prints the summary to standard output.
pub(crate) fn run(args: BenchArgs) -> Result<()> {
    args.check()?;
    let json = args.json;
    if let Some(count) = args.idle_connections {
        let hold = Duration::from_secs_f64(args.time.unwrap_or(5.0));
        return print(&standing::idle(&args.uri, count, hold, args.server_pid)?, json);
    }
    if args.topology {
        return print(&standing::topology(&args.uri, &args.topology_plan(), args.keep)?, json);
    }
    if let Some(by) = args.tracked {
        let report = tracked::drive(&args, by)?;
        print(&report, json)?;
        return report.check();
    }
    print(&drive::drive(&args)?, json)
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
