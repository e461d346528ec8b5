//! A queue of millions: memory, speed beside an empty queue, and how long a restart takes.

use anyhow::Result;
use rustix::process::Signal;

use super::load::{Load, Measured};
use super::peer::Peer;

const MIB: f64 = (1 << 20) as f64;
/// Messages per speed measurement, at most a tenth of the backlog.
const SAMPLE: u64 = 500_000;

/// Measures wilco with `count` persistent messages of 100 bytes in one durable queue.
pub(super) fn run(load: &Load, peer: &mut Peer, count: u64) -> Result<()> {
    let sample = SAMPLE.min(count / 10).max(1);
    let before_publishing = publish(load, peer, "empty", sample)?;
    let before_consuming = consume(load, peer, "empty", sample)?;

    println!("filling the queue with {count} messages");
    let filled = publish(load, peer, "backlog", count)?;
    let publishing = publish(load, peer, "backlog", sample)?;
    let consuming = consume(load, peer, "backlog", sample)?;
    let stopped = peer.restart(Signal::TERM)?;
    let first = consume(load, peer, "backlog", 1)?;
    let killed = peer.restart(Signal::KILL)?;
    let rest = consume(load, peer, "backlog", count - 1)?;

    println!("\n| {count} messages of 100 bytes, persistent | |\n|---|---|");
    row("filled at", &rate(filled.publish_rate));
    row("memory when full", &memory(&filled));
    row("publishing, empty queue", &rate(before_publishing.publish_rate));
    let slower = publishing.publish_rate / before_publishing.publish_rate;
    row("publishing, long queue", &format!("{} ({slower:.2})", rate(publishing.publish_rate)));
    row("consuming, empty queue", &rate(before_consuming.consume_rate));
    let slower = consuming.consume_rate / before_consuming.consume_rate;
    row("consuming, long queue", &format!("{} ({slower:.2})", rate(consuming.consume_rate)));
    row("restart after SIGTERM", &format!("{:.2} s", stopped.as_secs_f64()));
    row("first message after that", &format!("{:.2} s", first.seconds));
    row("restart after SIGKILL", &format!("{:.2} s", killed.as_secs_f64()));
    row("the rest consumed at", &rate(rest.consume_rate));
    row("memory when empty again", &memory(&rest));
    Ok(())
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
