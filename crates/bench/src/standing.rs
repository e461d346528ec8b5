//! Measurements without messages: idle connections, and a large topology.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::client::Connection;
use super::server_cost::Cost;
use super::setup::Topology;
use super::uri::Uri;

/// What idle connections cost the broker.
#[derive(Debug, Serialize)]
pub(super) struct IdleReport {
    pub(super) uri: String,
    pub(super) connections: usize,
    /// How long opening them took, one after the other.
    pub(super) open_seconds: f64,
    pub(super) rss_before_bytes: Option<u64>,
    pub(super) rss_after_bytes: Option<u64>,
    pub(super) bytes_per_connection: Option<f64>,
    /// Processor time of the broker while they were held.
    pub(super) held_cpu_seconds: Option<f64>,
}

/// Opens connections with one channel each and holds them.
pub(super) fn idle(
    uri: &Uri,
    count: usize,
    hold: Duration,
    server_pid: Option<u32>,
) -> Result<IdleReport> {
    raise_file_limit();
    let cost = || server_pid.and_then(Cost::read);
    // The first connection makes the broker set up what it needs only once.
    let first = Connection::open(uri, "wilco bench first")?;
    std::thread::sleep(Duration::from_secs(1));
    let before = cost();
    let started = Instant::now();
    let connections = (0..count)
        .map(|index| Connection::open(uri, &format!("wilco bench idle {index}")))
        .collect::<Result<Vec<_>>>()?;
    let open_seconds = started.elapsed().as_secs_f64();
    let opened = cost();
    std::thread::sleep(hold);
    let after = cost();
    for connection in connections {
        connection.close()?;
    }
    first.close()?;
    let grown = before.zip(after).map(|(before, after)| {
        (after.rss_bytes.saturating_sub(before.rss_bytes)) as f64 / count.max(1) as f64
    });
    Ok(IdleReport {
        uri: uri.to_string(),
        connections: count,
        open_seconds,
        rss_before_bytes: before.map(|cost| cost.rss_bytes),
        rss_after_bytes: after.map(|cost| cost.rss_bytes),
        bytes_per_connection: grown,
        held_cpu_seconds: opened.zip(after).map(|(from, to)| to.cpu_seconds - from.cpu_seconds),
    })
}

impl std::fmt::Display for IdleReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} connections in {:.2} s", self.uri, self.connections, self.open_seconds)?;
        if let Some(bytes) = self.bytes_per_connection {
            write!(f, ", {:.1} KiB of server memory each", bytes / 1024.0)?;
        }
        Ok(())
    }
}

/// How long declaring many queues takes.
#[derive(Debug, Serialize)]
pub(super) struct TopologyReport {
    pub(super) uri: String,
    pub(super) queues: usize,
    pub(super) declare_seconds: f64,
    pub(super) delete_seconds: f64,
}

/// Declares and binds the queues one after the other, as a client does, and deletes them unless
/// told to keep them.
pub(super) fn topology(uri: &Uri, topology: &Topology, keep: bool) -> Result<TopologyReport> {
    let mut connection = Connection::open(uri, "wilco bench topology")?;
    let started = Instant::now();
    topology.declare(&mut connection)?;
    let declare_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    if !keep {
        topology.delete(&mut connection)?;
    }
    let delete_seconds = started.elapsed().as_secs_f64();
    connection.close()?;
    let queues = topology.queues.len();
    Ok(TopologyReport { uri: uri.to_string(), queues, declare_seconds, delete_seconds })
}

impl std::fmt::Display for TopologyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} queues declared in {:.2} s, deleted in {:.2} s",
            self.uri, self.queues, self.declare_seconds, self.delete_seconds
        )
    }
}

/// Raises the limit of open files as far as allowed.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that is refused, opening connections will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}
