//! What can happen to a tracked message.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use amqp::BStr;

use crate::{Details, IdHash, Verdict};

/// Where an event stands in the message log: the position of its record, and its number among that
/// record's events. Orders all events; never changes, even if the ledger is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// Position of the record in the message log.
    pub position: u64,
    /// Number of the event within the record, from 0.
    pub nth: u32,
}

/// `position-nth`, in decimal digits.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.nth)
    }
}

/// The text was not `position-nth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor looks like 1234-0")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (position, nth) = text.split_once('-').ok_or(CursorError)?;
        let position = position.parse().map_err(|_| CursorError)?;
        Ok(Self { position, nth: nth.parse().map_err(|_| CursorError)? })
    }
}

/// One thing that happened to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its place in the message log.
    pub at: Cursor,
    /// Whose event it is.
    pub id: IdHash,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// What.
    pub what: What<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What<'a> {
    /// It was published and routed, possibly to no queue at all.
    Published(Published<'a>),
    /// It was delivered to a consumer.
    Delivered {
        /// The queue it came from.
        queue: Cow<'a, str>,
        /// Whom it went to.
        worker: Cow<'a, str>,
        /// Deliveries so far, this one included.
        attempt: u16,
    },
    /// A delivery ended without settling it; it waits for the next one.
    Requeued {
        /// The queue.
        queue: Cow<'a, str>,
        /// Deliveries so far.
        attempt: u16,
        /// When it can be delivered again, ms since the epoch; 0 for at once.
        retry_at_ms: u64,
    },
    /// Its outcome in one queue.
    Settled(Box<Settled<'a>>),
    /// A worker says how far it has got.
    Progress {
        /// The queue.
        queue: Cow<'a, str>,
        /// In thousandths.
        permille: u16,
        /// What it is doing, in its words.
        text: Cow<'a, str>,
    },
    /// The producer has acked the outcome message.
    Received {
        /// The queue whose outcome that was.
        queue: Cow<'a, str>,
    },
    /// The message is at another place in the message log now.
    Moved {
        /// Its position there.
        position: u64,
    },
}

/// A message that was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published<'a> {
    /// The virtual host.
    pub vhost: Cow<'a, str>,
    /// Its id: the property `message_id`.
    pub id: Cow<'a, BStr>,
    /// The exchange; empty for the default exchange.
    pub exchange: Cow<'a, str>,
    /// The routing key.
    pub routing_key: Cow<'a, BStr>,
    /// The queues it was routed to, each once.
    pub queues: Vec<PublishedQueue<'a>>,
    /// Where it stands in the message log.
    pub position: u64,
    /// Size of its body.
    pub body_bytes: u32,
    /// The producer's deadline, ms since the epoch; 0 for none.
    pub deadline_at_ms: u64,
    /// Whether it is a copy that was published to a dead-letter exchange.
    pub is_copy: bool,
    /// Whether its queues detect duplicates of it: each of them remembers the id from now on.
    pub is_deduplicated: bool,
}

/// How a name begins that stands for a queue which was deleted before its name was looked up.
pub const NAMELESS_QUEUE: &str = "(deleted queue ";

/// A queue that a message was routed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedQueue<'a> {
    /// The queue's number, never used for another queue.
    pub id: u32,
    /// Its name.
    pub name: Cow<'a, str>,
}

impl PublishedQueue<'_> {
    /// What a queue is called whose name is no longer known.
    pub fn nameless(id: u32) -> String {
        format!("{NAMELESS_QUEUE}{id})")
    }
}

/// The outcome of a message in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The virtual host.
    pub vhost: Cow<'a, str>,
    /// The queue; empty if the message reached none.
    pub queue: Cow<'a, str>,
    /// What became of it.
    pub verdict: Verdict,
    /// The rest of what is known.
    pub details: Details<'a>,
    /// The encoded message, if it is kept so that it can be retried.
    pub message: Option<Cow<'a, [u8]>>,
}
