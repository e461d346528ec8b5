//! What others may ask about tracked messages and do to them by id: the ledger, cancel, retry.
//!
//! The caller must check who may do so ([`Node::may`]).

use std::sync::Arc;
use std::time::Duration;

use amqp::BStr;
use broker::queue::{Incoming, Published};
use broker::{Message, Position, Tracking};
use ledger::Ledger;
use outcome::{Event, IdHash, Outcome, What};

use crate::engine::outcomes::duplicates::last_outcome;
use crate::engine::whereabouts::{find, positions};
use crate::node::Node;
use crate::registry::LiveQueue;
use crate::store::records;

/// How often, and how many times, to ask whether the ledger has caught up with the log.
const FOLLOW_AGAIN: Duration = Duration::from_millis(1);
const FOLLOW_TRIES_MAX: u32 = 5000;

/// Why a message cannot be cancelled or tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ByIdError {
    /// Nobody knows the id, or not in this queue.
    #[error("no message with this id is known here")]
    Unknown,
    /// A worker has it.
    #[error("the message is being worked on; only a queued one can be cancelled")]
    Delivered,
    /// It has an outcome already.
    #[error("the message has its outcome already")]
    Settled,
    /// Only a message that has failed can be tried again.
    #[error("the message has not failed, so there is nothing to try again")]
    NotFailed,
    /// The content of the message is gone.
    #[error(
        "the message's content is not kept: its body was larger than 64 KiB, or it was processed"
    )]
    ContentGone,
    /// The queue in which it failed has been deleted.
    #[error("the queue '{0}' is deleted")]
    QueueGone(String),
    /// The queue in which it failed is at its limit and refuses more.
    #[error("the queue '{0}' is full")]
    QueueFull(String),
    /// The ledger or the log cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
}

impl Node {
    /// What became of messages.
    pub fn ledger(&self) -> &Ledger {
        &self.engine.ledger
    }

    /// Waits (as a future, or blocking) until the ledger has more events than now. Get this first,
    /// then look, then wait.
    pub fn ledger_changed(&self) -> event_listener::EventListener {
        self.writer.changed()
    }

    /// Takes a queued message out of a queue; its outcome is `dropped`, the reason `cancelled`.
    ///
    /// # Errors
    /// [`ByIdError`]; nothing has changed then.
    pub fn cancel_message(&self, vhost: &str, queue: &str, id: &str) -> Result<(), ByIdError> {
        let live = self.engine.registry.queue_named(vhost, queue).ok_or(ByIdError::Unknown)?;
        let events = self.events_now(vhost, id)?;
        if self.take_out(&live, &positions(&events, live.id.0))? {
            return Ok(());
        }
        let is_settled = |event: &Event<'_>| matches!(&event.what, What::Settled(settled) if *settled.queue == *queue);
        Err(if events.iter().any(is_settled) { ByIdError::Settled } else { ByIdError::Unknown })
    }

    /// Publishes a message that failed (or expired, or was dropped) in a queue to that queue again,
    /// under the same id. If a dead-letter copy of it is still queued, that is removed.
    ///
    /// # Errors
    /// [`ByIdError`]; nothing has changed then.
    pub fn retry_message(&self, vhost: &str, queue: &str, id: &str) -> Result<(), ByIdError> {
        let events = self.events_now(vhost, id)?;
        let live = self.engine.registry.queue_named(vhost, queue);
        let live_id = live.as_ref().map(|live| live.id.0);
        let Some((last, _)) = last_outcome(&events, live_id, queue) else {
            return Err(if events.is_empty() { ByIdError::Unknown } else { ByIdError::NotFailed });
        };
        let is_open = last.verdict.outcome == Outcome::DeadlineMissed
            && live.as_ref().is_some_and(|live| self.engine.is_in_queue(live, &events));
        if last.verdict.outcome == Outcome::Processed || is_open {
            return Err(ByIdError::NotFailed);
        }
        let live = live.ok_or_else(|| ByIdError::QueueGone(queue.to_owned()))?;
        let content = last.message.as_deref().and_then(Message::from_encoded);
        self.publish_again(&live, &content.ok_or(ByIdError::ContentGone)?)?;
        self.take_out_copies(&events)
    }

