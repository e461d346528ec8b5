//! Runs a tracked load: declares, starts the threads, measures, judges.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use anyhow::Result;

use super::plan::Plan;
use super::producer::Producer;
use super::report::TrackedReport;
use super::run::{Producing, Run};
use super::worker::Worker;
use crate::args::{BenchArgs, By};
use crate::client::Connection;
use crate::drive::{Measure, dealt_out, report_failure};
use crate::setup::Topology;
use crate::stats::{Event, Shared};

/// Runs what `args` ask for.
pub(crate) fn drive(args: &BenchArgs, by: By) -> Result<TrackedReport> {
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
    // What an interrupted run has left behind would match nothing.
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
        // Whatever the result is; otherwise the scope would wait for the threads forever.
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

/// Connections that are open and have not started.
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

    /// Starts the workers and, once they have subscribed, the producers.
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
