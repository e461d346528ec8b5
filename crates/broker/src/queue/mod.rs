//! One queue: commands in, state changed, what follows appended to the caller's buffers.
//!
//! Order of calls for whoever drives it, all under the queue's lock: any number of commands
//! ([`Queue::publish`], [`Queue::settle`], [`Queue::add_consumer`], ...), then [`Queue::assign`],
//! then [`Queue::take_outgoing`]. After unlocking: hand over the deliveries, work off the
//! [`Effects`]. Then lock again and repeat `assign` and `take_outgoing` until there is nothing;
//! only one driver at a time may hold the handover ([`Queue::begin_handover`]), so that each
//! consumer gets its messages in order.
//!
//! *Never here:* the log, other queues, names of exchanges. Dead-lettering is an effect.

mod consumers;
mod effects;
mod expiry;
mod index;
mod limits;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use consumers::{ConsumerKey, ConsumerOptions, Endpoint};
pub use effects::{Attempt, Delivery, DeliveryId, Effects, Outgoing, Reason, Removed};
pub use expiry::Tick;
pub use index::NO_POSITION;
pub use settings::Settings;

use crate::{BrokerError, Message, QueueId};
use consumers::Consumers;
use index::{Entry, Index, NEVER, State};

/// Deliveries that may wait for their handover.
const OUTGOING_MAX: usize = 512;
/// The largest delivery limit that attempts can be counted against.
const ATTEMPTS_MAX: u32 = u16::MAX as u32 - 1;

/// A message that was routed here.
#[derive(Debug)]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// Where it stands in the log, or [`NO_POSITION`].
    pub position: u64,
    /// Whether its body may stay in memory; must be `true` without a position.
    pub keep_body: bool,
}

/// What recovery knows of a message; its body stays in the log.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    /// Where it stands in the log.
    pub position: u64,
    /// When it was published, ms since the epoch.
    pub published_at_ms: u64,
    /// The property `expiration`, ms.
    pub expiration_ms: Option<u32>,
    /// Size of its body.
    pub body_bytes: u32,
    /// The property `priority`.
    pub priority: u8,
    /// Deliveries before the restart, where the queue counts them.
    pub attempts: u16,
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
    /// Back to its place as if it had never been taken: it did not reach anybody.
    Undelivered,
    /// It was handed over to a consumer that does not ack.
    AutoAck,
}

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is in the queue.
    Enqueued,
    /// The queue is full and set to refuse; the removal is among the effects.
    Refused,
}

/// Numbers a queue shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer.
    pub ready_count: u64,
    /// Messages that were delivered and are not settled.
    pub unsettled_count: u64,
    /// Bytes of the bodies of ready messages.
    pub ready_bytes: u64,
    /// Consumers.
    pub consumer_count: u32,
}

/// See the module's documentation. `E` is where deliveries go.
pub struct Queue<E> {
    id: QueueId,
    settings: Settings,
    /// By priority, lowest first; one for ordinary queues.
    levels: Vec<Index>,
    ready_count: u64,
    ready_bytes: u64,
    unsettled_count: u64,
    cached_bytes: u64,
    consumers: Consumers<E>,
    outgoing: Outgoing<E>,
    outgoing_turn: u64,
    handing_over: bool,
    had_consumers: bool,
    last_used_ms: u64,
    /// Whether anything in it was ever bound to expire.
    watches_time: bool,
    /// When deliveries time out, in order; only with a consumer timeout.
    consumer_deadlines: VecDeque<(u64, DeliveryId, ConsumerKey)>,
}

impl<E: Endpoint> Queue<E> {
    /// An empty queue.
    pub fn new(id: QueueId, settings: Settings, now_ms: u64) -> Self {
        let levels = (0..=settings.priority_max).map(|_| Index::default()).collect();
        Self {
            id,
            consumers: Consumers::new(settings.single_active_consumer),
            settings,
            levels,
            ready_count: 0,
            ready_bytes: 0,
            unsettled_count: 0,
            cached_bytes: 0,
            outgoing: Outgoing::default(),
            outgoing_turn: 0,
            handing_over: false,
            had_consumers: false,
            last_used_ms: now_ms,
            watches_time: false,
            consumer_deadlines: VecDeque::new(),
        }
    }

    /// Its name for life.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// What it acts upon.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How full it is.
    pub fn depth(&self) -> Depth {
        Depth {
            ready_count: self.ready_count,
            unsettled_count: self.unsettled_count,
            ready_bytes: self.ready_bytes,
            consumer_count: self.consumers.count(),
        }
    }

    /// Bytes of memory that its messages take, each counted here though others may share it.
    pub fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Whether it ever had a consumer (an auto-delete queue goes with its last, not before).
    pub fn had_consumers(&self) -> bool {
        self.had_consumers
    }

