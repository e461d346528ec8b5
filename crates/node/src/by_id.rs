//! What others may ask about tracked messages and do to them by id: the ledger, cancel, retry.
//!
//! The caller must check who may do so ([`Node::may`]).
//!
//! *Invariant:* what is done to a message by id is done by one caller at a time, from its look at the
//! events to the commit. What clients do meanwhile is found by the queue (it no longer holds the
//! message) or by the ids in flight (the id is taken).

use std::sync::Arc;
use std::time::Duration;

use amqp::BStr;
use broker::message::Origin;
use broker::queue::Incoming;
use broker::{Message, Position, Tracking};
use ledger::{Ledger, dedup_key};
use outcome::{Event, IdHash, Outcome, What};

use crate::engine::outcomes::duplicates::last_outcome;
use crate::engine::whereabouts::{find, positions};
use crate::node::Node;
use crate::registry::{LiveQueue, Vhost};
use crate::store::records;

/// How often, and how many times, to ask whether the ledger has caught up with the log.
const FOLLOW_AGAIN: Duration = Duration::from_millis(1);
const FOLLOW_TRIES_MAX: u32 = 5000;

/// Why a message cannot be cancelled or tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
        "the message's content is not kept: its body was larger than 64 KiB, or the disk was nearly \
         full when it failed"
    )]
    ContentGone,
    /// The queue in which it failed has been deleted.
    #[error("the queue '{0}' is deleted")]
    QueueGone(String),
    /// The queue in which it failed is at its limit and refuses more.
    #[error("the queue '{0}' is full; try again when workers have taken some of its messages")]
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
        let vhost = self.engine.registry.vhost(vhost).ok_or(ByIdError::Unknown)?;
        let live = vhost.queue_named(queue).ok_or(ByIdError::Unknown)?;
        let id = IdHash::new(&vhost.realm, id);
        let _turn = self.by_id_turns.begin(id.0);
        let events = self.events_up_to_now(id)?;
        if self.take_out(&live, &positions(&events, live.id.0))? {
            return Ok(());
        }
        let is_settled = |event: &Event<'_>| matches!(&event.what, What::Settled(settled) if *settled.queue == *queue);
        Err(if events.iter().any(is_settled) { ByIdError::Settled } else { ByIdError::Unknown })
    }

    /// Publishes a message that failed (or expired, or was dropped) in a queue to that queue again,
    /// under the same id. If dead-letter copies of it are still queued, those are removed whose
    /// queues, by name, `may_take` allows.
    ///
    /// # Errors
    /// [`ByIdError`]; nothing has changed then.
    pub fn retry_message(
        &self,
        vhost: &str,
        queue: &str,
        id: &str,
        may_take: impl Fn(&str) -> bool,
    ) -> Result<(), ByIdError> {
        let vhost = self.engine.registry.vhost(vhost).ok_or(ByIdError::Unknown)?;
        let id = IdHash::new(&vhost.realm, id);
        let _turn = self.by_id_turns.begin(id.0);
        let events = self.events_up_to_now(id)?;
        let live = vhost.queue_named(queue);
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
        self.take_out_copies(&vhost, &events, may_take)
    }

    fn publish_again(&self, queue: &Arc<LiveQueue>, old: &Message) -> Result<(), ByIdError> {
        let now_ms = self.engine.now_ms();
        let message = again(queue, old, now_ms)?;
        let body_bytes = message.body().len() as u64;
        let has_room = self
            .engine
            .with_queue(queue, now_ms, |core, effects| core.reserve(now_ms, body_bytes, effects));
        match has_room {
            Some(true) => {}
            Some(false) => return Err(ByIdError::QueueFull(queue.name.to_string())),
            None => return Err(ByIdError::QueueGone(queue.name.to_string())),
        }
        let Some(position) = self.append_again(queue, &message, now_ms) else {
            self.engine.with_queue(queue, now_ms, |core, _| core.give_up_reservation(body_bytes));
            return Err(ByIdError::NotFailed);
        };
        let position = Some(Position::new(position));
        let put = self.engine.with_queue(queue, now_ms, |core, effects| {
            let message = message.clone();
            let incoming = Incoming { message, position, keep_body: self.engine.keeps_bodies() };
            core.publish_reserved(now_ms, incoming, effects);
        });
        if put.is_none() {
            let engine = &self.engine;
            engine.with_agenda(|agenda| engine.lose(queue, Some(message), position, agenda));
            return Err(ByIdError::QueueGone(queue.name.to_string()));
        }
        self.engine.store.sync_all().map_err(|error| store_error(&error))
    }

    /// Appends it to the log. `None`: another message with this id has come to the queue meanwhile.
    fn append_again(&self, queue: &LiveQueue, message: &Message, now_ms: u64) -> Option<u64> {
        let append = || {
            let (position, _) = self.engine.store.append(None, |appender| {
                records::append_message(appender.batch, std::iter::once(queue.id), message)
            });
            position
        };
        let tracking = message.tracking()?;
        if !tracking.is_deduplicated {
            return Some(append());
        }
        let key = dedup_key(IdHash(tracking.id), &queue.name);
        let mut ids = self.engine.outcomes.ids.lock();
        ids.take_in_again(key, now_ms).then(append)
    }

    /// Removes copies of a message from dead-letter queues: the message itself now has another
    /// chance.
    fn take_out_copies(
        &self,
        vhost: &Vhost,
        events: &[Event<'_>],
        may_take: impl Fn(&str) -> bool,
    ) -> Result<(), ByIdError> {
        let copies = events.iter().filter_map(|event| match &event.what {
            What::Published(published) if published.is_copy => Some(&published.queues),
            _ => None,
        });
        for of in copies.flatten() {
            let live = vhost.queue_named(&of.name).filter(|live| live.id.0 == of.id);
            let Some(live) = live.filter(|live| may_take(&live.name)) else { continue };
            match self.take_out(&live, &positions(events, of.id)) {
                // A worker has it already.
                Ok(_) | Err(ByIdError::Delivered) => {}
                Err(error) => return Err(error),
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
                self.engine.store.sync_all().map_err(|error| store_error(&error))?;
                Ok(true)
            }
            Some(false) => Err(ByIdError::Delivered),
            None => Ok(false),
        }
    }

    /// All events of a message up to whatever any client can have been told by now: confirms, acks,
    /// outcomes. No commit is waited for.
    ///
    /// # Errors
    /// [`ByIdError::Unknown`] without that virtual host, [`ByIdError::Store`].
    pub fn events_told(&self, vhost: &str, id: &str) -> Result<Vec<Event<'static>>, ByIdError> {
        let realm = self.realm(vhost).ok_or(ByIdError::Unknown)?;
        self.follow_told()?;
        self.events_followed(IdHash::new(&realm, id))
    }

    /// Waits until the ledger has whatever any client can have been told by now.
    ///
    /// # Errors
    /// [`ByIdError::Store`].
    pub fn follow_told(&self) -> Result<(), ByIdError> {
        self.follow_to(self.engine.store.durable())
    }

    /// Waits until the ledger has everything up to this moment. Blocks for a commit of the store.
    ///
    /// # Errors
    /// [`ByIdError::Store`].
    pub fn follow_now(&self) -> Result<(), ByIdError> {
        let end = self.engine.store.append(None, |_| ()).1;
        self.engine.store.sync_all().map_err(|error| store_error(&error))?;
        self.follow_to(end)
    }

    fn events_up_to_now(&self, id: IdHash) -> Result<Vec<Event<'static>>, ByIdError> {
        self.follow_now()?;
        self.events_followed(id)
    }

    /// What the ledger has, and what the last start did.
    fn events_followed(&self, id: IdHash) -> Result<Vec<Event<'static>>, ByIdError> {
        let mut events = self.engine.ledger.events(id).map_err(|error| store_error(&error))?;
        self.engine.started.requeue(&mut events);
        Ok(events)
    }

    /// Waits until the ledger has what stands before a position of the log that is durable.
    fn follow_to(&self, end: u64) -> Result<(), ByIdError> {
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
        Ok(())
    }
}

/// The message as it is published again: to its queue alone, and without a deadline.
fn again(queue: &LiveQueue, old: &Message, now_ms: u64) -> Result<Message, ByIdError> {
    let properties = old.properties().map_err(|error| store_error(&error))?;
    let before = old.tracking().unwrap_or_default();
    let tracking = Tracking {
        id: before.id,
        notify: before.notify,
        is_deduplicated: before.is_deduplicated,
        is_unanswerable: before.is_unanswerable,
        queue_count: 1,
        ..Tracking::default()
    };
    let (has_died, has_bcc) = (old.head().has_died, old.head().has_bcc);
    let origin = Origin { tracking: Some(&tracking), has_died, has_bcc };
    let content = ("", BStr::new(&*queue.name), old.properties_bytes(), old.body());
    Ok(Message::build(now_ms, &properties, content, origin, &mut Vec::new()))
}

fn store_error(error: &dyn std::fmt::Display) -> ByIdError {
    ByIdError::Store(error.to_string())
}
