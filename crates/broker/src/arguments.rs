//! What a queue's `x-` arguments mean: from the field table of `queue.declare` to checked values.
//!
//! Owns the names, types and limits of queue arguments, and which of them a second declaration
//! must repeat ([`assert_equivalent`]). It knows no queue and keeps nothing.
//!
//! The checks, their order and the texts of their errors are RabbitMQ 4's, with these additions:
//! `x-delivery-limit`, `x-delayed-retry-*` and `x-consumer-timeout` are accepted on classic queues,
//! too; `x-retry-delay-*`, `x-notify`, `x-confirm-on`, `x-deadline`, `x-message-deduplication` and
//! `x-cache-ttl` are known, and `x-queue-type: stream` is refused.

mod check;
mod equivalence;
mod kinds;

use amqp::FieldTable;
use outcome::OutcomeRequest;

use crate::BrokerError;
use check::Arguments;
pub use equivalence::assert_equivalent;
pub(crate) use equivalence::{compare, compare_field, kind_name};
pub use kinds::{Overflow, QueueType, RetryKind};

/// The properties of a declaration that decide which arguments it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueProperties {
    /// Whether the queue survives a restart.
    pub durable: bool,
    /// Whether it belongs to the connection that declared it.
    pub exclusive: bool,
    /// Whether it is deleted with its last consumer.
    pub auto_delete: bool,
}

/// A queue's arguments, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueArguments {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// `x-message-ttl`, ms; 0 means that a message is delivered at once or not at all.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, ms without use after which the queue is deleted; never 0.
    pub expires_ms: Option<u64>,
    /// `x-dead-letter-exchange`; the empty name is the default exchange.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`, only together with the exchange.
    pub dead_letter_routing_key: Option<String>,
    /// `x-dead-letter-strategy: at-least-once` (quorum queues).
    pub dead_letter_at_least_once: bool,
    /// `x-max-length`, ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`, bodies of ready messages.
    pub bytes_max: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-max-priority`, 1 to 255; `None` if 0 was declared.
    pub priority_max: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: redeliveries before a message is dead-lettered or dropped. Quorum queues
    /// have 20 by default; a negative number means no limit.
    pub delivery_limit: Option<u32>,
    /// `x-consumer-timeout`: how long a delivery may stay unsettled, ms.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-delayed-retry-type`.
    pub delayed_retry: RetryKind,
    /// `x-delayed-retry-min`, ms per delivery so far.
    pub delayed_retry_min_ms: Option<u64>,
    /// `x-delayed-retry-max`, ms at most.
    pub delayed_retry_max_ms: Option<u64>,
    /// `x-retry-delay-min`, ms before the second attempt; doubles with each further one.
    pub retry_delay_min_ms: Option<u64>,
    /// `x-retry-delay-max`, ms at most.
    pub retry_delay_max_ms: Option<u64>,
    /// `x-notify`, `x-confirm-on`, `x-deadline`.
    pub request: OutcomeRequest,
    /// `x-message-deduplication`; by default, only messages that ask for an outcome are checked for
    /// duplicates.
    pub message_deduplication: Option<bool>,
    /// `x-cache-ttl`: how long a deduplicated message is remembered, ms.
    pub cache_ttl_ms: Option<u64>,
}

impl QueueArguments {
    /// Checks the arguments of a declaration.
    ///
    /// `queue` is how error texts name the queue: `queue 'q' in vhost '/'`.
    ///
    /// # Errors
    ///
    /// `PRECONDITION_FAILED` with RabbitMQ's text for the first argument that is wrong.
    pub fn parse(
        table: &FieldTable,
        properties: QueueProperties,
        queue: &str,
    ) -> Result<Self, BrokerError> {
        let arguments = Arguments::new(table, queue);
        let queue_type = arguments.queue_type()?;
        // RabbitMQ checks in this order, values first, then names that belong to another type.
        let mut parsed = Self {
            queue_type,
            expires_ms: arguments.positive_milliseconds("x-expires")?,
            message_ttl_ms: arguments.milliseconds("x-message-ttl")?,
            dead_letter_exchange: arguments.string("x-dead-letter-exchange")?,
            dead_letter_routing_key: arguments.dead_letter_routing_key()?,
            ..Self::default()
        };
        if queue_type == QueueType::Quorum {
            parsed.dead_letter_at_least_once = arguments.dead_letter_strategy()?;
        }
        parsed.length_max = arguments.non_negative("x-max-length")?;
        parsed.bytes_max = arguments.non_negative("x-max-length-bytes")?;
        match queue_type {
            QueueType::Classic => {
                parsed.priority_max = arguments.priority_max()?;
                parsed.overflow = arguments.overflow()?;
                arguments.check_queue_mode()?;
                arguments.check_queue_version()?;
            }
            QueueType::Quorum => {
                arguments.non_negative("x-max-in-memory-length")?;
                arguments.non_negative("x-max-in-memory-bytes")?;
                parsed.overflow = match arguments.overflow()? {
                    // RabbitMQ warns and falls back to the default.
                    Overflow::RejectPublishDlx => Overflow::DropHead,
                    overflow => overflow,
                };
            }
        }
        parsed.single_active_consumer = arguments.boolean("x-single-active-consumer")?;
        if queue_type == QueueType::Quorum {
            arguments.positive("x-quorum-initial-group-size")?;
        }
        arguments.check_leader_locator()?;
        parsed.delivery_limit = arguments.delivery_limit(queue_type)?;
        parsed.consumer_timeout_ms = arguments.positive("x-consumer-timeout")?;
        parsed.delayed_retry = arguments.delayed_retry()?;
        parsed.delayed_retry_min_ms = arguments.non_negative("x-delayed-retry-min")?;
        parsed.delayed_retry_max_ms = arguments.non_negative("x-delayed-retry-max")?;
        parsed.retry_delay_min_ms = arguments.positive_milliseconds("x-retry-delay-min")?;
        parsed.retry_delay_max_ms = arguments.retry_delay_max(parsed.retry_delay_min_ms)?;
        parsed.request = arguments.request()?;
        parsed.message_deduplication = arguments.flag("x-message-deduplication")?;
        parsed.cache_ttl_ms = arguments.non_negative("x-cache-ttl")?;
        arguments.check_names(queue_type)?;
        check_properties(queue_type, properties, queue)?;
        Ok(parsed)
    }
}

/// A quorum queue is durable, shared and not auto-delete.
fn check_properties(
    queue_type: QueueType,
    properties: QueueProperties,
    queue: &str,
) -> Result<(), BrokerError> {
    if queue_type != QueueType::Quorum {
        return Ok(());
    }
    let wrong = if properties.auto_delete {
        "auto-delete"
    } else if properties.exclusive {
        "exclusive-owner"
    } else if !properties.durable {
        "non-durable"
    } else {
        return Ok(());
    };
    Err(BrokerError::precondition_failed(format!("invalid property '{wrong}' for {queue}")))
}

#[cfg(test)]
mod tests;
