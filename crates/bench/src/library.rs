//! Round trips through the library, over any of its engines: a producer and a worker in this process, both
//! typed. A message counts when the engine has it on disk and what became of it has been told.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wilco::{Failure, Queue, Wilco};

use crate::args::BenchArgs;
use crate::server_cost::Cost;

/// Messages under way, unless said otherwise.
const WINDOW: u64 = 1000;
/// Messages, unless said otherwise.
const COUNT: u64 = 200_000;
/// Bytes of a message's text, unless it is said how large it is.
const SIZE: usize = 16;
/// Messages worked on at a time.
const CONCURRENCY: u16 = 256;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Serialize, Deserialize)]
struct Order {
    number: u64,
    item: String,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct LibraryReport {
    outcomes: u64,
    seconds: f64,
    outcomes_per_second: f64,
    /// Of this process, with the broker if that is in it.
    cpu_us_per_outcome: f64,
    /// From sending to the outcome.
    latency_p50_us: u64,
    latency_p99_us: u64,
}

impl fmt::Display for LibraryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcomes, outcomes_per_second, cpu_us_per_outcome, .. } = self;
        let Self { latency_p50_us, latency_p99_us, .. } = self;
        write!(
            f,
            "{outcomes} outcomes, {outcomes_per_second:.0} a second, {cpu_us_per_outcome:.1} us of \
             processor time each, told after {latency_p50_us} us (p50), {latency_p99_us} us (p99)"
        )
    }
}

/// Runs it.
pub(super) fn drive(args: &BenchArgs, url: &str) -> Result<LibraryReport> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On a thread that works, not beside those that do: each message would wake another.
    let running = runtime.spawn(run(args.clone(), url.to_owned()));
    runtime.block_on(running)?
}

async fn run(args: BenchArgs, url: String) -> Result<LibraryReport> {
    let count = args.count.unwrap_or(COUNT);
    let window = if args.confirm == 0 { WINDOW } else { args.confirm };
    let window = usize::try_from(window)?;
    let wilco = Wilco::connect(&url).await?;
    let queue: Queue<Order, u64> = Queue::named(args.queue.clone());
    let handler = async |order: Order| Ok::<_, Failure>(order.number);
    let worker = wilco.worker().handle(queue.clone(), handler).concurrency(CONCURRENCY).spawn();
    let orders = wilco.producer(queue).window(window).build().await?;
    let item = "x".repeat(args.size.max(SIZE));
    let told = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
    let places = Arc::new(Semaphore::new(window));
    let (began, cpu) = (Instant::now(), Cost::own());
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        let (told, latencies) = (Arc::clone(&told), Arc::clone(&latencies));
        let sent = Instant::now();
        let order = Order { number, item: item.clone() };
        let sending = orders.send(&order).on_outcome(move |_, outcome| {
            if outcome.is_processed() {
                let _ = latencies.lock().record(sent.elapsed().as_micros() as u64);
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let failed = Arc::clone(&failed);
        tokio::spawn(async move {
            if let Err(error) = sending.await {
                eprintln!("{error}");
                failed.fetch_add(1, Ordering::Relaxed);
            }
            drop(place);
        });
    }
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let now = told.load(Ordering::Relaxed);
        if now == count {
            break;
        }
        let failed = failed.load(Ordering::Relaxed);
        if failed > 0 || since.elapsed() > PATIENCE {
            bail!("{now} of {count} messages have been processed, {failed} could not be sent");
        }
        if now != before {
            (before, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let time = began.elapsed();
    let cost = Cost::own().since(&cpu, count as f64);
    drop(worker);
    if !args.keep {
        wilco.delete_queue(&args.queue).await?;
    }
    wilco.close().await;
    let latencies = latencies.lock();
    Ok(LibraryReport {
        outcomes: count,
        seconds: time.as_secs_f64(),
        outcomes_per_second: count as f64 / time.as_secs_f64(),
        cpu_us_per_outcome: cost.cpu_seconds * 1e6 / count as f64,
        latency_p50_us: latencies.value_at_quantile(0.5),
        latency_p99_us: latencies.value_at_quantile(0.99),
    })
}
