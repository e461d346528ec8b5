//! Questions about outcomes.

use crate::{Cursor, Event, Outcome};

/// Which outcomes, and from where on.
#[derive(Debug, Clone, Default)]
pub struct OutcomeQuery {
    /// Only those after this one, in the order of the message log.
    pub after: Option<Cursor>,
    /// At most so many; 0 is taken as 1.
    pub limit: usize,
    /// Of this virtual host only.
    pub vhost: Option<String>,
    /// Of this queue only.
    pub queue: Option<String>,
    /// Of this kind only.
    pub outcome: Option<Outcome>,
    /// Settled at or after this time, ms since the epoch.
    pub since_ms: Option<u64>,
    /// Settled before this time, ms since the epoch.
    pub until_ms: Option<u64>,
}

/// Some outcomes.
#[derive(Debug, Clone, Default)]
pub struct OutcomesPage {
    /// In order; each is a [`crate::What::Settled`].
    pub events: Vec<Event<'static>>,
    /// Everything up to here was looked at: ask on from here. A page may be empty and yet have
    /// more behind it, since one question looks at a bounded stretch only.
    pub next: Option<Cursor>,
    /// Whether there was more to look at when this was answered.
    pub has_more: bool,
}
