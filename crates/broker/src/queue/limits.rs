//! How long a queue may get: `x-max-length`, `x-max-length-bytes` and what `x-overflow` makes of
//! them. Only ready messages count, and consumers with room take theirs before any is lost: for
//! that, even the bound on deliveries that wait for dispatch is exceeded.
//!
//! Whoever must know beforehand whether a message will be taken reserves room for it.

use std::sync::Arc;

use outcome::Reason;

use super::command::Incoming;
use super::consumers::Endpoint;
use super::effects::{Effects, Removed};
use super::settings::Settings;
use super::state::Queue;
use crate::arguments::Overflow;

impl<E: Endpoint> Queue<E> {
    /// Makes the queue follow other settings from now on. Limits apply at once, a time to live to
    /// future messages, a consumer timeout to future deliveries.
    ///
    /// What the queue was built for stays as declared: its type, its priorities, a single active
    /// consumer. So whoever stores the settings must read them from [`Queue::settings`] afterwards.
    pub fn change_settings(&mut self, now_ms: u64, settings: &Settings, effects: &mut Effects) {
        self.settings = Arc::new(Settings {
            queue_type: self.settings.queue_type,
            priority_max: self.settings.priority_max,
            single_active_consumer: self.settings.single_active_consumer,
            ..settings.clone()
        });
        self.enforce_limits(now_ms, effects);
    }

    /// Whether a message of this size may be enqueued at all; always true where dropping from the
    /// head makes room for it.
    pub(super) fn has_room_for(
        &mut self,
        now_ms: u64,
        body_bytes: u64,
        effects: &mut Effects,
    ) -> bool {
        let (count, bytes) = (self.reserved_count + 1, self.reserved_bytes + body_bytes);
        if self.settings.overflow == Overflow::DropHead || !self.is_over(count, bytes) {
            return true;
        }
        self.assign_up_to(usize::MAX, now_ms, effects);
        !self.is_over(count, bytes)
    }

    /// Reserves room for a message of this size, which is on its way: whatever comes meanwhile, it will
    /// be taken ([`Queue::publish_reserved`]). `false`: the queue is full and refuses it.
    pub fn reserve(&mut self, now_ms: u64, body_bytes: u64, effects: &mut Effects) -> bool {
        let has_room = self.has_room_for(now_ms, body_bytes, effects);
        if has_room {
            self.reserved_count += 1;
            self.reserved_bytes += body_bytes;
        }
        has_room
    }

    /// Appends a message for which room was reserved.
    pub fn publish_reserved(&mut self, now_ms: u64, incoming: Incoming, effects: &mut Effects) {
        self.give_up_reservation(incoming.message.body().len() as u64);
        self.append(now_ms, incoming, effects);
    }

    /// A message for which room was reserved does not come.
    pub fn give_up_reservation(&mut self, body_bytes: u64) {
        self.reserved_count = self.reserved_count.saturating_sub(1);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(body_bytes);
    }

    /// Refuses a message that the queue has no room for.
    pub(super) fn refuse(&self, incoming: Incoming, effects: &mut Effects) {
        let is_sent_on = self.settings.overflow == Overflow::RejectPublishDlx;
        let is_tracked = incoming.message.head().is_tracked;
        effects.remove(Removed {
            message: Some(incoming.message),
            position: incoming.position,
            reason: Reason::Refused,
            dead_letter: is_sent_on && self.settings.dead_letter.is_some(),
            is_tracked,
            missed_deadline: false,
            attempts: 0,
            by: None,
        });
    }

    /// Drops messages from the head while the queue is over its limits.
    pub(super) fn enforce_limits(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.settings.overflow != Overflow::DropHead || !self.is_over(0, 0) {
            return;
        }
        self.assign_up_to(usize::MAX, now_ms, effects);
        while self.is_over(0, 0) {
            let Some(place) = self.first_ready() else { return };
            self.remove(place, Reason::MaxLength, effects);
        }
    }

    /// Whether the queue is over its limits, or would be with this much more.
    fn is_over(&self, count: u64, bytes: u64) -> bool {
        let is_over = |max: Option<u64>, is: u64| max.is_some_and(|max| is > max);
        is_over(self.settings.length_max, self.ready_count + count)
            || is_over(self.settings.bytes_max, self.ready_bytes + bytes)
    }
}
