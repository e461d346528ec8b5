//! Outcome messages that have been logged, and are put into their queues once that is durable.
//!
//! Whoever makes the log durable delivers them, so an outcome needs no further thread on its way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use amqp::{BStr, ByteSlice};
use broker::queue::{Effects, Incoming};
use broker::{Message, Position};

use crate::engine::{Agenda, Engine};
use crate::locks::Mutex;
use crate::registry::{ConsumerHandle, LiveQueue, Vhost};
use crate::store::{Appender, Waiter, records};

/// A message for somebody who asked for an outcome.
pub(crate) struct OutcomeNotification {
    pub recipient: Recipient,
    pub message: Message,
    /// Where it stands in the log, if it is there.
    pub position: Option<Position>,
    /// Whether room for it is reserved in its queue.
    pub is_reserved: bool,
}

/// Where it goes.
pub(crate) enum Recipient {
    Queue(Arc<LiveQueue>),
    /// A consumer of direct reply-to.
    Replies(Weak<ConsumerHandle>),
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct OutcomeNotifications {
    engine: OnceLock<Weak<Engine>>,
    /// Each with the position that must be durable first; mostly in the order of these.
    waiting: Mutex<Vec<(u64, OutcomeNotification)>>,
    /// Some thread is delivering; others leave their notifications to it.
    delivering: AtomicBool,
    /// Whether this is registered with the store as a waiter.
    waits_for_store: AtomicBool,
}

impl OutcomeNotification {
    /// Appends it if a restart must find it, or if memory for bodies is used up.
    pub(super) fn log(&mut self, appender: &mut Appender<'_>, keeps_bodies: bool) {
        let Recipient::Queue(target) = &self.recipient else { return };
        if target.durable || !keeps_bodies {
            let id = std::iter::once(target.id);
            let position = records::append_message(appender.batch, id, &self.message);
            self.position = Some(Position::new(position));
        }
    }
}

impl OutcomeNotifications {
    pub(crate) fn bind(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    /// Takes notifications whose group ends at `end`.
    fn add(&self, end: u64, notifications: impl Iterator<Item = OutcomeNotification>) {
        self.waiting.lock().extend(notifications.map(|notification| (end, notification)));
    }

    fn take_due(&self, durable: u64) -> Vec<OutcomeNotification> {
        let mut waiting = self.waiting.lock();
        let due = waiting.extract_if(.., |(end, _)| *end <= durable);
        due.map(|(_, notification)| notification).collect()
    }

    /// Whether none waits for the store.
    pub(crate) fn are_delivered(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// The position that must be durable for the next of them.
    fn next_end(&self) -> Option<u64> {
        self.waiting.lock().iter().map(|(end, _)| *end).min()
    }
}

impl Waiter for OutcomeNotifications {
    fn begin_waiting(&self) -> bool {
        !self.waits_for_store.swap(true, Ordering::AcqRel)
    }

    fn taken(&self) {
        self.waits_for_store.store(false, Ordering::Release);
    }

    fn committed(&self) {
        if let Some(engine) = self.engine.get().and_then(Weak::upgrade) {
            engine.with_agenda(Agenda::add_notifications);
        }
    }
}

impl Engine {
    /// The recipient of an address: a consumer of direct reply-to, or a queue of the virtual host.
    pub(super) fn recipient(
        &self,
        vhost: Option<&Arc<Vhost>>,
        reply_to: &BStr,
    ) -> Option<Recipient> {
        let (vhost, reply_to) = (vhost?, reply_to.to_str().ok()?);
        if let Some(consumer) = self.registry.reply_consumer(&vhost.name, reply_to) {
            return Some(Recipient::Replies(consumer));
        }
        let state = vhost.state.read();
        let id = state.topology.queue_named(reply_to)?.id;
        state.queues.get(&id).cloned().map(Recipient::Queue)
    }

    /// Sends notifications on their way once everything before `end` is durable.
    pub(crate) fn notify(
        &self,
        end: u64,
        notifications: Vec<OutcomeNotification>,
        agenda: &mut Agenda,
    ) {
        if !notifications.is_empty() {
            self.outcomes.notifications.add(end, notifications.into_iter());
            agenda.add_notifications();
        }
    }

    /// Puts what is due into its queues. If another thread is delivering, leaves that to it.
    pub(in crate::engine) fn deliver_notifications(&self, agenda: &mut Agenda) {
        let notifications = &self.outcomes.notifications;
        loop {
            if notifications.delivering.swap(true, Ordering::AcqRel) {
                return;
            }
            let errand = self.under_way.begin();
            let due = notifications.take_due(self.store.durable());
            self.put_into_queues(due, agenda);
            drop(errand);
            notifications.delivering.swap(false, Ordering::AcqRel);
            // The wait ends with the next commit, which after a full disk is not yet the right one.
            let waiter: Arc<dyn Waiter> = self.outcomes.notifications.clone();
            let Some(end) = notifications.next_end() else { return };
            if !self.store.wait_for(end, &waiter) || self.store.is_poisoned() {
                return;
            }
        }
    }

    fn put_into_queues(&self, mut due: Vec<OutcomeNotification>, agenda: &mut Agenda) {
        let now_ms = self.now_ms();
        let keeps_bodies = self.keeps_bodies();
        // In order per queue; there is no order between queues.
        due.sort_by_key(|notification| match &notification.recipient {
            Recipient::Queue(queue) => queue.id.0,
            Recipient::Replies(_) => u32::MAX,
        });
        let is_same =
            |a: &OutcomeNotification, b: &OutcomeNotification| match (&a.recipient, &b.recipient) {
                (Recipient::Queue(a), Recipient::Queue(b)) => a.id == b.id,
                _ => false,
            };
        for run in due.chunk_by_mut(is_same) {
            let queue = match &run[0].recipient {
                Recipient::Queue(queue) => Arc::clone(queue),
                Recipient::Replies(consumer) => {
                    self.reply(consumer, &run[0].message);
                    continue;
                }
            };
            let mut effects = Effects::default();
            let put = self.with_core(&queue, now_ms, &mut effects, |core, effects| {
                for notification in run.iter() {
                    let (message, position) = (notification.message.clone(), notification.position);
                    let keep_body = keeps_bodies || position.is_none();
                    let incoming = Incoming { message, position, keep_body };
                    match notification.is_reserved {
                        true => core.publish_reserved(now_ms, incoming, effects),
                        false => drop(core.publish(now_ms, incoming, effects)),
                    }
                }
            });
            agenda.add(&queue, effects);
            if put.is_none() {
                for notification in run.iter() {
                    self.log_lost(&queue, notification.position);
                    self.outcome_lost(&notification.message);
                }
            }
        }
    }

    fn reply(&self, consumer: &Weak<ConsumerHandle>, message: &Message) {
        let delivered = consumer.upgrade().is_some_and(|consumer| consumer.reply(message));
        if delivered {
            self.outcome_received(message);
        } else {
            self.outcome_lost(message);
        }
    }
}
