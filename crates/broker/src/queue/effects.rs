//! What follows from a command: buffers of the caller, filled under the queue's lock and worked
//! off after it is released.

use std::sync::Arc;

use outcome::{Reason, SettledBy};

use super::consumers::ConsumerKey;
use super::priority_levels::Place;
use crate::{Message, Position};

/// A message that left a queue.
#[derive(Debug)]
pub struct Removed {
    /// `None` when its body is only in the log.
    pub message: Option<Message>,
    /// Where it stands in the log, if it is there.
    pub position: Option<Position>,
    /// Why.
    pub reason: Reason,
    /// Whether it is to be sent on to the queue's dead-letter exchange.
    pub dead_letter: bool,
    /// Whether its outcome may matter to somebody.
    pub is_tracked: bool,
    /// Whether its deadline had passed and was told.
    pub missed_deadline: bool,
    /// Deliveries.
    pub attempts: u16,
    /// Who settled it, of a tracked message that somebody settled.
    pub by: Option<Arc<SettledBy>>,
}

/// A tracked message that was given back, or whose deadline has passed.
#[derive(Debug)]
pub struct Noted {
    /// `None` when its body is only in the log.
    pub message: Option<Message>,
    /// Where it stands in the log, if it is there.
    pub position: Option<Position>,
    /// Deliveries so far.
    pub attempts: u16,
    /// When it can be delivered again, ms since the epoch; 0 for at once.
    pub retry_at_ms: u64,
}

/// A message that was given back and whose attempts must outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Where it stands in the log.
    pub position: Position,
    /// Deliveries so far.
    pub count: u16,
}

/// What a queue's commands leave to be done once its lock is released.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be logged as settled, dead-lettered, freed.
    pub removed: Vec<Removed>,
    /// To be logged.
    pub attempts: Vec<Attempt>,
    /// Tracked messages that were given back.
    pub requeued: Vec<Noted>,
    /// Tracked messages whose deadline has passed: their outcome, unless an ack turns it.
    pub missed: Vec<Noted>,
    /// Removed messages that are more work than a settlement in the log: tracked, dead-lettered.
    pub special_count: usize,
}

impl Effects {
    pub(super) fn remove(&mut self, removed: Removed) {
        self.special_count += usize::from(removed.is_tracked || removed.dead_letter);
        self.removed.push(removed);
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.attempts.is_empty()
            && self.requeued.is_empty()
            && self.missed.is_empty()
    }
}

/// Tells one delivery of one message in one queue from every other.
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

/// A message on its way to a consumer, or to who asked for it.
#[derive(Debug)]
pub struct Delivery {
    /// To settle it by.
    pub id: DeliveryId,
    /// Whom it is for.
    pub consumer: ConsumerKey,
    /// Index into [`Outgoing::endpoints`].
    pub endpoint: u32,
    /// `None`: to be read from the log.
    pub message: Option<Message>,
    /// Where it stands in the log, if it is there.
    pub position: Option<Position>,
    /// Size of its body, for which room is reserved.
    pub body_bytes: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Deliveries before this one.
    pub attempts_before: u16,
    /// To be settled with [`super::Settlement::AutoAck`] once it has been handed over.
    pub settle_after: bool,
    /// Whether its outcome may matter to somebody.
    pub is_tracked: bool,
}

/// Deliveries that are assigned and wait to be handed over, in order.
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
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.deliveries.clear();
        self.endpoints.clear();
    }
}
