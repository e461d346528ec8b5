//! How many typed outcomes a second a producer and a worker in one process get through a broker, and what
//! the library costs: `cargo run --release -p wilco --example outcomes_per_second -- URL [COUNT]`.
//!
//! A message is counted when it is on the broker's disk and what became of it has been told; 1000 are under
//! way at a time.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wilco::{Failure, Queue, Wilco};

#[derive(Serialize, Deserialize)]
struct Order {
    number: u64,
    item: String,
}

const ORDERS: Queue<Order, u64> = Queue::new("outcomes_per_second");
const WINDOW: usize = 1000;

async fn handle(order: Order) -> Result<u64, Failure> {
    Ok(order.number)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("say the URL of a broker")?;
    let count: u64 = arguments.next().map_or(Ok(300_000), |count| count.parse())?;
    let wilco = Wilco::connect(&url).await?;
    let worker = wilco.worker().handle(ORDERS, handle).concurrency(256);
    let worker = tokio::spawn(worker.run());
    let orders = wilco.producer(ORDERS).window(WINDOW).build().await?;
    let (began, cpu) = (Instant::now(), processor_time());
    let told = Arc::new(AtomicU64::new(0));
    let window = Arc::new(Semaphore::new(WINDOW));
    for number in 0..count {
        let place = Arc::clone(&window).acquire_owned().await?;
        let order = Order { number, item: "cup".to_owned() };
        let told = Arc::clone(&told);
        let sending = orders.send(&order).on_outcome(move |_, outcome| {
            if outcome.is_processed() {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::spawn(async move {
            if let Err(error) = sending.await {
                eprintln!("{error}");
            }
            drop(place);
        });
    }
    while told.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (time, cpu) = (began.elapsed(), processor_time() - cpu);
    let per_second = count as f64 / time.as_secs_f64();
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    println!("{count} outcomes, {per_second:.0} a second, {each:.1} us of processor time each");
    worker.abort();
    wilco.delete_queue(ORDERS.name()).await?;
    wilco.close().await;
    Ok(())
}

/// Of this process, as Linux tells it.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // User and system time, in hundredths of a second.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