    fn publish_again(&self, queue: &Arc<LiveQueue>, old: &Message) -> Result<(), ByIdError> {
        let now_ms = self.engine.now_ms();
        let properties = old.properties().map_err(|error| ByIdError::Store(error.to_string()))?;
        let before = old.tracking().unwrap_or_default();
        let tracking = Tracking {
            id: before.id,
            notify: before.notify,
            queue_count: 1,
            ..Tracking::default()
        };
        let content = ("", BStr::new(&*queue.name), old.properties_bytes(), old.body());
        let message =
            Message::tracked(now_ms, &properties, content, Some(&tracking), &mut Vec::new());
        let (position, _) = self.engine.store.append(None, |appender| {
            let id = std::iter::once(queue.id);
            Some(Position::new(records::append_message(appender.batch, id, &message)))
        });
        let put = self.engine.with_queue(queue, now_ms, |core, effects| {
            let message = message.clone();
            let incoming = Incoming { message, position, keep_body: self.engine.keeps_bodies() };
            core.publish(now_ms, incoming, effects)
        });
        self.engine.readmit_id(queue, IdHash(before.id));
        if put == Some(Published::Refused) {
            return Err(ByIdError::QueueFull(queue.name.to_string()));
        }
        if put.is_none() {
            let engine = &self.engine;
            engine.with_agenda(|agenda| engine.lose(queue, Some(message), position, agenda));
            return Err(ByIdError::QueueGone(queue.name.to_string()));
        }
        self.engine.store.sync_all().map_err(|error| ByIdError::Store(error.to_string()))
    }

    /// Removes copies of a message from dead-letter queues: the message itself now has another
    /// chance.
    fn take_out_copies(&self, events: &[Event<'_>]) -> Result<(), ByIdError> {
        let copies = events.iter().filter_map(|event| match &event.what {
            What::Published(published) if published.is_copy => Some(published),
            _ => None,
        });
        for copy in copies {
            for of in &copy.queues {
                let live = self.engine.registry.queue_named(&copy.vhost, &of.name);
                if let Some(live) = live.filter(|live| live.id.0 == of.id) {
                    match self.take_out(&live, &positions(events, of.id)) {
                        // A worker has it already.
                        Ok(_) | Err(ByIdError::Delivered) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes out a message that stands at one of these positions. `false` if none does.
    fn take_out(&self, queue: &Arc<LiveQueue>, wanted: &[u64]) -> Result<bool, ByIdError> {
        let Some(entry) = find(queue, wanted) else { return Ok(false) };
        let now_ms = self.engine.now_ms();
        let cancelled =
            self.engine.with_queue(queue, now_ms, |core, effects| core.cancel(entry, effects));
        match cancelled.flatten() {
            Some(true) => {
                self.engine
                    .store
                    .sync_all()
                    .map_err(|error| ByIdError::Store(error.to_string()))?;
                Ok(true)
            }
            Some(false) => Err(ByIdError::Delivered),
            None => Ok(false),
        }
    }

    /// All events of a message up to this moment: waits for the ledger to catch up with the log.
    /// Blocks for a commit of the store.
    ///
    /// # Errors
    /// [`ByIdError::Store`].
    pub fn events_now(&self, vhost: &str, id: &str) -> Result<Vec<Event<'static>>, ByIdError> {
        let store_error = |error: &dyn std::fmt::Display| ByIdError::Store(error.to_string());
        let end = self.engine.store.append(None, |_| ()).1;
        self.engine.store.sync_all().map_err(|error| store_error(&error))?;
        // The committer passes records to the ledger writer a moment after it has notified those who
        // waited.
        let mut patience = FOLLOW_TRIES_MAX;
        while self.writer.follow(false) < end {
            patience -= 1;
            if patience == 0 {
                return Err(ByIdError::Store("the ledger does not follow the log".to_owned()));
            }
            std::thread::sleep(FOLLOW_AGAIN);
        }
        self.engine.ledger.events(IdHash::new(vhost, id)).map_err(|error| store_error(&error))
    }
}
