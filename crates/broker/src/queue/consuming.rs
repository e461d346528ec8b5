//! Commands about consumers: they come, stall, go on, and go.

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
        options: ConsumerSettings,
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
}
