//! What is done at certain times, and what nobody should wait for: a thread of its own in a living
//! node.
//!
//! Queues are looked at when their first deadline comes. In every [`ROUND`] the definition store is
//! brought up to date, the log is compacted, and free disk and memory are checked, to hold
//! publishers or let them go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::memory::Memory;

/// How much time passes between two rounds.
const ROUND: Duration = Duration::from_millis(250);

/// See the module's documentation.
pub(crate) struct Maintenance {
    engine: Arc<Engine>,
    memory: Memory,
    /// The definitions could not be written, and that has been logged.
    definitions_fail: AtomicBool,
}

impl Maintenance {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let definitions_fail = AtomicBool::new(false);
        Self { engine: Arc::clone(engine), memory: Memory::open(), definitions_fail }
    }

    /// The thread's life, until the deadlines are closed.
    pub(crate) fn run(&self) {
        let mut round_at = Instant::now() + ROUND;
        while self.engine.deadlines.wait(self.engine.now_ms(), round_at) {
            self.engine.look_at_due_queues();
            if Instant::now() >= round_at {
                self.round();
                round_at = Instant::now() + ROUND;
            }
        }
    }

    pub(crate) fn round(&self) {
        let engine = &self.engine;
        match engine.store.apply_definitions() {
            Ok(()) => self.definitions_fail.store(false, Ordering::Relaxed),
            Err(error) => {
                // They stay in the log and are tried again every round, but this is logged only
                // once.
                if !self.definitions_fail.swap(true, Ordering::Relaxed) {
                    tracing::error!("the definition store cannot be written, and waits: {error}");
                }
            }
        }
        if let Err(error) = engine.compact() {
            tracing::warn!("the log could not be compacted: {error}");
        }
        engine.expire_held_confirms();
        self.watch_resources();
        if engine.store.has_deletable_segments() {
            engine.store.look_again();
        }
    }

    fn watch_resources(&self) {
        let engine = &self.engine;
        let disk_is_low = !engine.store.look_at_disk() || engine.store.stuck().is_some();
        if disk_is_low {
            engine.store.close_dead_segment();
        }
        engine.store.restore_reserve();
        let memory_is_low = self.memory.is_low(&engine.limits);
        match disk_is_low || memory_is_low {
            true => engine.hold_publishers(disk_is_low, memory_is_low),
            false => engine.release_publishers(),
        }
    }
}
