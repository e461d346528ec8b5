//! The one place where a queue's effective settings are resolved.
//!
//! Today they come from the queue's arguments alone; whatever else may set them later (policies)
//! is merged here.

use outcome::OutcomeRequest;

use super::retry::Retry;
use crate::arguments::{Overflow, QueueArguments, QueueType};

/// What a queue acts upon.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `x-message-ttl`, ms.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, ms without use.
    pub expires_ms: Option<u64>,
    /// Whether messages that die are sent on.
    pub dead_letters: bool,
    /// `x-max-length`, ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`, bodies of ready messages.
    pub bytes_max: Option<u64>,
    /// What happens at the limit.
    pub overflow: Overflow,
    /// `x-max-priority`; 0 is an ordinary queue.
    pub priority_max: u8,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// Times a message may be given back before it dies.
    pub delivery_limit: Option<u32>,
    /// `x-consumer-timeout`, ms per delivery.
    pub consumer_timeout_ms: Option<u64>,
    /// Whether redelivered messages carry `x-delivery-count` (quorum queues).
    pub counts_deliveries: bool,
    /// How long a message that was given back waits for its next attempt.
    pub retry: Option<Retry>,
    /// What is asked for messages that do not ask themselves.
    pub asking: OutcomeRequest,
    /// `x-message-deduplication`, where it says.
    pub deduplicates: Option<bool>,
    /// `x-cache-ttl`: how long an id is remembered, ms.
    pub window_ms: Option<u64>,
}

impl Settings {
    /// Whether the attempts at a message must outlive a restart: for a limit, for who is shown them,
    /// or because the next wait depends on them.
    pub(super) fn keeps_attempts(&self) -> bool {
        self.counts_deliveries || self.delivery_limit.is_some() || self.retry.is_some()
    }

    /// Resolves the settings of a queue.
    pub fn resolve(arguments: &QueueArguments) -> Self {
        Self {
            message_ttl_ms: arguments.message_ttl_ms,
            expires_ms: arguments.expires_ms,
            dead_letters: arguments.dead_letter_exchange.is_some(),
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
            asking: arguments.asking,
            deduplicates: arguments.message_deduplication,
            window_ms: arguments.cache_ttl_ms,
        }
    }
}
