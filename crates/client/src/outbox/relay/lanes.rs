//! How much is under way to each queue or topic, and when the next may be.
//!
//! Each has a window of its own, so one without workers, or that is full, holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use crate::connection::Connection;
use crate::outbox::stored::target_of;
use crate::producer::EncodedProducer;
use crate::worker::Backoff;

/// How long to wait before something is tried again.
pub(super) const AGAIN: Backoff =
    Backoff::exponential(Duration::from_secs(1)).at_most(Duration::from_secs(60));
/// Lanes that may lie idle.
const IDLE_MAX: usize = 1000;

/// See the module's documentation.
pub(super) struct Lane {
    pub(super) producer: Arc<EncodedProducer>,
    /// Those under way that the rows still have as ready.
    pub(super) unmarked: usize,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Lane {
    /// For how many there is room now.
    pub(super) fn room(&self) -> usize {
        match self.paused_until.is_some_and(|until| Instant::now() < until) {
            true => 0,
            false => self.producer.room(),
        }
    }

    /// Something is wrong with the queue, or the way there: all those behind wait for some time. Those that
    /// fail meanwhile have failed for the same reason.
    pub(super) fn pause(&mut self) {
        let now = Instant::now();
        if self.paused_until.is_none_or(|until| until <= now) {
            self.failures = self.failures.saturating_add(1);
            self.paused_until = Some(now + AGAIN.after(self.failures));
        }
    }

    pub(super) fn go_on(&mut self) {
        (self.failures, self.paused_until) = (0, None);
    }
}

/// All lanes, by the target as rows have it.
pub(super) struct Lanes {
    connection: Arc<Connection>,
    settings: Settings,
    by_target: HashMap<Arc<str>, Lane>,
}

impl Lanes {
    pub(super) fn new(connection: Arc<Connection>, settings: Settings) -> Self {
        Self { connection, settings, by_target: HashMap::new() }
    }

    pub(super) fn lane(&mut self, target: &str) -> Option<&mut Lane> {
        self.by_target.get_mut(target)
    }

    /// The same, and makes it. `None`: no such thing can be sent to.
    pub(super) fn open(&mut self, column: &Arc<str>) -> Option<&mut Lane> {
        if !self.by_target.contains_key(column) {
            let Settings { window, window_bytes, .. } = self.settings;
            if self.by_target.len() >= IDLE_MAX {
                self.by_target.retain(|_, lane| lane.producer.room() < window);
            }
            let target = target_of(column)?;
            let connection = Arc::clone(&self.connection);
            let producer = EncodedProducer::new(connection, target, window, window_bytes);
            let producer = Arc::new(producer);
            let lane = Lane { producer, unmarked: 0, failures: 0, paused_until: None };
            self.by_target.insert(Arc::clone(column), lane);
        }
        self.by_target.get_mut(column)
    }

    pub(super) fn clear(&mut self) {
        self.by_target.clear();
    }
}
