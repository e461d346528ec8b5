//! Runs a load: set up, start the workers, warm up, measure, stop, report.
//!
//! The main thread only wakes for the progress line and for events, so it does not disturb what it
//! measures.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Result, bail};

use super::args::BenchArgs;
use super::client::Connection;
use super::consumer::{ConsumePlan, Consumer};
use super::publisher::{PublishPlan, Publisher};
use super::report::{Percentiles, Report, progress_line};
use super::server_cost::Cost;
use super::setup::Topology;
use super::stats::{Counts, Event, Latencies, Shared, now_ns};

const SECOND_NS: u64 = 1_000_000_000;
/// If every publisher is done and nothing arrives for this long, the rest is not coming.
const IDLE_NS: u64 = 10 * SECOND_NS;

/// Runs what `args` ask for.
pub(super) fn drive(args: &BenchArgs) -> Result<Report> {
    let topology = args.topology_plan();
    let mut control = Connection::open(&args.uri, "wilco bench control")?;
    if !args.passive {
        topology.declare(&mut control)?;
    }
    if args.purge {
        topology.purge(&mut control)?;
    }
    let target = args.consume_target().unwrap_or(u64::MAX);
    let shared = Shared::new(args.publishers, args.consumers, target);
    let (publish_plan, consume_plan) = (args.publish_plan(), args.consume_plan());
    let report = std::thread::scope(|scope| {
        let workers = Workers::connect(args, &shared, &topology, &publish_plan, &consume_plan)?;
        let measure = Measure::new(args, &shared);
        let measured = workers.start(scope).and_then(|events| measure.run(&events));
        // Whatever the result is; otherwise the scope would wait for the workers forever.
        shared.stop.store(true, Ordering::Relaxed);
        measured
    })?;
    if !args.keeps_queues() {
        topology.delete(&mut control)?;
    }
    control.close()?;
    Ok(report)
}

/// Connections that are open and have not started.
struct Workers<'a> {
    shared: &'a Shared,
    publishers: Vec<Publisher<'a>>,
    consumers: Vec<Consumer<'a>>,
}

impl<'a> Workers<'a> {
    fn connect(
        args: &BenchArgs,
        shared: &'a Shared,
        topology: &Topology,
        publish_plan: &'a PublishPlan,
        consume_plan: &'a ConsumePlan,
    ) -> Result<Self> {
        let open = |role: &str, index: usize| {
            Connection::open(&args.uri, &format!("wilco bench {role} {index}"))
        };
        let publishers = (0..args.publishers)
            .map(|index| Publisher::new(open("publisher", index)?, publish_plan, index, shared))
            .collect::<Result<_>>()?;
        let consumers = (0..args.consumers)
            .map(|index| {
                let queues = dealt_out(&topology.queues, index, args.consumers);
                Ok(Consumer::new(open("consumer", index)?, consume_plan, queues, shared, index))
            })
            .collect::<Result<_>>()?;
        Ok(Self { shared, publishers, consumers })
    }

    /// Starts the consumers and, once they have subscribed, the publishers.
    fn start<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Result<Receiver<Event>>
    where
        'a: 'scope,
    {
        let shared = self.shared;
        let (sender, events) = channel();
        let consumer_count = self.consumers.len();
        for consumer in self.consumers {
            let sender = sender.clone();
            scope.spawn(move || report_failure(shared, &sender, consumer.run(&sender)));
        }
        for _ in 0..consumer_count {
            match events.recv()? {
                Event::Failed(error) => return Err(error),
                // A small drain may be over before all have subscribed.
                Event::ConsumersDone { at_ns } => sender.send(Event::ConsumersDone { at_ns })?,
                Event::Subscribed | Event::PublisherDone { .. } => {}
            }
        }
        for publisher in self.publishers {
            let sender = sender.clone();
            scope.spawn(move || report_failure(shared, &sender, publisher.run(&sender)));
        }
        Ok(events)
    }
}

