//! The one place where a queue's effective settings are resolved.
//!
//! Today they come from the queue's arguments alone; whatever else may set them later (policies) is
//! to be merged here. A queue in use can change to other settings at any time
//! ([`Queue::change_settings`](super::Queue::change_settings)).

use outcome::OutcomeRequest;

use super::retry::Retry;
use crate::arguments::{Overflow, QueueArguments, QueueType};

/// Where a queue dead-letters messages to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterAddress {
    /// `x-dead-letter-exchange`.
    pub exchange: String,
    /// `x-dead-letter-routing-key`; `None` means that messages keep their own keys.
    pub routing_key: Option<String>,
}

/// The settings that a queue follows.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// `x-message-ttl`, ms.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, ms without use.
    pub expires_ms: Option<u64>,
    /// Where messages are dead-lettered to, if anywhere.
    pub dead_letter: Option<DeadLetterAddress>,
    /// `x-max-length`, ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`, bodies of ready messages.
    pub bytes_max: Option<u64>,
    /// What happens at the limit.
    pub overflow: Overflow,
    /// `x-max-priority`; 0 for an ordinary queue.
    pub priority_max: u8,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// How often a message may be given back before it is dead-lettered or dropped.
    pub delivery_limit: Option<u32>,
    /// `x-consumer-timeout`, ms per delivery.
    pub consumer_timeout_ms: Option<u64>,
    /// Whether redelivered messages carry `x-delivery-count` (quorum queues).
    pub counts_deliveries: bool,
    /// How long a message that was given back waits for its next attempt.
    pub retry: Option<Retry>,
    /// What the queue asks for on behalf of messages that do not ask themselves.
    pub request: OutcomeRequest,
    /// `x-message-deduplication`, if specified.
    pub deduplicates: Option<bool>,
    /// `x-cache-ttl`: how long an id is remembered, ms.
    pub window_ms: Option<u64>,
}

impl Settings {
    /// Whether the attempts at a message must survive a restart: for a limit, because consumers see
    /// them, or because the next wait depends on them.
    pub(super) fn keeps_attempts(&self) -> bool {
        self.counts_deliveries || self.delivery_limit.is_some() || self.retry.is_some()
    }

    /// Whether a queue with these may refuse a message for want of room.
    pub fn may_refuse(&self) -> bool {
        let is_limited = self.length_max.is_some() || self.bytes_max.is_some();
        is_limited && self.overflow != Overflow::DropHead
    }

    /// Resolves the settings of a queue.
    pub fn resolve(arguments: &QueueArguments) -> Self {
        Self {
            queue_type: arguments.queue_type,
            message_ttl_ms: arguments.message_ttl_ms,
            expires_ms: arguments.expires_ms,
            dead_letter: arguments.dead_letter_exchange.clone().map(|exchange| DeadLetterAddress {
                exchange,
                routing_key: arguments.dead_letter_routing_key.clone(),
            }),
            length_max: arguments.length_max,
            bytes_max: arguments.bytes_max,
            overflow: arguments.overflow,
            priority_max: arguments.priority_max.unwrap_or(0),
            single_active_consumer: arguments.single_active_consumer,
            delivery_limit: arguments.delivery_limit,
            consumer_timeout_ms: arguments.consumer_timeout_ms,
            counts_deliveries: arguments.queue_type == QueueType::Quorum
                || arguments.delivery_limit.is_some(),
            retry: Retry::resolve(arguments),
            request: arguments.request,
            deduplicates: arguments.message_deduplication,
            window_ms: arguments.cache_ttl_ms,
        }
    }
}
