//! The loads, and how they are run in turn.

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::load::{Load, Measured, Percentiles};
use super::peer::Peer;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) key: &'static str,
    pub(super) about: &'static str,
    /// Arguments of `wilco bench`. `{seconds}` is the duration of a run, `{backlog}` what the
    /// preceding publishing point left in the queue, `{tracked}` how outcomes come about on this
    /// broker.
    arguments: &'static str,
    pub(super) shows: Shows,
}

/// Which figures of a point are meaningful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// Cost and rate of messages through the broker.
    Throughput,
    /// The same and the rate of publishing, which should not be much more.
    WorkQueue,
    /// Cost and rate of publishing.
    Publishing,
    /// Times from publisher to consumer.
    Latency,
    /// Cost, rate and times from publishing to the outcome.
    RoundTrips,
    /// Memory of a connection.
    Memory,
}

const POINTS: [Point; 16] = [
    Point {
        key: "a",
        about: "transient 16 B, 1 publisher, 1 consumer, automatic ack, no confirms",
        arguments: "--queue bench.a --size 16 --time {seconds} --warm-up 1",
        shows: Shows::Throughput,
    },
    Point {
        key: "b",
        about: "persistent 1 KiB, durable queue, confirms (window 1000), ack each, prefetch 200",
        arguments: "--queue bench.b --size 1024 --persistent --durable --confirm 1000 --ack-every 1 \
                    --prefetch 200 --time {seconds} --warm-up 1",
        shows: Shows::Throughput,
    },
    Point {
        key: "c",
        about: "publish only, as b",
        arguments: "--queue bench.c --size 1024 --persistent --durable --confirm 1000 --consumers 0 \
                    --time {seconds} --count 2000000",
        shows: Shows::Publishing,
    },
    Point {
        key: "d",
        about: "drain that backlog, ack each, prefetch 200",
        arguments: "--queue bench.c --size 1024 --durable --publishers 0 --ack-every 1 \
                    --prefetch 200 --count {backlog}",
        shows: Shows::Throughput,
    },
    Point {
        key: "e1",
        about: "latency at 1,000/s, transient",
        arguments: "--queue bench.e1 --size 16 --rate 1000 --time {seconds} --warm-up 1",
        shows: Shows::Latency,
    },
    Point {
        key: "e2",
        about: "latency at 1,000/s, persistent with confirms",
        arguments: "--queue bench.e2 --size 16 --rate 1000 --persistent --durable --confirm 1000 \
                    --ack-every 1 --prefetch 200 --time {seconds} --warm-up 1",
        shows: Shows::Latency,
    },
    Point {
        key: "t1",
        about: "tracked window 1",
        arguments: "--{tracked} --queue bench.t1 --size 1024 --confirm 1 --time {seconds} --warm-up 1",
        shows: Shows::RoundTrips,
    },
    Point {
        key: "t1000",
        about: "tracked window 1000",
        arguments: "--{tracked} --queue bench.t1000 --size 1024 --confirm 1000 --time {seconds} \
                    --warm-up 1",
        shows: Shows::RoundTrips,
    },
    Point {
        key: "r1",
        about: "request and reply (the worker replies, and waits for the confirm) one at a time",
        arguments: "--tracked=reply --queue bench.r1 --size 1024 --confirm 1 --time {seconds} \
                    --warm-up 1",
        shows: Shows::RoundTrips,
    },
    Point {
        key: "r1000",
        about: "the same with a window of 1000",
        arguments: "--tracked=reply --queue bench.r1000 --size 1024 --confirm 1000 \
                    --time {seconds} --warm-up 1",
        shows: Shows::RoundTrips,
    },
    Point {
        key: "p1",
        about: "work queue: 1 publisher at full speed, 1 worker with prefetch 1, transient 128 B",
        arguments: "--queue bench.p1 --size 128 --prefetch 1 --ack-every 1 --time {seconds} \
                    --warm-up 1",
        shows: Shows::WorkQueue,
    },
    Point {
        key: "w100",
        about: "work queue: 1 publisher at full speed, 100 workers with prefetch 10, transient 128 B",
        arguments: "--queue bench.w100 --size 128 --consumers 100 --prefetch 10 --ack-every 1 \
                    --time {seconds} --warm-up 1",
        shows: Shows::WorkQueue,
    },
    Point {
        key: "m100",
        about: "100 publishers, 100 queues, 100 consumers, transient 128 B, automatic ack",
        arguments: "--queue bench.m100 --size 128 --publishers 100 --queues 100 --consumers 100 \
                    --time {seconds} --warm-up 1",
        shows: Shows::WorkQueue,
    },
    Point {
        key: "f10",
        about: "fan-out of 1 KiB to 10 queues, automatic ack",
        arguments: "--queue bench.f10 --size 1024 --exchange bench.f10 --exchange-type fanout \
                    --queues 10 --consumers 10 --time {seconds} --warm-up 1",
        shows: Shows::WorkQueue,
    },
    Point {
        key: "l64",
        about: "persistent bodies of 64 KiB, confirms (window 100), ack each, prefetch 20",
        arguments: "--queue bench.l64 --size 65536 --persistent --durable --confirm 100 \
                    --ack-every 1 --prefetch 20 --time {seconds} --warm-up 1",
        shows: Shows::WorkQueue,
    },
    Point {
        key: "idle",
        about: "memory of an idle connection (of 1,000, with a channel each)",
        arguments: "--idle-connections 1000 --time 3",
        shows: Shows::Memory,
    },
];