/// Deals the queues out to the consumers; if there are more consumers than queues, they share.
pub(super) fn dealt_out(queues: &[String], consumer: usize, consumers: usize) -> Vec<String> {
    if consumers >= queues.len() {
        return vec![queues[consumer % queues.len()].clone()];
    }
    queues.iter().skip(consumer).step_by(consumers).cloned().collect()
}

pub(super) fn report_failure(shared: &Shared, sender: &Sender<Event>, result: Result<()>) {
    if let Err(error) = result
        && !shared.stopping()
    {
        let _ = sender.send(Event::Failed(error));
    }
}

/// Counters and costs at one moment.
#[derive(Clone, Copy)]
struct Mark {
    at_ns: u64,
    counts: Counts,
    server: Option<Cost>,
    own: Cost,
}

/// Watches a run and makes its report.
pub(super) struct Measure<'a> {
    args: &'a BenchArgs,
    shared: &'a Shared,
    start: Mark,
    latency: Latencies,
    confirm_latency: Latencies,
    publishers_done: usize,
}

impl<'a> Measure<'a> {
    /// Measuring begins now, or when the warm-up is over.
    pub(super) fn new(args: &'a BenchArgs, shared: &'a Shared) -> Self {
        Self {
            start: mark(args, shared),
            args,
            shared,
            latency: Latencies::new(),
            confirm_latency: Latencies::new(),
            publishers_done: 0,
        }
    }

