//! What goes into a queue, and the figures it reports.

use crate::{Message, Position};

/// A message that was routed here.
#[derive(Debug)]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// Its place in the log, if it is there.
    pub position: Option<Position>,
    /// Whether its body may stay in memory; must be `true` without a position.
    pub keep_body: bool,
}

/// What recovery knows of a message; its body stays in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restored {
    /// Its place in the log.
    pub position: u64,
    /// When it was published, ms since the epoch.
    pub published_at_ms: u64,
    /// The property `expiration`, ms.
    pub expiration_ms: Option<u64>,
    /// Size of its body.
    pub body_bytes: u32,
    /// The property `priority`.
    pub priority: u8,
    /// Deliveries before the restart, where they were counted.
    pub attempts: u16,
    /// Whether somebody may ask for its outcome.
    pub is_tracked: bool,
    /// The producer's deadline, ms since the epoch; 0 if there is none, or if its passing was
    /// already reported.
    pub deadline_at_ms: u64,
    /// Whether the passing of the deadline was already reported.
    pub missed_deadline: bool,
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// `basic.ack`.
    Ack,
    /// `basic.reject` or `basic.nack` without requeue.
    Reject,
    /// Back to its place; counts as an attempt.
    Requeue,
    /// Back to its place as if it had never been taken: it reached nobody.
    Undelivered,
    /// It was dispatched to a consumer that does not ack.
    AutoAck,
}

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is in the queue.
    Enqueued,
    /// The queue is full and configured to refuse; the removal is among the effects.
    Refused,
}

/// The figures a queue reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer.
    pub ready_count: u64,
    /// Messages that were delivered and are not settled.
    pub unsettled_count: u64,
    /// Messages that wait for their next attempt.
    pub delayed_count: u64,
    /// Bytes of the bodies of ready messages.
    pub ready_bytes: u64,
    /// Consumers.
    pub consumer_count: u32,
}