/// What was measured: `[peer][point][round]`.
pub(super) type Results = Vec<Vec<Vec<Measured>>>;

/// The points with these keys, in order; all of them if none is named.
pub(super) fn chosen(keys: &[String]) -> Result<Vec<Point>> {
    if let Some(unknown) = keys.iter().find(|key| !POINTS.iter().any(|point| point.key == **key)) {
        bail!("there is no point {unknown}");
    }
    let chosen = |key: &str| keys.is_empty() || keys.iter().any(|wanted| wanted == key);
    if chosen("d") && !chosen("c") {
        bail!("point d drains what point c left: choose both");
    }
    Ok(POINTS.into_iter().filter(|point| chosen(point.key)).collect())
}

/// Measures every point on every peer, `rounds` times.
pub(super) fn run(
    load: &Load,
    peers: &mut [Peer],
    points: &[Point],
    (rounds, seconds): (usize, u64),
    writes: &str,
) -> Result<Results> {
    let mut results: Results = vec![vec![Vec::new(); points.len()]; peers.len()];
    for round in 1..=rounds {
        let mut backlogs = vec![0; peers.len()];
        for (at, point) in points.iter().enumerate() {
            for (who, peer) in peers.iter_mut().enumerate() {
                if point.shows == Shows::Memory && peer.can_restart() {
                    // Memory that earlier loads have freed would hide what is allocated now.
                    peer.restart(Signal::TERM)?;
                }
                let arguments = point
                    .arguments
                    .replace("{seconds}", &seconds.to_string())
                    .replace("{backlog}", &backlogs[who].to_string())
                    .replace("{tracked}", peer.tracked());
                let measured = load.run(peer, &format!("{arguments} --writes {writes}"))?;
                if point.shows == Shows::Publishing {
                    backlogs[who] = measured.published;
                }
                println!(
                    "round {round} of {rounds}, {}, {}: {}",
                    point.key,
                    peer.name(),
                    brief(*point, &measured)
                );
                results[who][at].push(measured);
            }
        }
    }
    Ok(results)
}

fn brief(point: Point, measured: &Measured) -> String {
    let cost = measured.server.and_then(|server| server.cpu_seconds_per_million);
    let own = measured.generator.and_then(|own| own.cpu_seconds_per_million);
    match point.shows {
        Shows::Memory => {
            format!("{:.1} KiB", measured.bytes_per_connection.unwrap_or(0.0) / 1024.0)
        }
        Shows::Latency => match measured.latency_ms {
            Some(latency) => format!("p50 {:.3} ms, p99 {:.3} ms", latency.p50, latency.p99),
            None => "nothing arrived".into(),
        },
        Shows::RoundTrips => {
            let latency = |of: fn(Percentiles) -> f64| measured.latency_ms.map_or(f64::NAN, of);
            format!(
                "{:.0}/s, p50 {:.3} ms, p99 {:.3} ms, server {:.2} s per million, generator {:.2}",
                measured.round_trip_rate,
                latency(|times| times.p50),
                latency(|times| times.p99),
                cost.unwrap_or(f64::NAN),
                own.unwrap_or(f64::NAN)
            )
        }
        Shows::Throughput | Shows::WorkQueue | Shows::Publishing => format!(
            "published {:.0}/s, consumed {:.0}/s, server {:.2} s per million, generator {:.2}",
            measured.publish_rate,
            measured.consume_rate,
            cost.unwrap_or(f64::NAN),
            own.unwrap_or(f64::NAN)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_keep_their_order_and_drain_needs_a_backlog() {
        let keys = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).map(|points| points.iter().map(|point| point.key).collect::<Vec<_>>())
        };
        assert_eq!(keys(&["e1", "a"]).unwrap(), ["a", "e1"]);
        assert_eq!(keys(&[]).unwrap().len(), POINTS.len());
        assert!(keys(&["d"]).is_err());
        assert!(keys(&["x"]).is_err());
    }
}
