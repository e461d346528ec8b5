//! The work of `wilco bench --transport`, done with other people's clients on a wilco server: what does their
//! part cost?
//!
//! ```text
//! cargo run --release --manifest-path crates/bench/peers/Cargo.toml -- lapin amqp://127.0.0.1 200000
//! ```
//!
//! Producer and worker are in this process, with 1000 messages under way and 256 worked on at a time, as there.

mod apalis;
mod lapin;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Messages under way.
const WINDOW: usize = 1000;
/// Messages worked on at a time.
const CONCURRENCY: u16 = 256;
const QUEUE: &str = "wilco.bench.peers";

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    number: u64,
    item: String,
}

impl Order {
    fn new(number: u64) -> Self {
        Self { number, item: "x".repeat(16) }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, url, count] = arguments.as_slice() else {
        return Err("say: lapin|apalis URL COUNT".into());
    };
    let count = count.parse()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let url = url.clone();
    let (began, cpu) = match client.as_str() {
        "lapin" => runtime.block_on(runtime.spawn(lapin::run(url, count)))??,
        "apalis" => runtime.block_on(runtime.spawn(apalis::run(url, count)))??,
        other => return Err(format!("'{other}' is neither lapin nor apalis").into()),
    };
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), processor_time() - cpu);
    println!(
        "{count} messages, {:.0} a second, {:.1} us of processor time each",
        count as f64 / seconds,
        cpu.as_secs_f64() * 1e6 / count as f64
    );
    // Clients may have tasks that do not end.
    std::process::exit(0);
}

/// Now, and the time that this process has had on processors, user and system.
fn now() -> (Instant, Duration) {
    (Instant::now(), processor_time())
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
