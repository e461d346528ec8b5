//! The consequences of a command: buffers of the caller, filled under the queue's lock and
//! processed after it is released.

use std::sync::Arc;

use outcome::{Reason, SettledBy};

use super::consumers::ConsumerKey;
use super::priority_levels::Place;
use crate::{Message, Position};

/// A message that left a queue.
#[derive(Debug)]
pub struct Removed {
    /// `None` if its body is only in the log.
    pub message: Option<Message>,
    /// Its place in the log, if it is there.
    pub position: Option<Position>,
    /// Why it left.
    pub reason: Reason,
    /// Whether to publish it to the queue's dead-letter exchange.
    pub dead_letter: bool,
    /// Whether somebody may ask for its outcome.
    pub is_tracked: bool,
    /// Whether its deadline had passed and was reported.
    pub missed_deadline: bool,
    /// Deliveries.
    pub attempts: u16,
    /// Who settled it, if it is tracked and somebody did.
    pub by: Option<Arc<SettledBy>>,
}

/// A tracked message that was given back, or whose deadline has passed.
#[derive(Debug)]
pub struct Noted {
    /// `None` if its body is only in the log.
    pub message: Option<Message>,
    /// Its place in the log, if it is there.
    pub position: Option<Position>,
    /// Deliveries so far.
    pub attempts: u16,
    /// When it can be delivered again, ms since the epoch; 0 for at once.
    pub retry_at_ms: u64,
}

/// A message that was given back, and whose attempts must survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Its place in the log.
    pub position: u64,
    /// Deliveries so far.
    pub count: u16,
}

/// What a queue's commands leave to do once its lock is released.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be logged as settled, dead-lettered, freed.
    pub removed: Vec<Removed>,
    /// To be logged.
    pub attempts: Vec<Attempt>,
    /// Tracked messages that were given back.
    pub requeued: Vec<Noted>,
    /// Tracked messages whose deadline has passed: that is their outcome, unless an ack changes it.
    pub missed: Vec<Noted>,
    /// How many removed messages need more than a settlement in the log: tracked or dead-lettered
    /// ones.
    pub special_count: usize,
}

impl Effects {
    pub(super) fn remove(&mut self, removed: Removed) {
        self.special_count += usize::from(removed.is_tracked || removed.dead_letter);
        self.removed.push(removed);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.attempts.is_empty()
            && self.requeued.is_empty()
            && self.missed.is_empty()
    }
}

/// Identifies one delivery of one message in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    pub(super) number: u64,
    pub(super) level: u8,
    pub(super) attempt: u16,
}

impl DeliveryId {
    /// Deliveries of the message so far.
    pub fn attempt(&self) -> u16 {
        self.attempt
    }

    pub(super) fn place(&self) -> Place {
        (self.level, self.number)
    }
}

/// A message on its way to a consumer, or to whoever asked for it with `basic.get`.
#[derive(Debug)]
pub struct Delivery {
    /// Identifies it when it is settled.
    pub id: DeliveryId,
    /// Who it is for.
    pub consumer: ConsumerKey,
    /// Index into [`Outgoing::endpoints`].
    pub endpoint: u32,
    /// `None` if it must be read from the log.
    pub message: Option<Message>,
    /// Its place in the log, if it is there.
    pub position: Option<Position>,
    /// Size of its body, for which room is reserved.
    pub body_bytes: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Deliveries before this one.
    pub attempts_before: u16,
    /// Whether to settle it with [`super::Settlement::AutoAck`] once it has been dispatched.
    pub settle_after: bool,
    /// Whether somebody may ask for its outcome.
    pub is_tracked: bool,
}

/// Assigned deliveries that wait to be dispatched, in order.
#[derive(Debug)]
pub struct Outgoing<E> {
    /// In order.
    pub deliveries: Vec<Delivery>,
    /// Where they go.
    pub endpoints: Vec<E>,
}

impl<E> Default for Outgoing<E> {
    fn default() -> Self {
        Self { deliveries: Vec::new(), endpoints: Vec::new() }
    }
}

impl<E> Outgoing<E> {
    /// Empties it but keeps its memory.
    pub fn clear(&mut self) {
        self.deliveries.clear();
        self.endpoints.clear();
    }
}
