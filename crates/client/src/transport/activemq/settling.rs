//! Settling: the outcome message with its confirm, then the delivery's end in its queue; and copies, for what is to
//! come again later or was delivered often.
//!
//! A crash between a copy and the end of its original leaves both: their id keeps them from being worked on twice, as
//! far as the ledger reaches.

use std::time::Duration;

use async_trait::async_trait;
use fe2o3_amqp::link::receiver::TerminalDeliveryState;
use fe2o3_amqp::types::definitions::{self, ErrorCondition};
use fe2o3_amqp::types::messaging::{Accepted, Modified, Rejected, Released};
use fe2o3_amqp::types::primitives::Symbol;

use super::super::{Incoming, Taken};
use super::messages::{self, Treatment};
use super::{ActivemqTransport, OUTCOME_TTL, address};
use crate::clock::now_ms;
use crate::error::{Error, ErrorKind};
use crate::transport::making::{Ending, Settling, Telling};

/// How long to wait before an outcome message that was refused is sent again: its queue is full.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// How often it is sent: a producer that does not read its outcomes holds up no worker for ever.
const TELL_ATTEMPTS: u32 = 5;
/// How long a broker that is there may take for a message, before it counts as held back.
const HELD_BACK: Duration = Duration::from_secs(10);
/// The condition with which what has failed is rejected.
const FAILED: &str = "wilco:failed";
/// What of an error's text goes to the broker: all of it is in the outcome message.
const ERROR_BYTES_MAX: usize = 1024;

#[async_trait]
impl Settling for ActivemqTransport {
    async fn finish(&self, delivery: &Incoming, Ending { error, telling }: Ending) -> bool {
        if let Some(telling) = telling
            && let Err(error) = self.tell(telling).await
        {
            if error.kind() == ErrorKind::Closed {
                return false;
            }
            let queue = &*delivery.queue;
            tracing::warn!(queue, "a producer is not told an outcome: {error}");
        }
        let state = match error {
            None => Accepted {}.into(),
            // To the dead-letter address, if there is one.
            Some(error) => TerminalDeliveryState::Rejected(rejected(&error)),
        };
        self.settle_now(delivery, state)
    }

    async fn again(&self, delivery: &Incoming, attempts: u32, after: Duration) -> bool {
        let state = match self.delay(delivery, attempts, after).await {
            Ok(()) => Accepted {}.into(),
            Err(error) if error.kind() == ErrorKind::Closed => return false,
            Err(error) => {
                tracing::debug!("a message waits in its worker: {error}");
                tokio::time::sleep(after).await;
                match attempts {
                    // Nobody has worked on it.
                    0 => Released {}.into(),
                    _ => TerminalDeliveryState::Modified(Modified {
                        delivery_failed: Some(true),
                        undeliverable_here: None,
                        message_annotations: None,
                    }),
                }
            }
        };
        self.settle_now(delivery, state)
    }
}

fn rejected(error: &str) -> Rejected {
    let text = &error[..error.floor_char_boundary(ERROR_BYTES_MAX)];
    let condition = ErrorCondition::Custom(Symbol::from(FAILED));
    Rejected { error: Some(definitions::Error::new(condition, text.to_owned(), None)) }
}

impl ActivemqTransport {
    /// Sends an outcome message; returns once the broker has it.
    async fn tell(&self, telling: Telling) -> Result<(), Error> {
        let Telling { reply_to, properties, body } = telling;
        let Some(address) = address::of_reply(&reply_to) else {
            let text = format!("its reply-to '{}' is no queue's name", reply_to.escape_debug());
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        let treatment = Treatment { ttl: Some(OUTCOME_TTL), ..Treatment::default() };
        let mut attempts_left = TELL_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let message = messages::outbound(&properties, &body, treatment);
            match self.send_and_wait(address, message).await {
                // If its queue is gone, its producer is.
                Ok(Taken::Stored | Taken::Unroutable) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Refused && attempts_left > 0 => {
                    tokio::time::sleep(TELL_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message, and waits until the broker has it: as long as there is no connection, and only so long while it is
    /// held back.
    async fn send_and_wait(
        &self,
        address: &str,
        message: messages::Outbound,
    ) -> Result<Taken, Error> {
        let mut confirm = self.publishing.publish(address, message, None);
        let mut patience = HELD_BACK;
        const LOOK: Duration = Duration::from_secs(1);
        loop {
            match tokio::time::timeout(LOOK, &mut confirm).await {
                Ok(confirmed) => return confirmed.map_err(|_| Error::closed())?,
                Err(_) if !self.publishing.driver().is_up() => patience = HELD_BACK,
                Err(_) if patience.is_zero() => {
                    let text = format!(
                        "queue '{address}' has taken nothing for {HELD_BACK:?}: it may be full"
                    );
                    return Err(Error::new(ErrorKind::TimedOut, text));
                }
                Err(_) => patience = patience.saturating_sub(LOOK),
            }
        }
    }

    /// Copies a message so that it comes again after a delay; returns once the broker has the copy.
    async fn delay(
        &self,
        delivery: &Incoming,
        attempts: u32,
        delay: Duration,
    ) -> Result<(), Error> {
        if delay.is_zero() || delivery.id.is_empty() {
            let text = "it goes back at once, or has no id by which its copy would be known";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.copy(delivery, attempts, Some(delay)).await
    }

    /// Copies a message to the end of its queue, as one that was tried so often; returns once the broker has the copy.
    async fn copy(
        &self,
        delivery: &Incoming,
        attempts: u32,
        delay: Option<Duration>,
    ) -> Result<(), Error> {
        let Incoming { queue, properties, body, token, .. } = delivery;
        let is_text = token.activemq().is_some_and(|token| token.is_text);
        let copied = messages::copy(properties, attempts, delay, now_ms());
        let treatment = Treatment { delay, is_text, ttl: None };
        let message = messages::outbound(&copied, body, treatment);
        match self.send_and_wait(queue, message).await? {
            Taken::Stored => Ok(()),
            Taken::Unroutable => {
                Err(Error::new(ErrorKind::NotFound, format!("queue '{queue}' is not there")))
            }
        }
    }

    /// Replaces a message that was delivered often by a copy, before the broker gives up on it. Returns the message if
    /// that cannot be done.
    pub(super) async fn renew(&self, delivery: Incoming) -> Option<Incoming> {
        let attempts = delivery.attempts_before.unwrap_or_default();
        match self.copy(&delivery, attempts, None).await {
            Ok(()) => {
                self.settle_now(&delivery, Accepted {}.into());
                None
            }
            Err(error) => {
                tracing::debug!("a message that was delivered often stays as it is: {error}");
                Some(delivery)
            }
        }
    }

    fn settle_now(&self, delivery: &Incoming, state: TerminalDeliveryState) -> bool {
        delivery.token.activemq().is_some_and(|token| self.consuming.settle(token, state))
    }
}
