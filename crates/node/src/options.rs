//! How to open a node; every default in one place.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};

/// Options of a node.
#[derive(Clone)]
pub struct Options {
    /// The directory of the store; created if it does not exist.
    pub data: PathBuf,
    /// The store.
    pub store: StoreOptions,
    /// How much is kept about the outcomes of messages.
    pub ledger: ledger::Options,
    /// Limits for clients and memory.
    pub limits: Limits,
    /// Users that may connect from this machine only.
    pub loopback_users: Vec<String>,
    /// The clock; a simulator brings its own.
    pub clock: Arc<dyn Clock>,
}

/// Options of the store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The size at which a segment file is closed and the next one begun.
    pub segment_bytes_max: u64,
    /// Memory for bodies of queued messages; beyond it they stay in the log only.
    pub body_cache_bytes: u64,
    /// Publishers are held while the disk has less free space than this. The same amount is kept in
    /// reserve for settlements, in case the disk fills up all the same.
    pub disk_free_bytes_min: u64,
    /// Whether to start even if that loses what is still there, because something else is gone.
    pub accepts_loss: bool,
    /// Whether to confirm as soon as the operating system has the bytes, before the disk has them:
    /// a power failure then loses confirmed messages.
    pub relaxed: bool,
}

/// Limits for clients and memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body of a message.
    pub message_bytes_max: u64,
    /// Publishers are held while the process uses more memory than this.
    pub memory_bytes_max: u64,
    /// Memory that one connection's unfinished messages and open transactions may take, in addition
    /// to one message of the largest size.
    pub connection_unfinished_bytes_max: u64,
    /// The most AMQP connections that one user may have open; 0 is no limit.
    pub connections_per_user_max: usize,
    /// How much of its heap the process uses, and how to give the rest back. If `None`, all
    /// resident memory counts as used.
    pub heap: Option<Heap>,
}

/// The process's memory allocator, as far as it can be queried.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Tells what is allocated and what is kept for reuse.
    pub usage: fn() -> HeapUsage,
    /// Gives free memory back to the operating system.
    pub trim: fn(),
}

/// How much of a heap is in use, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// Allocated.
    pub used_bytes: u64,
    /// Freed, but not given back to the operating system.
    pub free_bytes: u64,
}

impl Limits {
    /// Memory that one connection's unfinished messages and transactions may take, bytes.
    pub(crate) fn of_connection_bytes_max(&self) -> u64 {
        self.connection_unfinished_bytes_max.saturating_add(self.message_bytes_max)
    }

    /// Memory that one user's unfinished messages and transactions may take, bytes: half of what all
    /// may take, but always enough for one message.
    pub(crate) fn of_user_bytes_max(&self) -> u64 {
        (self.of_all_bytes_max() / 2).max(self.message_bytes_max.saturating_add(1 << 20))
    }

    /// Memory that all unfinished messages and transactions may take together, bytes: a quarter of
    /// the process's limit, but always enough for one message.
    pub(crate) fn of_all_bytes_max(&self) -> u64 {
        (self.memory_bytes_max / 4).max(self.message_bytes_max.saturating_add(16 << 20))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: "wilco-data".into(),
            store: StoreOptions::default(),
            ledger: ledger::Options::default(),
            limits: Limits::default(),
            loopback_users: vec!["guest".to_owned()],
            clock: Arc::new(SystemClock),
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 << 20,
            body_cache_bytes: 64 << 20,
            disk_free_bytes_min: 50_000_000,
            accepts_loss: false,
            relaxed: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let memory_bytes_max = default_memory_bytes_max();
        let (message_bytes_max, connection_unfinished_bytes_max) = (16 << 20, 128 << 20);
        let heap = None;
        Self {
            message_bytes_max,
            memory_bytes_max,
            connection_unfinished_bytes_max,
            connections_per_user_max: 0,
            heap,
        }
    }
}

/// Six tenths of the machine's memory, like RabbitMQ's high watermark.
fn default_memory_bytes_max() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    total_kib.map_or(4 << 30, |kib: u64| kib * 1024 / 10 * 6)
}