    /// Somebody used it: declared it again or got from it (`x-expires` counts from here).
    pub fn touch(&mut self, now_ms: u64) {
        self.last_used_ms = now_ms;
    }

    /// Puts a message in at the end.
    pub fn publish(&mut self, now_ms: u64, incoming: Incoming, effects: &mut Effects) -> Published {
        if !self.has_room_for(now_ms, incoming.message.body().len() as u64, effects) {
            self.refuse(incoming, effects);
            return Published::Refused;
        }
        let expires_at_ms = self.expires_at_ms(now_ms, incoming.message.head().expiration_ms);
        self.enqueue(incoming, expires_at_ms);
        self.enforce_limits(now_ms, effects);
        Published::Enqueued
    }

    /// Puts a message in that recovery found; its order is the order of these calls.
    pub fn restore(&mut self, restored: &Restored) {
        let ttl = self.expires_at_ms(restored.published_at_ms, restored.expiration_ms);
        self.ready_count += 1;
        self.ready_bytes += u64::from(restored.body_bytes);
        self.levels[restored.priority.min(self.settings.priority_max) as usize].push(Entry {
            message: None,
            position: restored.position,
            expires_at_ms: ttl,
            body_bytes: restored.body_bytes,
            attempt: restored.attempts,
            state: State::Ready,
            // Deliveries are not logged, so after a restart any message may have been delivered.
            redelivered: true,
        });
    }

    /// Settles a delivery. `false` when it is not (or no longer) this one's to settle.
    pub fn settle(
        &mut self,
        now_ms: u64,
        id: DeliveryId,
        consumer: ConsumerKey,
        settlement: Settlement,
        effects: &mut Effects,
    ) -> bool {
        if !self.is_unsettled(id) {
            return false;
        }
        self.consumers.settled(consumer);
        match settlement {
            Settlement::Ack => self.remove(id, Reason::Acked, effects),
            Settlement::Reject => self.remove(id, Reason::Rejected, effects),
            Settlement::AutoAck => self.remove(id, Reason::AutoAcked, effects),
            Settlement::Requeue => {
                let limit = self.settings.delivery_limit;
                if limit.is_some_and(|limit| u32::from(id.attempt) > limit.min(ATTEMPTS_MAX)) {
                    self.remove(id, Reason::DeliveryLimit, effects);
                } else {
                    self.give_back(id, true, effects);
                    self.enforce_limits(now_ms, effects);
                }
            }
            Settlement::Undelivered => {
                self.give_back(id, false, effects);
                self.enforce_limits(now_ms, effects);
            }
        }
        true
    }

    /// Assigns ready messages to consumers with room, as far as the handover's buffer goes.
    pub fn assign(&mut self, now_ms: u64, effects: &mut Effects) {
        self.assign_up_to(OUTGOING_MAX, now_ms, effects);
    }

    fn assign_up_to(&mut self, outgoing_max: usize, now_ms: u64, effects: &mut Effects) {
        while self.outgoing.deliveries.len() < outgoing_max && self.ready_count > 0 {
            let Some((level, number)) = self.first_live(now_ms, effects) else { return };
            let entry = self.levels[level as usize].at(number);
            let body_bytes = entry.map_or(0, |entry| entry.body_bytes);
            let Some(key) = self.consumers.next(body_bytes) else { return };
            self.deliver_to(now_ms, key, level, number, effects);
        }
    }

    /// Takes one message for `basic.get`.
    pub fn get(&mut self, now_ms: u64, no_ack: bool, effects: &mut Effects) -> Option<Delivery> {
        self.last_used_ms = now_ms;
        let (level, number) = self.first_live(now_ms, effects)?;
        let delivery = self.take(level, number, ConsumerKey::GET, 0)?;
        if no_ack {
            self.remove(delivery.id, Reason::AutoAcked, effects);
        } else {
            self.watch_timeout(now_ms, &delivery);
        }
        Some(delivery)
    }

    /// Whether the caller may hand deliveries over: nobody else is doing so.
    pub fn begin_handover(&mut self) -> bool {
        !std::mem::replace(&mut self.handing_over, true)
    }

    /// Swaps the assigned deliveries into `taken` (empty). `false`, and the handover is over, when
    /// there are none.
    pub fn take_outgoing(&mut self, taken: &mut Outgoing<E>) -> bool {
        debug_assert!(self.handing_over && taken.deliveries.is_empty());
        if self.outgoing.deliveries.is_empty() {
            self.handing_over = false;
            return false;
        }
        std::mem::swap(&mut self.outgoing, taken);
        self.outgoing_turn += 1;
        true
    }

