//! Outcome messages on their way: logged already, and put into their queues once that is durable.
//!
//! Whoever makes the log durable delivers them, so an outcome costs no further thread on its way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use broker::Message;
use broker::queue::{Effects, Incoming, NO_POSITION};

use crate::engine::{Agenda, Engine};
use crate::locks::Mutex;
use crate::registry::ConsumerHandle;
use crate::registry::LiveQueue;
use crate::registry::Vhost;
use crate::store::{Appender, Waiter, records};

/// A message for whoever asked for an outcome.
pub(crate) struct Notice {
    pub target: Target,
    pub message: Message,
    /// Where it stands in the log, or [`NO_POSITION`].
    pub position: u64,
}

/// Where it goes.
pub(crate) enum Target {
    Queue(Arc<LiveQueue>),
    /// A consumer of direct reply-to.
    Replies(Weak<ConsumerHandle>),
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Notices {
    engine: OnceLock<Weak<Engine>>,
    /// With the position that must be durable before; in the order of these mostly.
    waiting: Mutex<Vec<(u64, Notice)>>,
    /// Somebody delivers; who comes meanwhile leaves his to them.
    delivering: AtomicBool,
    /// Stands in the store's list of those to tell.
    waits_for_store: AtomicBool,
}

impl Notice {
    /// Appends it, if a restart must find it or memory for bodies is used up.
    pub(super) fn log(&mut self, appender: &mut Appender<'_>, keeps_bodies: bool) {
        let Target::Queue(target) = &self.target else { return };
        if target.durable || !keeps_bodies {
            let id = std::iter::once(target.id);
            self.position = records::append_message(appender.batch, id, &self.message);
        }
    }
}

impl Notices {
    pub(crate) fn bind(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    /// Takes notices whose group ends at `end`.
    fn add(&self, end: u64, notices: impl Iterator<Item = Notice>) {
        self.waiting.lock().extend(notices.map(|notice| (end, notice)));
    }

    fn take_due(&self, durable: u64) -> Vec<Notice> {
        let mut waiting = self.waiting.lock();
        let due = waiting.extract_if(.., |(end, _)| *end <= durable);
        due.map(|(_, notice)| notice).collect()
    }

    /// What must be durable for the next of them.
    fn next_end(&self) -> Option<u64> {
        self.waiting.lock().iter().map(|(end, _)| *end).min()
    }
}

impl Waiter for Notices {
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
    /// Where an address leads: to a consumer of direct reply-to, or a queue of the virtual host.
    pub(super) fn notice_target(
        &self,
        vhost: Option<&Arc<Vhost>>,
        reply_to: &str,
    ) -> Option<Target> {
        if let Some(consumer) = self.registry.reply_consumer(reply_to) {
            return Some(Target::Replies(consumer));
        }
        let state = vhost?.state.read();
        let id = state.topology.queue_named(reply_to)?.id;
        state.queues.get(&id).cloned().map(Target::Queue)
    }

    /// Sends notices on their way once everything before `end` is durable.
    pub(crate) fn notify(&self, end: u64, notices: Vec<Notice>, agenda: &mut Agenda) {
        if !notices.is_empty() {
            self.outcomes.notices.add(end, notices.into_iter());
            agenda.add_notifications();
        }
    }

    /// Puts into their queues what is due. Who finds somebody at it leaves it to them.
    pub(in crate::engine) fn deliver_notices(&self, agenda: &mut Agenda) {
        let notices = &self.outcomes.notices;
        loop {
            if notices.delivering.swap(true, Ordering::AcqRel) {
                return;
            }
            let due = notices.take_due(self.store.durable());
            self.put_into_queues(due, agenda);
            notices.delivering.swap(false, Ordering::AcqRel);
            // Waiting ends with the next commit, which after a full disk is not yet this one.
            let waiter: Arc<dyn Waiter> = self.outcomes.notices.clone();
            let Some(end) = notices.next_end() else { return };
            if !self.store.wait_for(end, &waiter) || self.store.is_poisoned() {
                return;
            }
        }
    }

    fn put_into_queues(&self, mut due: Vec<Notice>, agenda: &mut Agenda) {
        let now_ms = self.now_ms();
        let keeps_bodies = self.keeps_bodies();
        // Per queue in order; between queues there is none.
        due.sort_by_key(|notice| match &notice.target {
            Target::Queue(queue) => queue.id.0,
            Target::Replies(_) => u32::MAX,
        });
        let is_same = |a: &Notice, b: &Notice| match (&a.target, &b.target) {
            (Target::Queue(a), Target::Queue(b)) => a.id == b.id,
            _ => false,
        };
        for run in due.chunk_by_mut(is_same) {
            let queue = match &run[0].target {
                Target::Queue(queue) => Arc::clone(queue),
                Target::Replies(consumer) => {
                    self.reply(consumer, &run[0].message);
                    continue;
                }
            };
            let mut effects = Effects::default();
            let put = self.with_core(&queue, now_ms, &mut effects, |core, effects| {
                for notice in run.iter() {
                    let (message, position) = (notice.message.clone(), notice.position);
                    let keep_body = keeps_bodies || position == NO_POSITION;
                    core.publish(now_ms, Incoming { message, position, keep_body }, effects);
                }
            });
            agenda.add(&queue, effects);
            if put.is_none() {
                for notice in run.iter() {
                    self.log_lost(&queue, notice.position);
                    self.outcome_lost(&notice.message);
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

    /// The producer will never see this outcome message.
    pub(crate) fn outcome_lost(&self, message: &Message) {
        let ticket = message.tracking().map_or(0, |tracking| tracking.ticket);
        if let Some(worker) = self.outcomes.tickets.settle(ticket, false, 0) {
            worker.wake();
        }
    }
}
