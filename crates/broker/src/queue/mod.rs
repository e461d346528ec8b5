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

mod compaction;
mod consumers;
mod deadlines;
mod effects;
mod expiry;
mod index;
mod levels;
mod limits;
mod moves;
mod retry;
mod settings;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

pub use compaction::Standing;
pub use consumers::{ConsumerKey, ConsumerOptions, Endpoint};
pub use effects::{Attempt, Delivery, DeliveryId, Effects, Noted, Outgoing, Removed};
pub use expiry::Tick;
pub use index::NO_POSITION;
pub use retry::Retry;
pub use settings::Settings;

use outcome::{Reason, SettledBy};

use crate::{BrokerError, Message, QueueId};
use consumers::Consumers;
use index::{Entry, Marks, NEVER, State};
use levels::{Levels, Place};

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
#[derive(Debug, Clone, Copy, Default)]
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
    /// Deliveries before the restart, where they were counted.
    pub attempts: u16,
    /// Whether somebody may ask for its outcome.
    pub is_tracked: bool,
    /// The producer's deadline, ms since the epoch; 0 for none, or when it was told that it passed.
    pub deadline_at_ms: u64,
    /// Whether it was told that the deadline has passed.
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
    /// Messages that wait for their next attempt.
    pub delayed_count: u64,
    /// Bytes of the bodies of ready messages.
    pub ready_bytes: u64,
    /// Consumers.
    pub consumer_count: u32,
}

/// See the module's documentation. `E` is where deliveries go.
pub struct Queue<E> {
    id: QueueId,
    settings: Settings,
    levels: Levels,
    ready_count: u64,
    ready_bytes: u64,
    unsettled_count: u64,
    delayed_count: u64,
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
    /// Producers' deadlines; some of messages that are gone.
    deadlines: BinaryHeap<Reverse<(u64, u8, u64)>>,
    /// When to look at messages that wait for their next attempt; some of messages that are gone.
    delayed: BTreeSet<(u64, u8, u64)>,
}

impl<E: Endpoint> Queue<E> {
    /// An empty queue.
    pub fn new(id: QueueId, settings: Settings, now_ms: u64) -> Self {
        Self {
            id,
            consumers: Consumers::new(settings.single_active_consumer),
            levels: Levels::new(settings.priority_max),
            settings,
            ready_count: 0,
            ready_bytes: 0,
            unsettled_count: 0,
            delayed_count: 0,
            cached_bytes: 0,
            outgoing: Outgoing::default(),
            outgoing_turn: 0,
            handing_over: false,
            had_consumers: false,
            last_used_ms: now_ms,
            watches_time: false,
            consumer_deadlines: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            delayed: BTreeSet::new(),
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
            delayed_count: self.delayed_count,
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
        let place = self.levels.push(
            restored.priority,
            Entry {
                message: None,
                position: restored.position,
                expires_at_ms: ttl,
                body_bytes: restored.body_bytes,
                attempt: restored.attempts,
                state: State::Ready,
                // Deliveries are not logged, so after a restart any message may have been delivered.
                marks: Marks::REDELIVERED
                    .with(Marks::TRACKED, restored.is_tracked)
                    .with(Marks::MISSED_DEADLINE, restored.missed_deadline),
            },
        );
        if !restored.missed_deadline {
            self.watch_deadline(restored.deadline_at_ms, place);
        }
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
        self.settle_by(now_ms, id, consumer, settlement, None, effects)
    }

    /// The same, naming who does it: of a tracked message the effects then say so.
    pub fn settle_by(
        &mut self,
        now_ms: u64,
        id: DeliveryId,
        consumer: ConsumerKey,
        settlement: Settlement,
        by: Option<&Arc<SettledBy>>,
        effects: &mut Effects,
    ) -> bool {
        if !self.is_unsettled(id) {
            return false;
        }
        self.consumers.settled(consumer);
        match settlement {
            Settlement::Ack => self.remove_by(id.place(), Reason::Acked, by, effects),
            Settlement::Reject => self.remove_by(id.place(), Reason::Rejected, by, effects),
            Settlement::AutoAck => self.remove_by(id.place(), Reason::AutoAcked, by, effects),
            Settlement::Requeue => {
                let limit = self.settings.delivery_limit;
                if limit.is_some_and(|limit| u32::from(id.attempt) > limit.min(ATTEMPTS_MAX)) {
                    self.remove_by(id.place(), Reason::DeliveryLimit, by, effects);
                } else if let Some(wait_ms) = self.wait_after(id) {
                    self.delay(now_ms, id, wait_ms, effects);
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
            let Some(place) = self.first_live(now_ms, effects) else { return };
            let body_bytes = self.levels.at(place).map_or(0, |entry| entry.body_bytes);
            let Some(key) = self.consumers.next(body_bytes) else { return };
            self.deliver_to(now_ms, key, place, effects);
        }
    }

    /// Takes one message for `basic.get`.
    pub fn get(&mut self, now_ms: u64, no_ack: bool, effects: &mut Effects) -> Option<Delivery> {
        self.last_used_ms = now_ms;
        let place = self.first_live(now_ms, effects)?;
        let delivery = self.take(place, ConsumerKey::GET, 0)?;
        if no_ack {
            self.remove(delivery.id.place(), Reason::AutoAcked, effects);
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

    /// Whether bodies of assigned deliveries are to be read from the log.
    pub fn outgoing_needs_log(&self) -> bool {
        self.outgoing.deliveries.iter().any(|delivery| delivery.message.is_none())
    }

    /// Gives the handover up, whatever is left to hand over: somebody else must take it up.
    pub fn end_handover(&mut self) {
        self.handing_over = false;
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

    /// A delivery to this consumer will never be settled: it does not count against its prefetch.
    pub fn forget_delivery(&mut self, consumer: ConsumerKey) {
        self.consumers.settled(consumer);
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

    /// Removes every message that no consumer has; returns how many.
    pub fn purge(&mut self, effects: &mut Effects) -> u64 {
        self.end_all_delays();
        let mut count = 0;
        while let Some(place) = self.first_ready() {
            self.remove(place, Reason::Purged, effects);
            count += 1;
        }
        count
    }

    /// Removes everything, ready and unsettled: the queue is being deleted. Returns the number of
    /// ready messages there were.
    pub fn clear(&mut self, effects: &mut Effects) -> u64 {
        let ready_count = self.ready_count + self.delayed_count;
        for delivery in self.outgoing.deliveries.drain(..) {
            self.outgoing.endpoints[delivery.endpoint as usize].release(delivery.body_bytes);
        }
        self.outgoing.clear();
        self.outgoing_turn += 1;
        self.consumer_deadlines.clear();
        self.deadlines.clear();
        self.delayed.clear();
        for level in 0..=self.settings.priority_max {
            let index = self.levels.level(level.into());
            let numbers: Vec<u64> =
                index.into_iter().flat_map(|index| index.iter_from(0)).map(|(n, _)| n).collect();
            for number in numbers {
                self.remove((level, number), Reason::QueueDeleted, effects);
            }
        }
        ready_count
    }
}
