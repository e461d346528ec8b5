//! A queue of millions: memory, speed compared with an empty queue, and how long a restart takes.

use anyhow::Result;
use rustix::process::Signal;

use super::load::{Load, Measured};
use super::peer::Peer;

const MIB: f64 = (1 << 20) as f64;
/// Messages per speed measurement, at most a tenth of the backlog.
const SAMPLE: u64 = 1_000_000;
/// Speed measurements of each kind; their median counts.
const ROUNDS: usize = 3;

/// Measures wilco with `count` persistent messages of 100 bytes in one durable queue.
pub(super) fn run(load: &Load, peer: &mut Peer, count: u64) -> Result<()> {
    let sample = SAMPLE.min(count / 10).max(1);
    let empty = speed(load, peer, "empty", sample)?;

    println!("filling the queue with {count} messages");
    let filled = publish(load, peer, "backlog", count)?;
    let long = speed(load, peer, "backlog", sample)?;
    let stopped = peer.restart(Signal::TERM)?;
    let first = consume(load, peer, "backlog", 1)?;
    let killed = peer.restart(Signal::KILL)?;
    let rest = consume(load, peer, "backlog", count - 1)?;

    println!("\n| {count} messages of 100 bytes, persistent | |\n|---|---|");
    row("filled at", &rate(filled.publish_rate));
    row("memory when full", &memory(&filled));
    for (what, empty, long) in
        [("publishing", empty.publish, long.publish), ("consuming", empty.consume, long.consume)]
    {
        row(&format!("{what}, empty queue"), &rate(empty));
        row(&format!("{what}, long queue"), &format!("{} ({:.2})", rate(long), long / empty));
    }
    row("restart after SIGTERM", &format!("{:.2} s", stopped.as_secs_f64()));
    row("first message after that", &format!("{:.2} s", first.seconds));
    row("restart after SIGKILL", &format!("{:.2} s", killed.as_secs_f64()));
    row("the rest consumed at", &rate(rest.consume_rate));
    row("memory when empty again", &memory(&rest));
    Ok(())
}

/// Messages per second.
struct Speed {
    publish: f64,
    consume: f64,
}

/// Publishes and then consumes `count` messages, several times.
fn speed(load: &Load, peer: &Peer, queue: &str, count: u64) -> Result<Speed> {
    let (mut published, mut consumed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        published.push(publish(load, peer, queue, count)?.publish_rate);
        consumed.push(consume(load, peer, queue, count)?.consume_rate);
    }
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    Ok(Speed { publish: median(published), consume: median(consumed) })
}

fn publish(load: &Load, peer: &Peer, queue: &str, count: u64) -> Result<Measured> {
    let arguments = "--size 100 --persistent --durable --confirm 10000 --consumers 0";
    load.run(peer, &format!("--queue {queue} --count {count} {arguments}"))
}

fn consume(load: &Load, peer: &Peer, queue: &str, count: u64) -> Result<Measured> {
    let arguments = "--size 100 --durable --publishers 0 --ack-every 1 --prefetch 1000 --keep";
    load.run(peer, &format!("--queue {queue} --count {count} {arguments}"))
}

fn row(name: &str, value: &str) {
    println!("| {name} | {value} |");
}

fn rate(per_second: f64) -> String {
    format!("{:.1} k/s", per_second / 1e3)
}

fn memory(measured: &Measured) -> String {
    match measured.server {
        Some(server) => format!(
            "{:.0} MiB (at most {:.0})",
            server.rss_bytes as f64 / MIB,
            server.rss_peak_bytes as f64 / MIB
        ),
        None => "unknown".into(),
    }
}
