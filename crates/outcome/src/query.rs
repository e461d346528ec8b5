//! Queries for outcomes, and their answers.

use crate::{Cursor, Event, Outcome};

/// Which outcomes to return, and where to start.
#[derive(Debug, Clone, Default)]
pub struct OutcomeQuery {
    /// Only those after this one, in the order of the message log.
    pub after: Option<Cursor>,
    /// At most this many; 0 means 1.
    pub limit: usize,
    /// Only those in this virtual host.
    pub vhost: Option<String>,
    /// Only those in this queue.
    pub queue: Option<String>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Settled at or after this time, ms since the epoch.
    pub since_ms: Option<u64>,
    /// Settled before this time, ms since the epoch.
    pub until_ms: Option<u64>,
}

/// One page of outcomes.
#[derive(Debug, Clone, Default)]
pub struct OutcomesPage {
    /// In order; each is a [`crate::What::Settled`].
    pub events: Vec<Event<'static>>,
    /// Everything up to here was examined: continue from here. A page may be empty and still have
    /// more after it, since one query examines only a bounded stretch.
    pub next: Option<Cursor>,
    /// Whether there was more to examine when this was answered.
    pub has_more: bool,
}
