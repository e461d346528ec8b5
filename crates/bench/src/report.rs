//! What a run found, as text or JSON, and the progress line.

use std::fmt::{self, Write};

use serde::Serialize;

use super::server_cost::PhaseCost;
use super::stats::{Counts, Latencies};

/// The result of a run. Its JSON form is what `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) uri: String,
    /// Length of the measured phase.
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) publish_rate: f64,
    pub(super) confirm_rate: f64,
    pub(super) consume_rate: f64,
    pub(super) latency_ms: Option<Percentiles>,
    pub(super) confirm_latency_ms: Option<Percentiles>,
    /// The broker's cost, if `--server-pid` was given.
    pub(super) server: Option<PhaseCost>,
    /// The load generator's own cost.
    pub(super) generator: PhaseCost,
}

/// A distribution of times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Percentiles {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p75: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Percentiles {
    /// `None` if nothing was recorded.
    pub(super) fn of(latencies: &Latencies) -> Option<Self> {
        let histogram = &latencies.0;
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            min: histogram.min() as f64 / 1e6,
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {:.3}  p50 {:.3}  p75 {:.3}  p95 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
            self.min, self.p50, self.p75, self.p95, self.p99, self.p999, self.max
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{}, {:.2} s", self.uri, self.seconds)?;
        for (name, count, rate) in [
            ("published", counts.published, self.publish_rate),
            ("confirmed", counts.confirmed, self.confirm_rate),
            ("consumed", counts.consumed, self.consume_rate),
        ] {
            if count > 0 {
                writeln!(f, "{name:<16}{count:>12}   {}", rate_text(rate))?;
            }
        }
        for (name, count) in [
            ("refused (nack)", counts.nacked),
            ("returned", counts.returned),
            ("times blocked", counts.blocked),
        ] {
            if count > 0 {
                writeln!(f, "{name:<16}{count:>12}")?;
            }
        }
        let latencies = [&self.latency_ms, &self.confirm_latency_ms];
        write_measured(f, latencies, self.server.as_ref(), &self.generator)
    }
}

/// The last lines of a report: latencies of messages and confirms, and what the run cost.
pub(super) fn write_measured(
    f: &mut fmt::Formatter<'_>,
    [latency, confirm_latency]: [&Option<Percentiles>; 2],
    server: Option<&PhaseCost>,
    generator: &PhaseCost,
) -> fmt::Result {
    if let Some(latency) = latency {
        writeln!(f, "latency         {latency}")?;
    }
    if let Some(latency) = confirm_latency {
        writeln!(f, "confirm latency {latency}")?;
    }
    if let Some(server) = server {
        writeln!(f, "server          {server}")?;
    }
    write!(f, "generator       {generator}")
}

impl fmt::Display for PhaseCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s of processor time", self.cpu_seconds)?;
        if let Some(cost) = self.cpu_seconds_per_million {
            write!(f, " ({cost:.2} per million messages)")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, ", {:.1} MiB resident", mib(self.rss_bytes))?;
        write!(f, " (at most {:.1})", mib(self.rss_peak_bytes))
    }
}

/// A rate in human-readable form.
pub(super) fn rate_text(per_second: f64) -> String {
    if per_second >= 10_000.0 {
        format!("{:.1} k/s", per_second / 1e3)
    } else {
        format!("{per_second:.1} /s")
    }
}

/// One line about the last interval: what happened in `seconds`.
pub(super) fn progress_line(
    at_seconds: f64,
    moved: Counts,
    seconds: f64,
    latency: &Latencies,
    confirm_latency: &Latencies,
) -> String {
    let mut line = format!("{at_seconds:6.1} s");
    for (name, count) in [
        ("published", moved.published),
        ("confirmed", moved.confirmed),
        ("refused", moved.nacked),
        ("returned", moved.returned),
        ("consumed", moved.consumed),
    ] {
        if count > 0 {
            let _ = write!(line, "   {name} {}", rate_text(count as f64 / seconds));
        }
    }
    for (name, latencies) in [("latency", latency), ("confirm", confirm_latency)] {
        if let Some(times) = Percentiles::of(latencies) {
            let _ = write!(line, "   {name} p50 {:.2} p99 {:.2} ms", times.p50, times.p99);
        }
    }
    if moved.blocked > 0 {
        line.push_str("   blocked");
    }
    line
}
