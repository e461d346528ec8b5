//! Runs `wilco bench` and reads what it found.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::peer::Peer;
use crate::command;

/// Long enough for ten million messages through a slow broker.
const LIMIT: Duration = Duration::from_secs(3600);

/// The load generator.
pub(super) struct Load {
    wilco: PathBuf,
    scratch: PathBuf,
}

/// The JSON output of `wilco bench`, whatever it was told to measure.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) publish_rate: f64,
    pub(super) consume_rate: f64,
    pub(super) round_trip_rate: f64,
    pub(super) latency_ms: Option<Percentiles>,
    pub(super) confirm_latency_ms: Option<Percentiles>,
    pub(super) server: Option<Cost>,
    pub(super) generator: Option<Cost>,
    pub(super) bytes_per_connection: Option<f64>,
    pub(super) declare_seconds: f64,
    pub(super) delete_seconds: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Cost {
    pub(super) cpu_seconds_per_million: Option<f64>,
    pub(super) rss_bytes: u64,
    pub(super) rss_peak_bytes: u64,
}

impl Load {
    pub(super) fn new(wilco: PathBuf, scratch: PathBuf) -> Self {
        Self { wilco, scratch }
    }

    /// Runs the generator with `arguments`, separated by blanks, against a broker.
    pub(super) fn run(&self, peer: &Peer, arguments: &str) -> Result<Measured> {
        let mut bench = Command::new(&self.wilco);
        bench.args(["bench", "--json", "--quiet", "--uri", peer.uri()]);
        if let Some(pid) = peer.pid() {
            bench.args(["--server-pid", &pid.to_string()]);
        }
        bench.args(arguments.split_whitespace());
        bench.env("RUST_BACKTRACE", "0");
        let finished = command::run(&mut bench, &self.scratch.join("load.log"), LIMIT)?;
        if !finished.succeeded() {
            bail!("wilco bench {arguments} on {}: {}", peer.name(), finished.output.trim());
        }
        serde_json::from_str(finished.last_line())
            .with_context(|| format!("wilco bench answers {}", finished.output))
    }
}