    /// Adds a consumer.
    pub fn add_consumer(
        &mut self,
        now_ms: u64,
        endpoint: E,
        options: ConsumerOptions,
    ) -> Result<ConsumerKey, BrokerError> {
        // Who is to be alone cannot be one of several that stand by for each other.
        let occupied = self.consumers.count() > 0 || self.settings.single_active_consumer;
        if options.exclusive && occupied || self.consumers.has_exclusive() {
            return Err(BrokerError::access_refused("queue in exclusive use"));
        }
        self.had_consumers = true;
        self.last_used_ms = now_ms;
        Ok(self.consumers.add(endpoint, options))
    }

    /// Takes a consumer away. What it holds unsettled stays its channel's to settle; what was
    /// assigned and not handed over goes back. `false` when it was not there.
    pub fn remove_consumer(
        &mut self,
        now_ms: u64,
        key: ConsumerKey,
        effects: &mut Effects,
    ) -> bool {
        let Some(consumer) = self.consumers.remove(key) else { return false };
        self.last_used_ms = now_ms;
        // What it does not ack is gone from here already, so that still goes out.
        if !consumer.options.no_ack {
            let mine = self.outgoing.deliveries.extract_if(.., |delivery| delivery.consumer == key);
            for delivery in mine.collect::<Vec<_>>() {
                consumer.endpoint.release(delivery.body_bytes);
                if self.is_unsettled(delivery.id) {
                    self.give_back(delivery.id, false, effects);
                }
            }
            self.enforce_limits(now_ms, effects);
        }
        true
    }

    /// A consumer whose endpoint refused has room again.
    pub fn resume(&mut self, key: ConsumerKey) {
        self.consumers.resume(key);
    }

