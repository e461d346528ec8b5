//! Settling where the outcomes are made here: the ledger first, then the outcome message, then the ack.

use std::borrow::Cow;
use std::time::Duration;

use ::outcome::{Flags, Outcome as Kind, OutcomeMessage};
use bytes::Bytes;

use super::super::{Admission, Incoming, Taken, Verdict};
use super::link::{Publish, Settlement};
use super::{AmqpTransport, DeliveryToken};
use crate::error::{Error, ErrorKind};
use crate::transport::making::{Admitted, Maker, Origin};

/// How long to wait before an outcome message that was refused is sent again: its queue is full.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// How often it is sent: a producer that does not read its outcomes holds up no worker for ever.
const TELL_ATTEMPTS: u32 = 5;

impl AmqpTransport {
    /// Whether a delivery is to be worked on; what is known of it already is told again.
    pub(super) async fn admit_made(
        &self,
        maker: &Maker,
        token: &DeliveryToken,
        delivery: &Incoming,
        attempt: u32,
    ) -> Admission {
        let origin = &delivery.origin();
        if origin.id.is_empty() {
            return Admission::Work(None);
        }
        match maker.admit(origin, attempt).await {
            Admitted::Work(claimed) => Admission::Work(Some(claimed)),
            Admitted::Known(mut outcome) => {
                // The ledger knows what became of it, and not who asked.
                let asked = origin.correlation_id.clone();
                outcome.correlation_id = asked.map(|it| Cow::Owned(it.into()));
                outcome.details.message_id = Cow::Owned(origin.id.clone().into());
                outcome.queue = Cow::Owned(origin.queue.clone());
                outcome.verdict.queue_count = origin.queue_count;
                outcome.traceparent = origin.traceparent.clone().map(Cow::Owned);
                // Else its worker may have ended before it told anybody.
                if !delivery.is_redelivered {
                    outcome.verdict.flags.insert(Flags::DUPLICATE);
                }
                self.tell_and_settle(origin, &outcome, token).await;
                Admission::Known
            }
        }
    }

    pub(super) async fn settle_made(
        &self,
        maker: &Maker,
        token: &DeliveryToken,
        delivery: &Incoming,
        attempt: u32,
        verdict: Verdict,
    ) -> bool {
        let (origin, body) = (&delivery.origin(), &delivery.body);
        if let Verdict::Again { after } = verdict {
            let delayed =
                self.delay(&origin.queue, &delivery.properties, body, attempt, after).await;
            let settlement = match delayed {
                Ok(()) => Settlement::Ack,
                Err(error) if error.kind() == ErrorKind::Closed => return false,
                Err(error) => {
                    tracing::debug!("a message waits in its worker: {error}");
                    tokio::time::sleep(after).await;
                    Settlement::Requeue
                }
            };
            return self.settle_now(token, settlement);
        }
        let is_processed = matches!(verdict, Verdict::Processed { .. });
        let outcome = maker.outcome(origin, attempt, verdict).filter(|_| !origin.id.is_empty());
        match outcome {
            Some(outcome) => {
                // Also if the delivery is somebody else's by now: the work is done, and whoever gets it
                // next need not do it again.
                maker.note(&outcome).await;
                self.tell_and_settle(origin, &outcome, token).await
            }
            None if is_processed => self.settle_now(token, Settlement::Ack),
            None => self.settle_now(token, Settlement::Reject),
        }
    }

    async fn tell_and_settle(
        &self,
        origin: &Origin,
        outcome: &OutcomeMessage<'_>,
        token: &DeliveryToken,
    ) -> bool {
        if let Err(error) = self.tell(origin, outcome).await {
            if error.kind() == ErrorKind::Closed {
                return false;
            }
            tracing::warn!(queue = origin.queue, "a producer is not told an outcome: {error}");
        }
        let settlement = match outcome.verdict.outcome {
            Kind::Processed => Settlement::Ack,
            // To the dead-letter exchange, if the queue has one.
            _ => Settlement::Reject,
        };
        self.settle_now(token, settlement)
    }

    /// Sends an outcome message; returns once the broker has it.
    async fn tell(&self, origin: &Origin, outcome: &OutcomeMessage<'_>) -> Result<(), Error> {
        let Some(reply_to) = origin.to_be_told(outcome) else { return Ok(()) };
        let (mut scratch, mut properties) = (Vec::new(), Vec::new());
        outcome.encode_properties(&mut scratch, &mut properties);
        let publish = Publish {
            exchange: "".into(),
            routing_key: reply_to.into(),
            properties: properties.into(),
            body: Bytes::copy_from_slice(outcome.body()),
        };
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
