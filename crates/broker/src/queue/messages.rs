//! Commands about messages: publish, restore, settle, get, purge, clear.

use std::sync::Arc;

use outcome::{Reason, SettledBy};

use super::command::{Incoming, Published, Restored, Settlement};
use super::consumers::{ConsumerKey, Endpoint};
use super::effects::{Delivery, DeliveryId, Effects};
use super::index::{Entry, Marks, Stage};
use super::state::Queue;
use crate::Position;

/// The largest delivery limit that attempts can be counted against.
const ATTEMPTS_MAX: u32 = u16::MAX as u32 - 1;

impl<E: Endpoint> Queue<E> {
    /// Appends a message.
    pub fn publish(&mut self, now_ms: u64, incoming: Incoming, effects: &mut Effects) -> Published {
        if !self.has_room_for(now_ms, incoming.message.body().len() as u64, effects) {
            self.refuse(incoming, effects);
            return Published::Refused;
        }
        self.append(now_ms, incoming, effects);
        Published::Enqueued
    }

    /// Appends a message for which there is room.
    pub(super) fn append(&mut self, now_ms: u64, incoming: Incoming, effects: &mut Effects) {
        let expires_at_ms = self.expires_at_ms(now_ms, incoming.message.head().expiration_ms());
        self.enqueue(incoming, expires_at_ms);
        self.enforce_limits(now_ms, effects);
        self.deliver_or_expire(now_ms, effects);
    }

    /// Appends a message that recovery found; the order of these calls is the order of the
    /// messages.
    pub fn restore(&mut self, restored: &Restored) {
        let ttl = self.expires_at_ms(restored.published_at_ms, restored.expiration_ms);
        self.ready_count += 1;
        self.ready_bytes += u64::from(restored.body_bytes);
        let place = self.levels.push(
            restored.priority,
            Entry {
                message: None,
                position: Some(Position::new(restored.position)),
                expires_at_ms: ttl,
                body_bytes: restored.body_bytes,
                attempt: restored.attempts,
                stage: Stage::Ready,
                // Deliveries are not logged, so after a restart any message may have been
                // delivered.
                marks: Marks::REDELIVERED
                    .with(Marks::TRACKED, restored.is_tracked)
                    .with(Marks::MISSED_DEADLINE, restored.missed_deadline),
            },
        );
        if !restored.missed_deadline {
            self.watch_deadline(restored.deadline_at_ms, place);
        }
    }

    /// Settles a delivery; `false` if the message is not, or no longer, unsettled by this delivery.
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

    /// The same, naming who settles it: for a tracked message, the effects then say so.
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
                    self.deliver_or_expire(now_ms, effects);
                }
            }
            Settlement::Undelivered => {
                self.give_back(id, false, effects);
                self.enforce_limits(now_ms, effects);
                self.deliver_or_expire(now_ms, effects);
            }
        }
        true
    }

    /// Takes one message, for `basic.get`.
    pub fn get(&mut self, now_ms: u64, no_ack: bool, effects: &mut Effects) -> Option<Delivery> {
        self.last_used_ms = now_ms;
        // Only consumers take what expires right now.
        let place = self.first_live(now_ms.saturating_add(1), effects)?;
        let delivery = self.take(place, ConsumerKey::GET, 0)?;
        if no_ack {
            self.remove(delivery.id.place(), Reason::AutoAcked, effects);
        } else {
            self.watch_timeout(now_ms, &delivery, None);
        }
        Some(delivery)
    }

    /// Removes every message that no consumer has; returns their number.
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
