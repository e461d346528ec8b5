//! A message on its way in, and what became of it at once.

use std::num::NonZeroU32;

use serde_json::{Map, Value};

use super::Cursor;

/// A message to publish.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// What it is known by.
    pub message_id: String,
    /// The property of this name.
    pub correlation_id: Option<String>,
    /// The property of this name.
    pub content_type: Option<String>,
    /// Its headers, nested no deeper than 16.
    pub headers: Map<String, Value>,
    /// The property of this name.
    pub priority: Option<u8>,
    /// Time to live in the queue.
    pub expiration_ms: Option<u32>,
    /// From now; later than that is too late for its producer.
    pub deadline_ms: Option<NonZeroU32>,
    /// Whether it is to survive a restart.
    pub persistent: bool,
    /// Its content.
    pub body: Vec<u8>,
}

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Whether it reached a queue.
    pub routed: bool,
    /// Whether a queue had seen its id and dropped it.
    pub is_duplicate: bool,
    /// As what it can be recognized among others of its id; `None` when it is no message of its own
    /// that anything could become of: a duplicate, a reply.
    pub receipt: Option<Receipt>,
}

/// By what a publisher knows its own publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The cursor of the event that it was published; `None` when it reached no queue: then there is
    /// an outcome only.
    pub published: Option<Cursor>,
    /// When it was published, ms since the epoch, as all its events have it.
    pub published_at_ms: u64,
}