    /// Watches until the time is over or the count is reached.
    pub(super) fn run(mut self, events: &Receiver<Event>) -> Result<Report> {
        let first_ns = self.start.at_ns;
        let mut warming_up = self.args.warm_up > 0.0;
        let mut phase_end_ns = if warming_up {
            Some(first_ns + Duration::from_secs_f64(self.args.warm_up).as_nanos() as u64)
        } else {
            self.end_ns()
        };
        let mut line_at_ns = first_ns;
        let mut line_counts = self.start.counts;
        loop {
            let now = now_ns();
            let wake_ns = (line_at_ns + SECOND_NS).min(phase_end_ns.unwrap_or(u64::MAX));
            match events.recv_timeout(Duration::from_nanos(wake_ns.saturating_sub(now))) {
                Ok(event) => {
                    if let Some(end_ns) = self.take(event)? {
                        return Ok(self.finish(end_ns));
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("every worker has ended"),
            }
            let now = now_ns();
            if phase_end_ns.is_some_and(|end_ns| now >= end_ns) {
                if !warming_up {
                    return Ok(self.finish(now));
                }
                warming_up = false;
                self.restart();
                phase_end_ns = self.end_ns();
            }
            if now >= line_at_ns + SECOND_NS {
                let counts = self.shared.counts();
                let moved = counts - line_counts;
                self.progress((now - first_ns, now - line_at_ns), moved);
                (line_at_ns, line_counts) = (now, counts);
            }
            if let Some(end_ns) = self.nothing_more_comes(now) {
                return Ok(self.finish(end_ns));
            }
        }
    }

    fn end_ns(&self) -> Option<u64> {
        self.args.measure_time().map(|time| self.start.at_ns + time.as_nanos() as u64)
    }

    /// Begins the measured phase after the warm-up.
    fn restart(&mut self) {
        let mut dropped = Latencies::new();
        let mut also_dropped = Latencies::new();
        self.shared.take_latencies(&mut dropped, &mut also_dropped);
        self.latency = Latencies::new();
        self.confirm_latency = Latencies::new();
        self.start = mark(self.args, self.shared);
    }

    /// Handles an event; returns the end of the run if this is it.
    fn take(&mut self, event: Event) -> Result<Option<u64>> {
        match event {
            Event::Subscribed => Ok(None),
            Event::Failed(error) => Err(error),
            // With publishers the run lasts until the last confirm.
            Event::ConsumersDone { at_ns } => {
                Ok((self.publishers_done == self.args.publishers).then_some(at_ns))
            }
            Event::PublisherDone { at_ns } => {
                self.publishers_done += 1;
                if self.publishers_done < self.args.publishers {
                    return Ok(None);
                }
                // A producer that tracks its messages knows by itself when everything is done.
                if self.args.consumers == 0 || self.args.tracked.is_some() {
                    return Ok(Some(at_ns));
                }
                // What was refused or returned will not be delivered. The order of store and load,
                // here and in the consumers, ensures that one of the two sides sees the target
                // reached.
                let counts = self.shared.counts();
                let routed = counts.published.saturating_sub(counts.nacked + counts.returned);
                let target = routed * self.args.copies();
                self.shared.consume_target.store(target, Ordering::SeqCst);
                let consumed = self.shared.consumed.load(Ordering::SeqCst);
                let consumed_at_ns = self.shared.consumed_at_ns.load(Ordering::Relaxed);
                Ok((consumed >= target).then_some(at_ns.max(consumed_at_ns)))
            }
        }
    }

    /// The time of the last delivery, if everything is published and the rest seems to be lost.
    fn nothing_more_comes(&self, now: u64) -> Option<u64> {
        let all_published =
            self.args.publishers > 0 && self.publishers_done == self.args.publishers;
        let last_ns = self.shared.consumed_at_ns.load(Ordering::Relaxed).max(self.start.at_ns);
        if !all_published || now < last_ns + IDLE_NS {
            return None;
        }
        let counts = self.shared.counts();
        note(&format!(
            "{} messages never arrived",
            counts.published.saturating_sub(counts.consumed)
        ));
        Some(last_ns)
    }

    fn progress(&mut self, (total_ns, interval_ns): (u64, u64), moved: Counts) {
        let (mut confirm, mut delivery) = (Latencies::new(), Latencies::new());
        self.shared.take_latencies(&mut confirm, &mut delivery);
        self.confirm_latency.add(&confirm);
        self.latency.add(&delivery);
        if !self.args.quiet {
            let seconds = |ns: u64| ns as f64 / 1e9;
            let interval = seconds(interval_ns);
            note(&progress_line(seconds(total_ns), moved, interval, &delivery, &confirm));
        }
    }

    fn finish(mut self, end_ns: u64) -> Report {
        let end = mark(self.args, self.shared);
        self.shared.take_latencies(&mut self.confirm_latency, &mut self.latency);
        let counts = end.counts - self.start.counts;
        let seconds = (end_ns.max(self.start.at_ns + 1) - self.start.at_ns) as f64 / 1e9;
        let messages = match (self.args.publishers, self.args.consumers) {
            (0, _) => counts.consumed as f64,
            _ if self.args.tracked.is_some() => counts.consumed as f64,
            (_, 0) => counts.published as f64,
            // Publishing counts as one half of a message and delivering as the other.
            _ => (counts.published + counts.consumed) as f64 / 2.0,
        };
        let server = self.start.server.zip(end.server);
        Report {
            uri: self.args.uri.to_string(),
            seconds,
            counts,
            publish_rate: counts.published as f64 / seconds,
            confirm_rate: counts.confirmed as f64 / seconds,
            consume_rate: counts.consumed as f64 / seconds,
            latency_ms: Percentiles::of(&self.latency),
            confirm_latency_ms: Percentiles::of(&self.confirm_latency),
            server: server.map(|(before, after)| after.since(&before, messages)),
            generator: end.own.since(&self.start.own, messages),
        }
    }
}

fn mark(args: &BenchArgs, shared: &Shared) -> Mark {
    let server = args.server_pid.and_then(Cost::read);
    Mark { at_ns: now_ns(), counts: shared.counts(), server, own: Cost::own() }
}

/// Writes a line to standard error, whether or not anybody reads it.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
