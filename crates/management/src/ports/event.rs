//! What happened to messages, as the ports present it.
//!
//! Passes on those types of crate `outcome` that say nothing about where `outcome` or a ledger
//! keeps things; nothing else in this crate but `over_node` knows the ledger. Where a type has a
//! field for such a place ([`Published::position`], [`PublishedQueue::id`], [`Settled::message`]),
//! it is empty: nobody reads it.

use std::fmt;

// What clients write need not be UTF-8.
pub use outcome::{BStr, BString, ByteSlice};
pub use outcome::{
    NAMELESS_QUEUE, Outcome, Published, PublishedQueue, Settled, Stage, What, Worker,
};
// How a timeline is made from events; their positions are numbers that module `view` gives them.
pub(crate) use outcome::Cursor as Place;
pub(crate) use outcome::{Entry, Event, IdHash, Publication, QueueStory, Timeline};

/// Where an event stands in the order of all events. Only the port that made it can read it, so
/// here it is text: shown to clients, and handed back by them ([`super::Messages::cursor`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// For implementations of a port: the cursor with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened to a message.
#[derive(Debug, Clone)]
pub struct MessageEvent {
    /// Its place.
    pub cursor: Cursor,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// What.
    pub what: What<'static>,
}

/// One outcome among those of all messages.
#[derive(Debug, Clone)]
pub struct OutcomeEvent {
    /// Its place.
    pub cursor: Cursor,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// The outcome.
    pub settled: Box<Settled<'static>>,
}

/// Which outcomes, and from where on.
#[derive(Debug, Clone, Default)]
pub struct OutcomeQuery {
    /// Only those after this one.
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
pub struct OutcomePage {
    /// In order.
    pub events: Vec<OutcomeEvent>,
    /// Everything up to here was looked at: ask on from here. A page may be empty and yet have
    /// more behind it, since one question looks at a bounded stretch only.
    pub next: Option<Cursor>,
    /// Whether there was more to look at when this was answered.
    pub has_more: bool,
}
