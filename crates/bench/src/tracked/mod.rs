//! `wilco bench --tracked`: the tracked round trip. A producer publishes persistent messages, workers
//! take and acknowledge them, and the producer hears of each message what became of it and matches
//! that to the message.
//!
//! - By the broker: the messages ask with `x-notify` and workers only acknowledge. By replies: the
//!   workers publish a reply themselves and acknowledge when the broker has confirmed it, the most
//!   that can be had by hand without losing replies. The producer does the same in both.
//! - `producer` and `worker` are a thread and a connection each; `outstanding` and `ids` match, and
//!   neither searches nor allocates; `delivery` reads frames, `report` judges.
//!
//! A message is done when both its confirm and its outcome have come. At most the window is not done
//! at any time, so that a window of 1 is strictly one message in flight.

mod delivery;
mod ids;
mod outstanding;
mod producer;
mod report;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use anyhow::{Result, bail};

use super::args::BenchArgs;
use super::client::Connection;
use super::drive::{Measure, dealt_out, report_failure};
use super::setup::Topology;
use super::stats::{Event, Shared};
use producer::Producer;
use report::{Tally, TrackedReport};
use worker::Worker;

/// Who tells the producer that its message was processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// The broker, with an outcome message
    Broker,
    /// The worker, with a reply of its own: works with any broker
    Reply,
}

/// What to send and how.
struct Plan {
    by: By,
    exchange: String,
    /// Used in turn.
    routing_keys: Vec<String>,
    size_bytes: usize,
    /// Most messages per producer that are not done.
    window: u64,
    /// Messages per producer; 0 for no end.
    count: u64,
    prefetch: u16,
    ack_every: u64,
}

impl Plan {
    fn new(args: &BenchArgs, by: By) -> Self {
        // A worker that waits for confirms has not acknowledged all that its producer knows to be
        // done; with room for twice the window that never keeps messages from it.
        let prefetch = (args.confirm * 2).min(u64::from(u16::MAX)) as u16;
        Self {
            by,
            exchange: args.exchange.clone(),
            routing_keys: args.topology_plan().queues,
            size_bytes: args.size,
            window: args.confirm,
            count: args.count.unwrap_or(0),
            prefetch: if args.prefetch > 0 { args.prefetch } else { prefetch },
            ack_every: args.ack_every,
        }
    }
}

/// What the threads of a run share.
///
/// In `shared`, each producer has a publisher's place, with published, confirmed and the confirms'
/// latencies, and a consumer's place, with messages done and their latencies.
struct Run {
    shared: Shared,
    tally: Mutex<Tally>,
    /// Producers that have begun and not ended: as long as there are any, workers work.
    producing: AtomicUsize,
    /// The run has failed: nothing more is waited for.
    failed: AtomicBool,
}

impl Run {
    /// Whether workers have nothing left to do.
    fn is_over(&self) -> bool {
        self.shared.stopping() && self.producing.load(Ordering::SeqCst) == 0
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn add(&self, tally: Tally) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) += tally;
    }
}

/// Counts as a producer until dropped.
struct Producing<'a>(&'a AtomicUsize);

impl<'a> Producing<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Producing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the types of the arguments cannot say.
pub(super) fn check(args: &BenchArgs) -> Result<()> {
    if args.publishers == 0 || args.consumers == 0 {
        bail!("--tracked needs publishers and consumers");
    }
    if args.confirm == 0 {
        bail!("--tracked needs a window: --confirm from 1 on");
    }
    if args.ack_every == 0 {
        bail!("--tracked needs acknowledgements: --ack-every from 1 on");
    }
    Ok(())
}

/// Runs what `args` say.
pub(super) fn drive(args: &BenchArgs, by: By) -> Result<TrackedReport> {
    let topology = Topology { durable: true, ..args.topology_plan() };
    let replies = Topology {
        exchange: String::new(),
        queues: (1..=args.publishers).map(|at| format!("{}.outcomes.{at}", args.queue)).collect(),
        arguments: amqp::FieldTable::new(),
        ..topology.clone()
    };
    let mut control = Connection::open(&args.uri, "wilco bench control")?;
    if !args.passive {
        topology.declare(&mut control)?;
    }
    if args.purge {
        topology.purge(&mut control)?;
    }
    replies.declare(&mut control)?;
    // What a run that was cut short has left would match nothing.
    replies.purge(&mut control)?;

    let plan = Plan::new(args, by);
    let run = Run {
        shared: Shared::new(args.publishers, args.publishers, u64::MAX),
        tally: Mutex::default(),
        producing: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    };
    let measured = std::thread::scope(|scope| {
        let threads = Threads::connect(args, &plan, &run, &topology, &replies)?;
        let measure = Measure::new(args, &run.shared);
        let measured = threads.start(scope).and_then(|events| measure.run(&events));
        run.failed.store(measured.is_err(), Ordering::Relaxed);
        // Whatever the outcome, or the scope would wait for the threads for ever.
        run.shared.stop.store(true, Ordering::Relaxed);
        measured
    })?;
    replies.delete(&mut control)?;
    if !args.keeps_queues() {
        topology.delete(&mut control)?;
    }
    control.close()?;
    let tally = run.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(TrackedReport::new(by, plan.window, measured, tally))
}

/// Connections that are open and have not begun.
struct Threads<'a> {
    run: &'a Run,
    producers: Vec<Producer<'a>>,
    workers: Vec<Worker<'a>>,
}

impl<'a> Threads<'a> {
    fn connect(
        args: &BenchArgs,
        plan: &'a Plan,
        run: &'a Run,
        topology: &Topology,
        replies: &Topology,
    ) -> Result<Self> {
        let open = |role: &str, index: usize| {
            Connection::open(&args.uri, &format!("wilco bench {role} {index}"))
        };
        let queues = replies.queues.iter().enumerate();
        let producers = queues
            .map(|(index, queue)| Producer::new(open("producer", index)?, plan, queue, index, run))
            .collect::<Result<_>>()?;
        let workers = (0..args.consumers)
            .map(|index| {
                let queues = dealt_out(&topology.queues, index, args.consumers);
                Worker::new(open("worker", index)?, plan, queues, run)
            })
            .collect::<Result<_>>()?;
        Ok(Self { run, producers, workers })
    }

    /// Starts the workers, and when they have subscribed the producers.
    fn start<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Result<Receiver<Event>>
    where
        'a: 'scope,
    {
        let run = self.run;
        let (sender, events) = channel();
        let worker_count = self.workers.len();
        for worker in self.workers {
            let sender = sender.clone();
            scope.spawn(move || report_failure(&run.shared, &sender, worker.run(&sender)));
        }
        for _ in 0..worker_count {
            if let Event::Failed(error) = events.recv()? {
                return Err(error);
            }
        }
        for producer in self.producers {
            let sender = sender.clone();
            let producing = Producing::begin(&run.producing);
            scope.spawn(move || {
                report_failure(&run.shared, &sender, producer.run(&sender));
                drop(producing);
            });
        }
        Ok(events)
    }
}
