//! Commands about consumers: they are added, stall, resume, and are removed.

use super::consumers::{ConsumerKey, ConsumerSettings, Endpoint};
use super::effects::Effects;
use super::state::Queue;
use crate::BrokerError;

impl<E: Endpoint> Queue<E> {
    /// Adds a consumer.
    pub fn add_consumer(
        &mut self,
        now_ms: u64,
        endpoint: E,
        settings: ConsumerSettings,
    ) -> Result<ConsumerKey, BrokerError> {
        // An exclusive consumer cannot be one of several that stand by for each other.
        let occupied = self.consumers.count() > 0 || self.settings.single_active_consumer;
        if settings.exclusive && occupied || self.consumers.has_exclusive() {
            return Err(BrokerError::access_refused("queue in exclusive use"));
        }
        self.had_consumers = true;
        self.last_used_ms = now_ms;
        Ok(self.consumers.add(endpoint, settings))
    }

    /// Removes a consumer. Its channel can still settle what it holds unsettled; what was assigned
    /// and not yet dispatched goes back. `false` if there was no such consumer.
    pub fn remove_consumer(
        &mut self,
        now_ms: u64,
        key: ConsumerKey,
        effects: &mut Effects,
    ) -> bool {
        let Some(consumer) = self.consumers.remove(key) else { return false };
        self.last_used_ms = now_ms;
        // What a consumer without acks was assigned has already left the queue, so it is still
        // sent.
        if !consumer.settings.no_ack {
            let mine = self.outgoing.deliveries.extract_if(.., |delivery| delivery.consumer == key);
            for delivery in mine.collect::<Vec<_>>() {
                consumer.endpoint.release(delivery.body_bytes);
                if self.is_unsettled(delivery.id) {
                    self.give_back(delivery.id, false, effects);
                }
            }
            self.enforce_limits(now_ms, effects);
            self.deliver_or_expire(now_ms, effects);
        }
        true
    }

    /// A delivery to this consumer will never be settled: it no longer counts against its prefetch.
    pub fn forget_delivery(&mut self, consumer: ConsumerKey) {
        self.consumers.settled(consumer);
    }

    /// A consumer whose endpoint refused has room again.
    pub fn resume(&mut self, key: ConsumerKey) {
        self.consumers.resume(key);
    }

    /// Its consumers, to be notified that the queue is being deleted.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerKey, &E)> {
        self.consumers.endpoints()
    }

    /// The single active consumer, if the queue has one.
    pub fn active_consumer(&self) -> Option<ConsumerKey> {
        self.consumers.active()
    }
}
