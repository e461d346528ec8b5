//! Counters and latencies that the workers keep and the main thread reads.
//!
//! A worker stores its counters once per batch and locks its histogram once per batch, so counting
//! costs almost nothing per message. Times are nanoseconds of the monotonic clock of the machine,
//! so they can be compared between processes.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

/// Nanoseconds of the monotonic clock.
#[inline]
pub(super) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one worker has done so far, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) nacked: AtomicU64,
    pub(super) returned: AtomicU64,
    pub(super) consumed: AtomicU64,
    pub(super) blocked: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) nacked: u64,
    pub(super) returned: u64,
    pub(super) consumed: u64,
    pub(super) blocked: u64,
}

impl Counters {
    fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            published: read(&self.published),
            confirmed: read(&self.confirmed),
            nacked: read(&self.nacked),
            returned: read(&self.returned),
            consumed: read(&self.consumed),
            blocked: read(&self.blocked),
        }
    }
}

impl Counts {
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            published: f(self.published, other.published),
            confirmed: f(self.confirmed, other.confirmed),
            nacked: f(self.nacked, other.nacked),
            returned: f(self.returned, other.returned),
            consumed: f(self.consumed, other.consumed),
            blocked: f(self.blocked, other.blocked),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }
}

/// Latencies in nanoseconds, with a resolution of a microsecond and three digits.
pub(super) struct Latencies(pub(super) Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3);
        Self(histogram.unwrap_or_else(|error| unreachable!("the bounds are constant: {error}")))
    }

    /// Adds a latency `count` times; a negative one counts as zero.
    #[inline]
    pub(super) fn record(&mut self, since_ns: u64, now_ns: u64) {
        self.0.saturating_record(now_ns.saturating_sub(since_ns));
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Cannot fail: all histograms have the same bounds.
        let _ = Histogram::add(&mut self.0, &other.0);
    }
}

/// One worker's counters, and its latencies since they were last taken.
pub(super) struct Worker {
    pub(super) counters: Counters,
    latencies: Mutex<Latencies>,
}

impl Worker {
    pub(super) fn new() -> Self {
        Self { counters: Counters::default(), latencies: Mutex::new(Latencies::new()) }
    }

    pub(super) fn latencies(&self) -> MutexGuard<'_, Latencies> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all threads of a run share.
pub(super) struct Shared {
    pub(super) publishers: Vec<Worker>,
    pub(super) consumers: Vec<Worker>,
    /// Set by the main thread to make the workers finish and close.
    pub(super) stop: AtomicBool,
    /// Messages delivered to all consumers together.
    pub(super) consumed: AtomicU64,
    /// When the last of them arrived.
    pub(super) consumed_at_ns: AtomicU64,
    /// The run is over when this many have been consumed.
    pub(super) consume_target: AtomicU64,
}

impl Shared {
    pub(super) fn new(publishers: usize, consumers: usize, consume_target: u64) -> Self {
        Self {
            publishers: (0..publishers).map(|_| Worker::new()).collect(),
            consumers: (0..consumers).map(|_| Worker::new()).collect(),
            stop: AtomicBool::new(false),
            consumed: AtomicU64::new(0),
            consumed_at_ns: AtomicU64::new(0),
            consume_target: AtomicU64::new(consume_target),
        }
    }

    /// The sum over all workers.
    pub(super) fn counts(&self) -> Counts {
        let workers = self.publishers.iter().chain(&self.consumers);
        workers.map(|worker| worker.counters.read()).fold(Counts::default(), Add::add)
    }

    /// Moves the latencies collected since the last call into `confirm` and `delivery`.
    pub(super) fn take_latencies(&self, confirm: &mut Latencies, delivery: &mut Latencies) {
        for (workers, into) in [(&self.publishers, confirm), (&self.consumers, delivery)] {
            for worker in workers {
                let mut latencies = worker.latencies();
                if !latencies.0.is_empty() {
                    into.add(&latencies);
                    latencies.0.reset();
                }
            }
        }
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a worker tells the main thread.
pub(super) enum Event {
    /// A consumer has subscribed.
    Subscribed,
    /// A publisher has published its count and has its confirms.
    PublisherDone { at_ns: u64 },
    /// The consumers have reached their target.
    ConsumersDone { at_ns: u64 },
    /// A worker gave up.
    Failed(anyhow::Error),
}
