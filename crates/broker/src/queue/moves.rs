//! A message's way through a queue: ready, unsettled, gone, with the counts that go with it.
//! Nothing else changes a message's stage.

use std::sync::Arc;

use outcome::{Reason, SettledBy};

use super::command::Incoming;
use super::consumers::{ConsumerKey, Endpoint};
use super::effects::{Attempt, Delivery, DeliveryId, Effects, Noted, Removed};
use super::index::{Entry, Marks, Stage};
use super::priority_levels::Place;
use super::state::Queue;

impl<E: Endpoint> Queue<E> {
    pub(super) fn enqueue(&mut self, incoming: Incoming, expires_at_ms: u64) {
        let Incoming { message, position, keep_body } = incoming;
        debug_assert!(keep_body || position.is_some());
        let priority = message.head().priority;
        let body_bytes = message.body().len() as u32;
        self.ready_count += 1;
        self.ready_bytes += u64::from(body_bytes);
        let tracking = message.tracking();
        let message = keep_body.then(|| {
            self.cached_bytes += message.memory_bytes() as u64;
            message
        });
        let marks = Marks::default().with(Marks::TRACKED, tracking.is_some());
        let place = self.levels.push(
            priority,
            Entry {
                message,
                position,
                expires_at_ms,
                body_bytes,
                attempt: 0,
                stage: Stage::Ready,
                marks,
            },
        );
        if let Some(tracking) = tracking {
            self.watch_deadline(tracking.deadline_at_ms, place);
        }
    }

    pub(super) fn first_ready(&mut self) -> Option<Place> {
        if self.ready_count == 0 {
            return None;
        }
        self.levels.first_ready()
    }

    pub(super) fn deliver_to(
        &mut self,
        now_ms: u64,
        key: ConsumerKey,
        place: Place,
        effects: &mut Effects,
    ) {
        let Some(consumer) = self.consumers.by_key(key) else { return };
        if consumer.outgoing.0 != self.outgoing_turn {
            consumer.outgoing = (self.outgoing_turn, self.outgoing.endpoints.len() as u32);
            self.outgoing.endpoints.push(consumer.endpoint.clone());
        }
        let endpoint = consumer.outgoing.1;
        let (no_ack, timeout_ms) = (consumer.settings.no_ack, consumer.settings.timeout_ms);
        if !no_ack {
            consumer.unsettled_count += 1;
        }
        let Some(mut delivery) = self.take(place, key, endpoint) else { return };
        self.drain.taken_count += 1;
        if no_ack && let Some(message) = &delivery.message {
            let consumer = self.consumers.by_key(key).filter(|_| message.head().is_tracked);
            let by = consumer.and_then(|consumer| consumer.endpoint.settled_by());
            self.remove_by(delivery.id.place(), Reason::AutoAcked, by.as_ref(), effects);
        } else if no_ack {
            // Its body must still be read, so the log must keep it until it is dispatched.
            delivery.settle_after = true;
        } else {
            self.watch_timeout(now_ms, &delivery, timeout_ms);
        }
        self.outgoing.deliveries.push(delivery);
    }

    /// Makes a ready message unsettled.
    pub(super) fn take(
        &mut self,
        place: Place,
        consumer: ConsumerKey,
        endpoint: u32,
    ) -> Option<Delivery> {
        let entry = self.levels.deliver(place)?;
        let (level, number) = place;
        let delivery = Delivery {
            id: DeliveryId { number, level, attempt: entry.attempt },
            consumer,
            endpoint,
            message: entry.message.clone(),
            position: entry.position,
            body_bytes: entry.body_bytes,
            redelivered: entry.marks.has(Marks::REDELIVERED),
            attempts_before: entry.attempt.wrapping_sub(1),
            settle_after: false,
            is_tracked: entry.marks.has(Marks::TRACKED),
        };
        self.ready_count -= 1;
        self.ready_bytes -= u64::from(entry.body_bytes);
        self.unsettled_count += 1;
        Some(delivery)
    }

    /// Whether a message is unsettled because of this very delivery.
    pub(super) fn is_unsettled(&self, id: DeliveryId) -> bool {
        let entry = self.levels.at(id.place());
        entry.is_some_and(|entry| entry.stage == Stage::Unsettled && entry.attempt == id.attempt)
    }

    /// Makes an unsettled message ready again.
    pub(super) fn give_back(&mut self, id: DeliveryId, was_delivered: bool, effects: &mut Effects) {
        self.drain.returned_count += 1;
        if !was_delivered {
            // The next delivery will have the same attempt number, so this one must be forgotten.
            self.forget_timeout(id);
        }
        let Some(entry) = self.levels.give_back(id.place()) else { return };
        if !was_delivered {
            entry.attempt = entry.attempt.wrapping_sub(1);
        }
        self.ready_count += 1;
        self.ready_bytes += u64::from(entry.body_bytes);
        self.unsettled_count -= 1;
        if was_delivered {
            self.note_attempt(id, 0, effects);
        }
    }

    /// Notes that a delivery ended without settling its message.
    pub(super) fn note_attempt(&mut self, id: DeliveryId, retry_at_ms: u64, effects: &mut Effects) {
        let keeps_attempts = self.settings.keeps_attempts();
        let Some(entry) = self.levels.at_mut(id.place()) else { return };
        entry.marks.set(Marks::REDELIVERED);
        let is_tracked = entry.marks.has(Marks::TRACKED);
        let (position, attempts) = (entry.position, entry.attempt);
        if let Some(position) = position.filter(|_| keeps_attempts || is_tracked) {
            effects.attempts.push(Attempt { position: position.get(), count: attempts });
        }
        if is_tracked {
            let message = entry.message.clone();
            effects.requeued.push(Noted { message, position, attempts, retry_at_ms });
        }
    }

    /// Removes a message for good.
    pub(super) fn remove(&mut self, place: Place, reason: Reason, effects: &mut Effects) {
        self.remove_by(place, reason, None, effects);
    }

    /// The same, naming who settled it.
    pub(super) fn remove_by(
        &mut self,
        place: Place,
        reason: Reason,
        by: Option<&Arc<SettledBy>>,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.levels.remove(place) else { return };
        match entry.stage {
            Stage::Ready => {
                self.ready_count -= 1;
                self.ready_bytes -= u64::from(entry.body_bytes);
            }
            Stage::Delayed => self.delayed_count -= 1,
            _ => self.unsettled_count -= 1,
        }
        if let Some(message) = &entry.message {
            self.cached_bytes -= message.memory_bytes() as u64;
        }
        let is_tracked = entry.marks.has(Marks::TRACKED);
        effects.remove(Removed {
            message: entry.message,
            position: entry.position,
            reason,
            dead_letter: self.settings.dead_letter.is_some() && reason.dead_letter_name().is_some(),
            is_tracked,
            missed_deadline: entry.marks.has(Marks::MISSED_DEADLINE),
            attempts: entry.attempt,
            by: by.filter(|_| is_tracked).cloned(),
        });
    }
}
