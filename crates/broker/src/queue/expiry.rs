//! What time brings to an end: deadlines, deliveries nobody settles, waits between attempts,
//! messages at the head, the queue itself.

use outcome::Reason;

use super::command::Settlement;
use super::consumers::{ConsumerKey, Endpoint};
use super::effects::{Delivery, DeliveryId, Effects};
use super::index::NEVER;
use super::priority_levels::Place;
use super::state::Queue;

/// How long a client has, once it is heard again, before a delivery counts as not settled in time.
const UNHEARD_MS: u64 = 1000;

/// What a tick found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Tick again at this time (ms); `None` means not before the next command.
    Again(Option<u64>),
    /// Nobody has used the queue for as long as `x-expires` says: delete it.
    QueueExpired,
}

impl<E: Endpoint> Queue<E> {
    /// Removes what has expired and gives back what was not settled in time.
    pub fn tick(&mut self, now_ms: u64, effects: &mut Effects) -> Tick {
        if let Some(expires_ms) = self.settings.expires_ms
            && self.consumers.count() == 0
            && now_ms >= self.last_used_ms.saturating_add(expires_ms)
        {
            return Tick::QueueExpired;
        }
        // Deadlines come before anything else that time does to messages, so that the outcome does
        // not depend on where in the queue a message is.
        self.miss_deadlines(now_ms, effects);
        // Only those that are there now: what is given back may be delivered again meanwhile.
        for _ in 0..self.consumer_deadlines.len() {
            let due =
                self.consumer_deadlines.pop_front_if(|(deadline_ms, ..)| *deadline_ms <= now_ms);
            let Some((_, id, consumer)) = due else { break };
            if self.is_unsettled(id)
                && let Some(of) = self.consumers.by_key(consumer)
            {
                if of.endpoint.is_unheard() {
                    self.postpone_timeout(now_ms, id, consumer);
                    continue;
                }
                of.endpoint.timed_out(self.id, id);
            }
            self.settle(now_ms, id, consumer, Settlement::Requeue, effects);
        }
        self.end_delays(now_ms, effects);
        // A consumer that takes a message in the very millisecond of its expiry still gets it.
        self.first_live(now_ms.saturating_add(1), effects);
        Tick::Again(self.next_deadline_ms())
    }

    /// Whether nobody has used the queue for as long as `x-expires` says.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.consumers.count() == 0
            && self
                .settings
                .expires_ms
                .is_some_and(|expires_ms| now_ms >= self.last_used_ms.saturating_add(expires_ms))
    }

    /// When [`Queue::tick`] will next have something to do, as far as is known now.
    pub fn next_deadline_ms(&mut self) -> Option<u64> {
        let head = self.first_ready().and_then(|place| self.levels.at(place));
        let head = head.map(|entry| entry.expires_at_ms).filter(|&at_ms| at_ms != NEVER);
        let queue = self
            .settings
            .expires_ms
            .filter(|_| self.consumers.count() == 0)
            .map(|expires_ms| self.last_used_ms.saturating_add(expires_ms));
        let delivery = self.consumer_deadlines.front().map(|(deadline_ms, ..)| *deadline_ms);
        let delayed = self.delayed.first().map(|(at_ms, ..)| *at_ms);
        let missed = self.next_missed_ms();
        [head, queue, delivery, delayed, missed].into_iter().flatten().min()
    }

    /// Whether time matters to this queue or to any message that was in it.
    pub fn has_deadlines(&self) -> bool {
        self.watches_time || self.settings.expires_ms.is_some()
    }

    /// The first ready message that has not expired; removes those before it that have.
    pub(super) fn first_live(&mut self, now_ms: u64, effects: &mut Effects) -> Option<Place> {
        loop {
            let place = self.first_ready()?;
            match self.levels.at(place) {
                Some(entry) if entry.expires_at_ms < now_ms => {
                    self.remove(place, Reason::Expired, effects);
                }
                _ => return Some(place),
            }
        }
    }

    /// What becomes of messages at the head that expire right now, as all do with a time to live of 0:
    /// consumers that are ready take them, or nobody does.
    pub(super) fn deliver_or_expire(&mut self, now_ms: u64, effects: &mut Effects) {
        if !self.watches_time {
            return;
        }
        let head = self.first_ready().and_then(|place| self.levels.at(place));
        if head.is_some_and(|entry| entry.expires_at_ms <= now_ms) {
            self.assign_up_to(usize::MAX, now_ms, effects);
            self.first_live(now_ms.saturating_add(1), effects);
        }
    }

    pub(super) fn expires_at_ms(&mut self, now_ms: u64, of_message: Option<u64>) -> u64 {
        let ttl_ms = match (of_message, self.settings.message_ttl_ms) {
            (None, None) => return NEVER,
            (Some(ttl), None) | (None, Some(ttl)) => ttl,
            (Some(a), Some(b)) => a.min(b),
        };
        self.watches_time = true;
        now_ms.saturating_add(ttl_ms)
    }

    /// Watches how long a delivery stays unsettled: as long as the queue and its consumer allow.
    pub(super) fn watch_timeout(
        &mut self,
        now_ms: u64,
        delivery: &Delivery,
        of_consumer_ms: Option<u64>,
    ) {
        let of_queue_ms = self.settings.consumer_timeout_ms;
        if let Some(timeout_ms) = [of_queue_ms, of_consumer_ms].into_iter().flatten().min() {
            self.watches_time = true;
            let deadline_ms = now_ms.saturating_add(timeout_ms);
            self.insert_deadline(deadline_ms, delivery.id, delivery.consumer);
            if self.consumer_deadlines.len() as u64 > 64 + 2 * self.unsettled_count {
                self.forget_settled_deadlines();
            }
        }
    }

    /// Looks at a delivery again later: its client may have settled it, but has not been heard.
    fn postpone_timeout(&mut self, now_ms: u64, id: DeliveryId, consumer: ConsumerKey) {
        self.insert_deadline(now_ms.saturating_add(UNHEARD_MS), id, consumer);
    }

    fn insert_deadline(&mut self, deadline_ms: u64, id: DeliveryId, consumer: ConsumerKey) {
        // Nearly always the last; not if consumers have different timeouts.
        let place = self.consumer_deadlines.partition_point(|(at_ms, ..)| *at_ms <= deadline_ms);
        self.consumer_deadlines.insert(place, (deadline_ms, id, consumer));
    }

    /// Forgets the timeout of a delivery that did not take place.
    pub(super) fn forget_timeout(&mut self, id: DeliveryId) {
        // It was assigned a moment ago, so it is near the end.
        if let Some(place) = self.consumer_deadlines.iter().rposition(|(_, of, _)| *of == id) {
            self.consumer_deadlines.remove(place);
        }
    }

    fn forget_settled_deadlines(&mut self) {
        let mut deadlines = std::mem::take(&mut self.consumer_deadlines);
        deadlines.retain(|(_, id, _)| self.is_unsettled(*id));
        self.consumer_deadlines = deadlines;
    }
}
