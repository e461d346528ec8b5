//! Settling where the outcomes are made here: the outcome message with its confirm, then the ack.

use std::time::Duration;

use async_trait::async_trait;

use super::super::{Incoming, Taken};
use super::link::{Publish, Settlement};
use super::{AmqpTransport, DeliveryToken};
use crate::error::{Error, ErrorKind};
use crate::transport::making::{Ending, Settling, Telling};

/// How long to wait before an outcome message that was refused is sent again: its queue is full.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// How often it is sent: a producer that does not read its outcomes holds up no worker for ever.
const TELL_ATTEMPTS: u32 = 5;

#[async_trait]
impl Settling for AmqpTransport {
    async fn finish(&self, delivery: &Incoming, Ending { error, telling }: Ending) -> bool {
        let Some(token) = delivery.token.amqp() else { return false };
        if let Some(telling) = telling
            && let Err(error) = self.tell(telling).await
        {
            if error.kind() == ErrorKind::Closed {
                return false;
            }
            let queue = &*delivery.queue;
            tracing::warn!(queue, "a producer is not told an outcome: {error}");
        }
        let settlement = match error {
            None => Settlement::Ack,
            // To the dead-letter exchange, if the queue has one.
            Some(_) => Settlement::Reject,
        };
        self.settle_now(token, settlement)
    }

    async fn again(&self, delivery: &Incoming, attempts: u32, after: Duration) -> bool {
        let Some(token) = delivery.token.amqp() else { return false };
        let Incoming { queue, properties, body, .. } = delivery;
        let settlement = match self.delay(queue, properties, body, attempts, after).await {
            Ok(()) => Settlement::Ack,
            Err(error) if error.kind() == ErrorKind::Closed => return false,
            Err(error) => {
                tracing::debug!("a message waits in its worker: {error}");
                tokio::time::sleep(after).await;
                Settlement::Requeue
            }
        };
        self.settle_now(token, settlement)
    }
}

impl AmqpTransport {
    /// Sends an outcome message; returns once the broker has it.
    async fn tell(&self, telling: Telling) -> Result<(), Error> {
        let Telling { reply_to, properties, body } = telling;
        let publish =
            Publish { exchange: "".into(), routing_key: reply_to.into(), properties, body };
        let mut attempts_left = TELL_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let confirm = self.publish_raw(publish.clone(), None).await;
            match confirm.map_err(|_| Error::closed())? {
                // If its queue is gone, its producer is.
                Ok(Taken::Stored | Taken::Unroutable) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Refused && attempts_left > 0 => {
                    tokio::time::sleep(TELL_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn settle_now(&self, token: &DeliveryToken, settlement: Settlement) -> bool {
        let Some(consuming) = self.consuming.get() else { return false };
        consuming.with(|link, _| link.settle(token.0, settlement))
    }
}
