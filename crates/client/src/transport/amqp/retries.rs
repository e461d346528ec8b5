//! Messages that wait for their next attempt, on a broker that cannot have them wait: each is copied into
//! a queue from which its time to live brings it back.
//!
//! The delay is rounded up to one of few, so that there are few such queues; they are durable, and stay.
//! A crash between the copy and the ack of the original leaves both: their id keeps them from being worked
//! on twice, as far as the ledger reaches.

use std::collections::HashSet;
use std::time::Duration;

use ::amqp::{FieldTable, OwnedProperties};
use bytes::Bytes;
use parking_lot::Mutex;

use super::super::Taken;
use super::super::properties::ATTEMPTS;
use super::AmqpTransport;
use super::link::{Call, Publish};
use crate::error::{Error, ErrorKind};

/// Delays below are as this one, ms.
const DELAY_MIN_MS: u64 = 64;

/// The longest delay, ms: RabbitMQ lets messages live for 2^32 - 1 ms.
const DELAY_MAX_MS: u64 = 1 << 31;

/// Headers that the broker adds when it delivers or dead-letters: not the copy's.
/// And those that would send the copy elsewhere, too.
const DROPPED_HEADERS: [&str; 5] = ["x-delivery-count", "x-acquired-count", "x-death", "CC", "BCC"];

/// The queues that are known to be there.
#[derive(Default)]
pub(super) struct Retries {
    declared: Mutex<HashSet<String>>,
}

/// The delay, rounded up to two significant binary digits: at most half as long again.
fn rounded_ms(delay: Duration) -> u64 {
    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).clamp(DELAY_MIN_MS, DELAY_MAX_MS);
    // 64, 96, 128, 192, and so on.
    let unit = 1_u64 << (ms.ilog2() - 1);
    ms.div_ceil(unit) * unit
}

fn retry_queue(queue: &str, delay_ms: u64) -> Result<String, Error> {
    let name = format!("{queue}.wilco.retry.{delay_ms}");
    match name.len() {
        ..=255 => Ok(name),
        _ => Err(Error::new(ErrorKind::TooLarge, "the queue's name is too long for a retry queue")),
    }
}

fn arguments(queue: &str, delay_ms: u64) -> FieldTable {
    let mut arguments = FieldTable::new();
    arguments.push("x-queue-type", "quorum");
    arguments.push("x-message-ttl", delay_ms as i64);
    arguments.push("x-dead-letter-exchange", "");
    arguments.push("x-dead-letter-routing-key", queue);
    // What has come back to its queue is safe there before it leaves this one.
    arguments.push("x-dead-letter-strategy", "at-least-once");
    arguments.push("x-overflow", "reject-publish");
    arguments
}

impl AmqpTransport {
    /// Copies a message so that it comes back after a delay; returns once the broker has the copy.
    pub(super) async fn delay(
        &self,
        queue: &str,
        properties: &[u8],
        body: &Bytes,
        attempts: u32,
        delay: Duration,
    ) -> Result<(), Error> {
        let mut properties = OwnedProperties::decode(properties).unwrap_or_default();
        if delay.is_zero() || properties.message_id.is_none() {
            let text = "it goes back at once, or has no id by which its copy would be known";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let delay_ms = rounded_ms(delay);
        let name = retry_queue(queue, delay_ms)?;
        let headers = properties.headers.take().unwrap_or_default();
        let mut headers: FieldTable = headers
            .into_iter()
            .filter(|(name, _)| {
                DROPPED_HEADERS.iter().all(|other| name != other) && name != ATTEMPTS
            })
            .collect();
        headers.push(ATTEMPTS, i64::from(attempts));
        properties.headers = Some(headers);
        properties.delivery_mode = Some(2);
        // That of the original has not passed: it was delivered.
        properties.expiration = None;
        // It was the producer's: this user may not pass for it.
        properties.user_id = None;
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let publish = Publish {
            exchange: "".into(),
            routing_key: name.as_str().into(),
            properties: encoded.into(),
            body: body.clone(),
        };
        for _ in 0..2 {
            if !self.retries.declared.lock().contains(&name) {
                let arguments = arguments(queue, delay_ms);
                let call = Call::Declare { queue: name.clone(), arguments };
                self.call(call, &format!("queue '{name}'")).await?;
                self.retries.declared.lock().insert(name.clone());
            }
            let confirm = self.publish_raw(publish.clone(), None).await;
            match confirm.map_err(|_| Error::closed())?? {
                Taken::Stored => return Ok(()),
                // Somebody has deleted it.
                Taken::Unroutable => drop(self.retries.declared.lock().remove(&name)),
            }
        }
        Err(Error::new(ErrorKind::Broker, format!("queue '{name}' is deleted again and again")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up_to_few() {
        let rounded = |ms| rounded_ms(Duration::from_millis(ms));
        let table = [(0, 64), (64, 64), (65, 96), (97, 128), (1000, 1024), (1025, 1536)];
        for (ms, expected) in table {
            assert_eq!(rounded(ms), expected, "{ms}");
        }
        let all: HashSet<u64> = (0..600_000).step_by(7).map(rounded).collect();
        assert!(all.len() < 30, "{}", all.len());
        for ms in (64..600_000).step_by(13) {
            assert!((ms..=ms + ms / 2).contains(&rounded(ms)), "{ms}");
        }
        assert_eq!(rounded_ms(Duration::MAX), 1 << 31);
    }
}