    /// Its consumers, to be told that the queue goes away.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerKey, &E)> {
        self.consumers.endpoints()
    }

    /// The single active consumer, where the queue has one.
    pub fn active_consumer(&self) -> Option<ConsumerKey> {
        self.consumers.active()
    }

    /// Removes every ready message; returns how many.
    pub fn purge(&mut self, effects: &mut Effects) -> u64 {
        let mut count = 0;
        while let Some((level, number)) = self.first_ready() {
            self.remove(DeliveryId { number, level, attempt: 0 }, Reason::Purged, effects);
            count += 1;
        }
        count
    }

    /// Removes everything, ready and unsettled: the queue is being deleted. Returns the number of
    /// ready messages there were.
    pub fn clear(&mut self, effects: &mut Effects) -> u64 {
        let ready_count = self.ready_count;
        for delivery in self.outgoing.deliveries.drain(..) {
            self.outgoing.endpoints[delivery.endpoint as usize].release(delivery.body_bytes);
        }
        self.outgoing.clear();
        self.outgoing_turn += 1;
        self.consumer_deadlines.clear();
        for level in 0..self.levels.len() {
            let numbers: Vec<u64> = self.levels[level].iter_from(0).map(|(n, _)| n).collect();
            for number in numbers {
                let id = DeliveryId { number, level: level as u8, attempt: 0 };
                self.remove(id, Reason::QueueDeleted, effects);
            }
        }
        ready_count
    }

    /// Messages whose log position lies in one of the ranges, for compaction: from `cursor` on at
    /// most `max` messages are looked at. Returns where to go on, or `None` at the end.
    pub fn positions_in(
        &self,
        wanted: &dyn Fn(u64) -> bool,
        (level, number): (u8, u64),
        max: usize,
        found: &mut Vec<(DeliveryId, u64)>,
    ) -> Option<(u8, u64)> {
        let index = self.levels.get(level as usize)?;
        for (looked_at, (number, entry)) in index.iter_from(number).enumerate() {
            if looked_at == max {
                return Some((level, number));
            }
            if entry.position != NO_POSITION && wanted(entry.position) {
                let id = DeliveryId { number, level, attempt: entry.attempt };
                found.push((id, entry.position));
            }
        }
        (usize::from(level) + 1 < self.levels.len()).then(|| (level + 1, 0))
    }

    /// Compaction moved a message's record. `false` when the message is gone meanwhile.
    pub fn relocate(&mut self, id: DeliveryId, from: u64, to: u64) -> bool {
        let entry = self.levels.get_mut(id.level as usize).and_then(|l| l.at_mut(id.number));
        match entry {
            Some(entry) if entry.position == from => {
                entry.position = to;
                true
            }
            _ => false,
        }
    }

    /// Chunks of memory that hold its messages.
    #[cfg(test)]
    fn chunk_count(&self) -> usize {
        self.levels.iter().map(Index::chunk_count).sum()
    }

    fn enqueue(&mut self, incoming: Incoming, expires_at_ms: u64) {
        let Incoming { message, position, keep_body } = incoming;
        debug_assert!(keep_body || position != NO_POSITION);
        let priority = message.head().priority.min(self.settings.priority_max);
        let body_bytes = message.body().len() as u32;
        self.ready_count += 1;
        self.ready_bytes += u64::from(body_bytes);
        let message = keep_body.then(|| {
            self.cached_bytes += message.memory_bytes() as u64;
            message
        });
        self.levels[priority as usize].push(Entry {
            message,
            position,
            expires_at_ms,
            body_bytes,
            attempt: 0,
            state: State::Ready,
            redelivered: false,
        });
    }

    fn first_ready(&mut self) -> Option<(u8, u64)> {
        if self.ready_count == 0 {
            return None;
        }
        let levels = self.levels.iter_mut().enumerate().rev();
        levels.into_iter().find_map(|(level, index)| Some((level as u8, index.first_ready()?)))
    }

    fn deliver_to(
        &mut self,
        now_ms: u64,
        key: ConsumerKey,
        level: u8,
        number: u64,
        effects: &mut Effects,
    ) {
        let Some(consumer) = self.consumers.by_key(key) else { return };
        if consumer.outgoing.0 != self.outgoing_turn {
            consumer.outgoing = (self.outgoing_turn, self.outgoing.endpoints.len() as u32);
            self.outgoing.endpoints.push(consumer.endpoint.clone());
        }
        let endpoint = consumer.outgoing.1;
        let no_ack = consumer.options.no_ack;
        if !no_ack {
            consumer.unsettled_count += 1;
        }
        let Some(mut delivery) = self.take(level, number, key, endpoint) else { return };
        if no_ack && delivery.message.is_some() {
            self.remove(delivery.id, Reason::AutoAcked, effects);
        } else if no_ack {
            // Its body is still to be read, so the log must keep it until the handover.
            delivery.settle_after = true;
        } else {
            self.watch_timeout(now_ms, &delivery);
        }
        self.outgoing.deliveries.push(delivery);
    }

    /// Moves a ready message to unsettled.
    fn take(
        &mut self,
        level: u8,
        number: u64,
        consumer: ConsumerKey,
        endpoint: u32,
    ) -> Option<Delivery> {
        let entry = self.levels[level as usize].deliver(number)?;
        let delivery = Delivery {
            id: DeliveryId { number, level, attempt: entry.attempt },
            consumer,
            endpoint,
            message: entry.message.clone(),
            position: entry.position,
            body_bytes: entry.body_bytes,
            redelivered: entry.redelivered,
            attempts_before: entry.attempt.wrapping_sub(1),
            settle_after: false,
        };
        self.ready_count -= 1;
        self.ready_bytes -= u64::from(entry.body_bytes);
        self.unsettled_count += 1;
        Some(delivery)
    }

    /// Whether a message is unsettled, and by this very delivery.
    fn is_unsettled(&self, id: DeliveryId) -> bool {
        let entry = self.levels.get(id.level as usize).and_then(|level| level.at(id.number));
        entry.is_some_and(|entry| entry.state == State::Unsettled && entry.attempt == id.attempt)
    }

    /// Moves an unsettled message back to ready.
    fn give_back(&mut self, id: DeliveryId, was_delivered: bool, effects: &mut Effects) {
        if !was_delivered {
            // The next delivery has the same number of attempts, so nothing may remember this one.
            self.forget_timeout(id);
        }
        let Some(entry) = self.levels[id.level as usize].give_back(id.number) else { return };
        if was_delivered {
            entry.redelivered = true;
            if self.settings.keeps_attempts() && entry.position != NO_POSITION {
                effects.attempts.push(Attempt { position: entry.position, count: entry.attempt });
            }
        } else {
            entry.attempt = entry.attempt.wrapping_sub(1);
        }
        self.ready_count += 1;
        self.ready_bytes += u64::from(entry.body_bytes);
        self.unsettled_count -= 1;
    }

    /// Takes a message out for good.
    fn remove(&mut self, id: DeliveryId, reason: Reason, effects: &mut Effects) {
        let Some(entry) = self.levels[id.level as usize].remove(id.number) else { return };
        match entry.state {
            State::Ready => {
                self.ready_count -= 1;
                self.ready_bytes -= u64::from(entry.body_bytes);
            }
            _ => self.unsettled_count -= 1,
        }
        if let Some(message) = &entry.message {
            self.cached_bytes -= message.memory_bytes() as u64;
        }
        effects.removed.push(Removed {
            message: entry.message,
            position: entry.position,
            reason,
            dead_letter: self.settings.dead_letters && reason.dead_letter_name().is_some(),
        });
    }
}
