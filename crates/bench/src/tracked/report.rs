//! What a tracked run found, and whether it is valid: every message must have exactly one outcome.

use std::fmt;
use std::ops::AddAssign;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::args::By;
use crate::report::{Percentiles, Report, rate_text, write_measured};
use crate::server_cost::PhaseCost;

/// What should not have happened, over the whole run; all 0 if the run is valid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Messages without an outcome.
    pub(super) missing: u64,
    /// Second and further outcomes of a message.
    pub(super) duplicate: u64,
    /// Outcomes that belong to no message of this run.
    pub(super) unmatched: u64,
    /// Messages without a confirm.
    pub(super) unconfirmed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.unmatched += other.unmatched;
        self.unconfirmed += other.unconfirmed;
    }
}

/// The result of a tracked run. Its JSON form is what `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct TrackedReport {
    pub(super) uri: String,
    pub(super) tracked: By,
    pub(super) window: u64,
    /// Length of the measured phase.
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// Messages the broker refused with `basic.nack`.
    pub(super) nacked: u64,
    /// Times the broker blocked a connection.
    pub(super) blocked: u64,
    /// Messages whose confirm and outcome have both come.
    pub(super) round_trips: u64,
    pub(super) round_trip_rate: f64,
    /// From publishing to the outcome.
    pub(super) latency_ms: Option<Percentiles>,
    /// From publishing to the confirm.
    pub(super) confirm_latency_ms: Option<Percentiles>,
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// The broker's cost, if `--server-pid` was given; "per million" means per million round trips.
    pub(super) server: Option<PhaseCost>,
    /// The load generator's own cost: producers and workers.
    pub(super) generator: PhaseCost,
}

impl TrackedReport {
    pub(super) fn new(by: By, window: u64, measured: Report, tally: Tally) -> Self {
        let counts = measured.counts;
        Self {
            uri: measured.uri,
            tracked: by,
            window,
            seconds: measured.seconds,
            published: counts.published,
            confirmed: counts.confirmed,
            nacked: counts.nacked,
            blocked: counts.blocked,
            round_trips: counts.consumed,
            round_trip_rate: measured.consume_rate,
            latency_ms: measured.latency_ms,
            confirm_latency_ms: measured.confirm_latency_ms,
            tally,
            server: measured.server,
            generator: measured.generator,
        }
    }

    /// An error unless every message has exactly one outcome and its confirm.
    pub(crate) fn check(&self) -> Result<()> {
        let Tally { missing, duplicate, unmatched, unconfirmed } = self.tally;
        if self.tally != Tally::default() {
            bail!(
                "outcomes: {missing} missing, {duplicate} duplicate, {unmatched} unmatched; \
                 {unconfirmed} messages unconfirmed"
            );
        }
        Ok(())
    }
}

impl fmt::Display for TrackedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.tracked {
            By::Broker => "outcomes by the broker",
            By::Reply => "replies by the worker",
        };
        writeln!(f, "{}, {by}, window {}, {:.2} s", self.uri, self.window, self.seconds)?;
        let rate = rate_text(self.round_trip_rate);
        writeln!(f, "{:<16}{:>12}   {rate}", "round trips", self.round_trips)?;
        let Tally { missing, duplicate, unmatched, unconfirmed } = self.tally;
        for (name, count, always) in [
            ("published", self.published, true),
            ("confirmed", self.confirmed, true),
            ("missing", missing, true),
            ("duplicate", duplicate, true),
            ("unmatched", unmatched, true),
            ("unconfirmed", unconfirmed, false),
            ("refused (nack)", self.nacked, false),
            ("times blocked", self.blocked, false),
        ] {
            if always || count > 0 {
                writeln!(f, "{name:<16}{count:>12}")?;
            }
        }
        let latencies = [&self.latency_ms, &self.confirm_latency_ms];
        write_measured(f, latencies, self.server.as_ref(), &self.generator)
    }
}
