//! Medians and spread of the measurements, as a Markdown table.

use std::fmt::Write;

use super::load::Measured;
use super::points::{Point, Results, Shows};

/// One figure of a point: its name and unit, how to read it, and its decimals.
struct Figure {
    name: &'static str,
    of: fn(&Measured) -> Option<f64>,
    decimals: usize,
}

const COST: Figure = Figure {
    name: "server CPU s per million",
    of: |measured| measured.server?.cpu_seconds_per_million,
    decimals: 2,
};
const PUBLISH_RATE: Figure = Figure {
    name: "published, k/s",
    of: |measured| Some(measured.publish_rate / 1e3),
    decimals: 1,
};
const CONSUME_RATE: Figure =
    Figure { name: "consumed, k/s", of: |measured| Some(measured.consume_rate / 1e3), decimals: 1 };
const ROUND_TRIP_RATE: Figure = Figure {
    name: "round trips, k/s",
    of: |measured| Some(measured.round_trip_rate / 1e3),
    decimals: 1,
};
const MEDIAN: Figure =
    Figure { name: "p50, ms", of: |measured| Some(measured.latency_ms?.p50), decimals: 3 };
const P95: Figure =
    Figure { name: "p95, ms", of: |measured| Some(measured.latency_ms?.p95), decimals: 3 };
const P99: Figure =
    Figure { name: "p99, ms", of: |measured| Some(measured.latency_ms?.p99), decimals: 3 };
const CONFIRM_MEDIAN: Figure = Figure {
    name: "confirm p50, ms",
    of: |measured| Some(measured.confirm_latency_ms?.p50),
    decimals: 3,
};
const CONFIRM_P99: Figure = Figure {
    name: "confirm p99, ms",
    of: |measured| Some(measured.confirm_latency_ms?.p99),
    decimals: 3,
};
const MEMORY: Figure = Figure {
    name: "KiB per connection",
    of: |measured| Some(measured.bytes_per_connection? / 1024.0),
    decimals: 1,
};

fn figures(shows: Shows) -> &'static [Figure] {
    match shows {
        Shows::Throughput => &[COST, CONSUME_RATE],
        Shows::WorkQueue => &[COST, PUBLISH_RATE, CONSUME_RATE],
        Shows::Publishing => &[COST, PUBLISH_RATE],
        Shows::Latency => &[MEDIAN, P99, CONFIRM_MEDIAN, CONFIRM_P99],
        Shows::RoundTrips => &[COST, ROUND_TRIP_RATE, MEDIAN, P95, P99],
        Shows::Memory => &[MEMORY],
    }
}

/// A row per figure: the median of each peer with its smallest and largest value, and the first
/// peer's median divided by each other's.
pub(super) fn markdown(names: &[&str], points: &[Point], results: &Results) -> String {
    let mut text = String::from("| point | figure |");
    let mut line = String::from("|---|---|");
    for name in names {
        let _ = write!(text, " {name} |");
        line.push_str("---|");
    }
    for name in &names[1..] {
        let _ = write!(text, " {} / {name} |", names[0]);
        line.push_str("---|");
    }
    let _ = write!(text, "\n{line}\n");
    for (at, point) in points.iter().enumerate() {
        for figure in figures(point.shows) {
            let spreads: Vec<_> =
                results.iter().map(|peer| Spread::of(figure, &peer[at])).collect();
            if spreads.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "| {}: {} | {} |", point.key, point.about, figure.name);
            for spread in &spreads {
                match spread {
                    Some(spread) => {
                        let _ = write!(text, " {} |", spread.text(figure.decimals));
                    }
                    None => text.push_str(" |"),
                }
            }
            for other in &spreads[1..] {
                match (&spreads[0], other) {
                    (Some(own), Some(other)) if other.median > 0.0 => {
                        let _ = write!(text, " {:.2} |", own.median / other.median);
                    }
                    _ => text.push_str(" |"),
                }
            }
            text.push('\n');
        }
    }
    text
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

#[derive(Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(figure: &Figure, rounds: &[Measured]) -> Option<Self> {
        let mut values: Vec<f64> = rounds.iter().filter_map(figure.of).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { median: median(&mut values)?, min, max })
    }

    fn text(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::points;
    use super::*;

    fn consumed(rate: f64) -> Measured {
        Measured { consume_rate: rate, ..Measured::default() }
    }

    #[test]
    fn a_row_has_medians_spread_and_ratio() {
        let points = points::chosen(&["a".to_owned()]).unwrap();
        let results = vec![
            vec![vec![consumed(3e3), consumed(1e3), consumed(2e3)]],
            vec![vec![consumed(4e3), consumed(4e3), consumed(4e3)]],
        ];
        let text = markdown(&["wilco", "other"], &points, &results);
        assert!(text.starts_with("| point | figure | wilco | other | wilco / other |\n|---|"));
        assert!(
            text.contains("| consumed, k/s | 2.0 (1.0-3.0) | 4.0 (4.0-4.0) | 0.50 |"),
            "{text}"
        );
        // Without processes to measure there is no row of costs.
        assert!(!text.contains("CPU"));
    }
}
