//! A message on its way in, and what immediately became of it.

use std::num::NonZeroU64;

use serde_json::{Map, Value};

use super::Cursor;

/// A message to publish.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The id by which it is known.
    pub message_id: String,
    /// The AMQP property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The AMQP property `content_type`.
    pub content_type: Option<String>,
    /// Its headers, nested no deeper than 16.
    pub headers: Map<String, Value>,
    /// The AMQP property `priority`.
    pub priority: Option<u8>,
    /// Time to live in the queue.
    pub expiration_ms: Option<u64>,
    /// Measured from now; a later outcome is too late for its producer.
    pub deadline_ms: Option<NonZeroU64>,
    /// Whether queues that have seen its id drop it, unless they say themselves; if `None`, they do
    /// when it asks for its outcome, as over AMQP.
    pub deduplicate: Option<bool>,
    /// Whether it is to survive a restart.
    pub persistent: bool,
    /// Its content.
    pub body: Vec<u8>,
}

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Whether it reached at least one queue.
    pub routed: bool,
    /// Whether a queue knew its id already and dropped it.
    pub is_duplicate: bool,
    /// Tells it from other messages with its id; `None` when it is not a message of its own that
    /// could have an outcome: a duplicate.
    pub receipt: Option<Receipt>,
}

/// By what a publisher recognizes its own publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The cursor of the event of its publication; `None` when it reached no queue: then there is
    /// only an outcome.
    pub published: Option<Cursor>,
    /// When it was published, ms since the epoch, as in all its events.
    pub published_at_ms: u64,
}
