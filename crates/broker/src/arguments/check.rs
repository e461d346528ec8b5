//! One check per kind of argument, with RabbitMQ's error texts.
//!
//! Erlang prints the reasons: tuples as `{value_negative,-1}`, texts in quotes.

use amqp::{FieldTable, FieldValue};
use outcome::{DURATION_MS_MAX, OutcomeRequest};

use super::equivalence::kind_name;
use super::kinds::{Overflow, QUORUM_DELIVERY_LIMIT, QueueType, RetryKind};
use crate::BrokerError;

/// Arguments that RabbitMQ knows and refuses on classic queues.
const NOT_CLASSIC: [&str; 8] = [
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// Arguments that RabbitMQ knows and refuses on quorum queues.
const NOT_QUORUM: [&str; 8] = [
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// The field table of a declaration, and how error texts name its queue.
pub(super) struct Arguments<'a> {
    table: &'a FieldTable,
    queue: &'a str,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(table: &'a FieldTable, queue: &'a str) -> Self {
        Self { table, queue }
    }

    fn get(&self, key: &str) -> Option<&'a FieldValue> {
        self.table.get(key)
    }

    fn invalid(&self, key: &str, reason: &str) -> BrokerError {
        BrokerError::precondition_failed(format!(
            "invalid arg '{key}' for {}: {reason}",
            self.queue
        ))
    }

    fn unacceptable_type(&self, key: &str, value: &FieldValue) -> BrokerError {
        self.invalid(key, &format!("{{unacceptable_type,{}}}", kind_name(value)))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, BrokerError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => {
                let reason = format!("\"expected integer, got {}\"", kind_name(value));
                Err(self.invalid(key, &reason))
            }
        }
    }

    pub(super) fn non_negative(&self, key: &str) -> Result<Option<u64>, BrokerError> {
        let Some(number) = self.integer(key)? else { return Ok(None) };
        match u64::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.invalid(key, &format!("{{value_negative,{number}}}"))),
        }
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<u64>, BrokerError> {
        match self.non_negative(key)? {
            Some(0) => Err(self.invalid(key, "{value_zero,0}")),
            number => Ok(number),
        }
    }

    /// A time in ms, at most ten years.
    pub(super) fn milliseconds(&self, key: &str) -> Result<Option<u64>, BrokerError> {
        match self.non_negative(key)? {
            Some(ms) if ms > DURATION_MS_MAX => {
                Err(self.invalid(key, &format!("{{value_too_large,{ms}}}")))
            }
            ms => Ok(ms),
        }
    }

    /// A time in ms, other than 0.
    pub(super) fn positive_milliseconds(&self, key: &str) -> Result<Option<u64>, BrokerError> {
        self.positive(key)?;
        self.milliseconds(key)
    }

    pub(super) fn boolean(&self, key: &str) -> Result<bool, BrokerError> {
        match self.get(key) {
            None => Ok(false),
            Some(FieldValue::Bool(value)) => Ok(*value),
            Some(value) => Err(self.unacceptable_type(key, value)),
        }
    }

    /// An optional boolean.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, BrokerError> {
        let is_there = self.get(key).is_some();
        Ok(Some(self.boolean(key)?).filter(|_| is_there))
    }

    /// `x-retry-delay-max`, which means nothing without a minimum and is an error if below it.
    pub(super) fn retry_delay_max(&self, min_ms: Option<u64>) -> Result<Option<u64>, BrokerError> {
        const KEY: &str = "x-retry-delay-max";
        let max_ms = self.positive_milliseconds(KEY)?;
        match (min_ms, max_ms) {
            (None, Some(_)) => Err(self.invalid(KEY, "\"x-retry-delay-min is needed with it\"")),
            (Some(min_ms), Some(max_ms)) if max_ms < min_ms => {
                Err(self.invalid(KEY, "\"it must not be below x-retry-delay-min\""))
            }
            _ => Ok(max_ms),
        }
    }

    /// What the queue asks for on behalf of its messages.
    pub(super) fn request(&self) -> Result<OutcomeRequest, BrokerError> {
        let mut request = OutcomeRequest::default();
        for name in OutcomeRequest::NAMES {
            if let Some(value) = self.get(name) {
                let taken = request.take_argument(name, value);
                taken.map_err(|text| self.invalid(name, &format!("\"{text}\"")))?;
            }
        }
        Ok(request)
    }

    fn bytes(&self, key: &str) -> Result<Option<&'a [u8]>, BrokerError> {
        match self.get(key) {
            None => Ok(None),
            Some(FieldValue::LongString(bytes)) => Ok(Some(bytes)),
            Some(value) => Err(self.unacceptable_type(key, value)),
        }
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<String>, BrokerError> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.invalid(key, "\"expected UTF-8\"")),
        }
    }

    /// The value of a string argument, from a table of names.
    fn one_of<T: Copy>(
        &self,
        key: &str,
        names: &[(&str, T)],
        reason: impl FnOnce(&str) -> String,
    ) -> Result<Option<T>, BrokerError> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        match names.iter().find(|(name, _)| name.as_bytes() == bytes) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(self.invalid(key, &reason(&String::from_utf8_lossy(bytes)))),
        }
    }

    pub(super) fn queue_type(&self) -> Result<QueueType, BrokerError> {
        let names = [("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];
        let reason = |given: &str| match given {
            "stream" => "\"unsupported queue type 'stream': wilco has no streams\"".to_owned(),
            _ => format!("\"unsupported queue type '{given}'\""),
        };
        Ok(self.one_of("x-queue-type", &names, reason)?.unwrap_or_default())
    }

    pub(super) fn dead_letter_routing_key(&self) -> Result<Option<String>, BrokerError> {
        const KEY: &str = "x-dead-letter-routing-key";
        let key = self.string(KEY)?;
        if key.is_some() && self.get("x-dead-letter-exchange").is_none() {
            return Err(self.invalid(KEY, "routing_key_but_no_dlx_defined"));
        }
        Ok(key)
    }

    pub(super) fn dead_letter_strategy(&self) -> Result<bool, BrokerError> {
        let names = [("at-most-once", false), ("at-least-once", true)];
        let reason = |_: &str| "invalid_dlx_strategy".to_owned();
        Ok(self.one_of("x-dead-letter-strategy", &names, reason)?.unwrap_or(false))
    }

    pub(super) fn overflow(&self) -> Result<Overflow, BrokerError> {
        let names = [
            ("drop-head", Overflow::DropHead),
            ("reject-publish", Overflow::RejectPublish),
            ("reject-publish-dlx", Overflow::RejectPublishDlx),
        ];
        let reason = |_: &str| "invalid_overflow".to_owned();
        Ok(self.one_of("x-overflow", &names, reason)?.unwrap_or_default())
    }

    pub(super) fn delayed_retry(&self) -> Result<RetryKind, BrokerError> {
        let names = [
            ("disabled", RetryKind::Disabled),
            ("all", RetryKind::All),
            ("failed", RetryKind::Failed),
            ("returned", RetryKind::Returned),
        ];
        let reason = |_: &str| "invalid_delayed_retry_type".to_owned();
        Ok(self.one_of("x-delayed-retry-type", &names, reason)?.unwrap_or_default())
    }

    pub(super) fn priority_max(&self) -> Result<Option<u8>, BrokerError> {
        const KEY: &str = "x-max-priority";
        let Some(number) = self.non_negative(KEY)? else { return Ok(None) };
        match u8::try_from(number) {
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.invalid(KEY, &format!("{{max_value_exceeded,{number}}}"))),
        }
    }

    pub(super) fn delivery_limit(&self, queue: QueueType) -> Result<Option<u32>, BrokerError> {
        let default = (queue == QueueType::Quorum).then_some(QUORUM_DELIVERY_LIMIT);
        Ok(match self.integer("x-delivery-limit")? {
            None => default,
            Some(number) if number < 0 => None,
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        })
    }

    pub(super) fn check_queue_mode(&self) -> Result<(), BrokerError> {
        let reason = |given: &str| format!("\"unsupported queue mode '{given}'\"");
        self.one_of("x-queue-mode", &[("default", ()), ("lazy", ())], reason)?;
        Ok(())
    }

    pub(super) fn check_queue_version(&self) -> Result<(), BrokerError> {
        const KEY: &str = "x-queue-version";
        match self.non_negative(KEY)? {
            None | Some(1 | 2) => Ok(()),
            Some(number) => {
                Err(self.invalid(KEY, &format!("\"unsupported queue version '{number}'\"")))
            }
        }
    }

    pub(super) fn check_leader_locator(&self) -> Result<(), BrokerError> {
        let names = [("client-local", ()), ("balanced", ()), ("random", ()), ("least-leaders", ())];
        let reason = |_: &str| "invalid_queue_locator_arg".to_owned();
        self.one_of("x-queue-leader-locator", &names, reason)?;
        Ok(())
    }

    /// Refuses arguments that only another type of queue has; unknown ones are accepted.
    pub(super) fn check_names(&self, queue_type: QueueType) -> Result<(), BrokerError> {
        let refused = match queue_type {
            QueueType::Classic => &NOT_CLASSIC,
            QueueType::Quorum => &NOT_QUORUM,
        };
        for (key, _) in self.table.iter() {
            if refused.iter().any(|refused| key == *refused) {
                return Err(BrokerError::precondition_failed(format!(
                    "invalid arg '{key}' for {} of queue type {}",
                    self.queue,
                    queue_type.module_name()
                )));
            }
        }
        Ok(())
    }
}
