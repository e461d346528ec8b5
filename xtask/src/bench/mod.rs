//! `cargo xtask bench`: wilco and another broker measured in turn, with wilco's own load generator.
//!
//! - `peer` starts and stops the brokers, each on a port and directory of its own;
//! - `load` runs `wilco bench` and reads its JSON;
//! - `points` are the loads, `table` shows their medians side by side;
//! - `backlog` and `topology` measure what shows only at scale;
//! - `clients` has other people's clients put the same load on wilco.
//!
//! The brokers take turns, point by point and round by round, so that whatever else the machine
//! does affects both. Nothing here passes or fails: figures depend on the machine.

mod backlog;
mod clients;
mod load;
mod peer;
mod points;
mod table;
mod topology;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::load::Load;
use self::peer::Peer;
use crate::command;
use crate::workspace::Workspace;

/// What to measure, and against what.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    common: Common,
    /// How often each point is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Seconds per point, broker and round
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    seconds: u64,
    /// Only these points, separated by commas: a,b,c,d,e1,e2,t1,t1000,r1,r1000,p1,w100,m100,f10,l64,idle
    /// (d needs c)
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    points: Vec<String>,
    /// How the generator writes, see `wilco bench --help`; with both, all points with one way and then
    /// with the other
    #[arg(long, value_parser = ["each", "gathered", "both"], default_value = "each")]
    writes: String,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A long queue: memory, speed compared with an empty queue, restart
    Backlog {
        /// Messages in the queue
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        count: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Many queues declared and bound
    Topology {
        /// Queues
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        count: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Points a to d through lapin and RabbitMQ's Go and Java clients, beside `wilco bench`
    Clients {
        /// How often each point is measured
        #[arg(long, value_name = "N", default_value_t = 3)]
        rounds: usize,
        /// Seconds per point, client and round
        #[arg(long, value_name = "SECONDS", default_value_t = 5)]
        seconds: u64,
        /// The wilco binary to measure; without it, target/release/wilco is built
        #[arg(long, value_name = "FILE")]
        wilco: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct Common {
    /// A running broker to compare with; without it Debian's rabbitmq-server is set up
    #[arg(long, value_name = "URI")]
    against: Option<String>,
    /// The process of that broker, for its processor time and memory
    #[arg(long, value_name = "PID", requires = "against")]
    against_pid: Option<u32>,
    /// Measure wilco alone
    #[arg(long, conflicts_with = "against")]
    alone: bool,
    /// The wilco binary to measure; without it, target/release/wilco is built
    #[arg(long, value_name = "FILE")]
    wilco: Option<PathBuf>,
}

/// Measures and prints. Always returns true: there is no wrong figure.
pub(crate) fn run(arguments: &BenchArgs) -> Result<bool> {
    let common = &arguments.common;
    let (common, wilco) = match &arguments.what {
        None => (common, &common.wilco),
        Some(What::Backlog { common, .. } | What::Topology { common, .. }) => {
            (common, &common.wilco)
        }
        Some(What::Clients { wilco, .. }) => (common, wilco),
    };
    let workspace = Workspace::load()?;
    let scratch = workspace.scratch().join("bench");
    let wilco = match wilco {
        Some(file) => file.clone(),
        None => build(&workspace)?,
    };
    let load = Load::new(wilco.clone(), scratch.clone());
    match &arguments.what {
        // Only a broker that was started here can be restarted.
        Some(What::Backlog { count, .. }) => {
            backlog::run(&load, &mut Peer::wilco(&wilco, &scratch)?, *count)?;
        }
        Some(What::Topology { count, .. }) => {
            topology::run(&load, &peers(common, &wilco, &scratch)?, *count)?;
        }
        Some(What::Clients { rounds, seconds, .. }) => {
            let mut peer = Peer::wilco(&wilco, &scratch)?;
            clients::run(&workspace, &load, &mut peer, *rounds, *seconds)?;
        }
        None => {
            let points = points::chosen(&arguments.points)?;
            let mut peers = peers(common, &wilco, &scratch)?;
            let extent = (arguments.rounds, arguments.seconds);
            let ways = match arguments.writes.as_str() {
                "both" => vec!["each", "gathered"],
                way => vec![way],
            };
            let mut tables = String::new();
            for writes in ways {
                let results = points::run(&load, &mut peers, &points, extent, writes)?;
                let names: Vec<_> = peers.iter().map(Peer::name).collect();
                let table = table::markdown(&names, &points, &results);
                tables += &format!("\n`--writes {writes}`:\n\n{table}");
            }
            print!("{tables}");
        }
    }
    Ok(true)
}

/// wilco, and the broker it is compared with, if any.
fn peers(common: &Common, wilco: &std::path::Path, scratch: &std::path::Path) -> Result<Vec<Peer>> {
    let mut peers = vec![Peer::wilco(wilco, scratch)?];
    if let Some(uri) = &common.against {
        peers.push(Peer::running(uri, common.against_pid));
    } else if !common.alone {
        let rabbitmq = Peer::rabbitmq(scratch);
        peers.push(rabbitmq.context("no RabbitMQ to compare with; --alone does without")?);
    }
    Ok(peers)
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = command::cargo();
    build.args(["build", "--release", "--package", "wilco-cli"]).current_dir(workspace.root());
    if !build.status()?.success() {
        bail!("wilco does not build");
    }
    Ok(workspace.target().join("release/wilco"))
}
