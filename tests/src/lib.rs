//! Harness for the end-to-end tests.
//!
//! It owns the broker's process ([`Broker`]), a blocking client on top of lapin ([`Client`]), a raw
//! AMQP connection with an encoder of its own ([`raw::Raw`]), and just enough HTTP to look a
//! message up ([`http`]). It never uses a crate of the broker: what it asserts is what a stranger
//! on the network sees.
//!
//! With `WILCO_TEST_AMQP=amqp://...` the tests run against that broker instead; tests that need a
//! process of their own are then skipped, and say so by name.

/// What it says of Rust compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod broker;
mod bystander;
pub mod client;
mod cluster;
pub mod http;
pub mod json;
mod kafka_cluster;
pub mod outcome;
mod random;
pub mod raw;
mod server;
mod small_disk;
pub mod table;

pub use broker::{Broker, Session, shared};
pub use bystander::Bystander;
pub use client::{Channel, Client, Consumer, Level, Refusal};
pub use cluster::Cluster;
pub use json::Json;
pub use kafka_cluster::KafkaCluster;
pub use outcome::Told;
pub use random::Random;
pub use server::Server;
pub use small_disk::SmallDisk;
pub use table::{int, table, text};

use std::{
    io::Write,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How long anything that must happen may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A name that no other test uses, on this broker or on one shared with earlier runs.
pub fn unique(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{:x}-{nanos:x}-{count}", std::process::id())
}

/// How often a test of a cluster does what it does: once, or as `WILCO_TEST_ROUNDS` says.
pub fn rounds() -> usize {
    let rounds = std::env::var("WILCO_TEST_ROUNDS").ok();
    rounds.map_or(1, |rounds| rounds.parse().expect("WILCO_TEST_ROUNDS is a number"))
}

/// Held by tests of one file that measure time or memory: they run one after the other.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has reported that itself.
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Says what did not run, on the real standard error (the test runner captures the other one).
pub fn skip(test: &str, reason: &str) {
    // Nothing can be done about a closed standard error.
    // On a line of its own, also behind `test name ... ` where tests run one at a time.
    let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {reason}");
}

/// Polls until `condition` holds; fails the test with `what` when that takes too long.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
