//! Settling where the outcomes are made here: the ledger first, then the outcome message, then the message's
//! end in its queue.

use std::borrow::Cow;
use std::time::Duration;

use ::outcome::{Flags, Outcome as Kind, OutcomeMessage};
use async_trait::async_trait;
use bytes::Bytes;

use super::{Admitted, Maker, Origin};
use crate::transport::{Admission, Incoming, Verdict};

/// What an engine does with a delivery once it is known what became of it.
#[async_trait]
pub(crate) trait Settling: Sync {
    /// Tells the producer, and takes the message out of its queue, in this order or in one; one that has failed
    /// goes to wherever the engine puts those. `false`: it is somebody else's by now.
    async fn finish(&self, delivery: &Incoming, ending: Ending) -> bool;

    /// Has the message come again after a delay, as one that was tried so often. `false`: as above.
    async fn again(&self, delivery: &Incoming, attempts: u32, after: Duration) -> bool;
}

/// How a message ends.
#[derive(Debug)]
pub(crate) struct Ending {
    /// `None`: it is processed. Else why it has failed.
    pub(crate) error: Option<String>,
    /// `None`: nobody is to be told.
    pub(crate) telling: Option<Telling>,
}

/// An outcome message, and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// As the producer has named it.
    pub(crate) reply_to: String,
    /// Encoded.
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

impl Telling {
    fn new(origin: &Origin, outcome: &OutcomeMessage<'_>) -> Option<Self> {
        let reply_to = origin.to_be_told(outcome)?.to_owned();
        let (mut scratch, mut properties) = (Vec::new(), Vec::new());
        outcome.encode_properties(&mut scratch, &mut properties);
        let body = Bytes::copy_from_slice(outcome.body());
        Some(Self { reply_to, properties: properties.into(), body })
    }
}

impl Ending {
    fn new(origin: &Origin, outcome: &OutcomeMessage<'_>) -> Self {
        let error = match outcome.verdict.outcome {
            Kind::Processed => None,
            _ => Some(
                outcome
                    .details
                    .error
                    .as_deref()
                    .map_or_else(String::new, |error| error.to_string()),
            ),
        };
        Self { error, telling: Telling::new(origin, outcome) }
    }
}

impl Maker {
    /// Whether a delivery is to be worked on; what is known of it already is told again.
    pub(crate) async fn admit_delivery(
        &self,
        settling: &dyn Settling,
        delivery: &Incoming,
        attempt: u32,
    ) -> Admission {
        let origin = delivery.origin();
        if origin.id.is_empty() {
            return Admission::Work(None);
        }
        match self.admit(&origin, attempt).await {
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
                settling.finish(delivery, Ending::new(&origin, &outcome)).await;
                Admission::Known
            }
        }
    }

    /// Settles a delivery, which is attempt so many. `false`: it is somebody else's by now.
    pub(crate) async fn settle_delivery(
        &self,
        settling: &dyn Settling,
        delivery: &Incoming,
        attempt: u32,
        verdict: Verdict,
    ) -> bool {
        let error = match &verdict {
            Verdict::Again { after } => return settling.again(delivery, attempt, *after).await,
            Verdict::Processed { .. } => None,
            Verdict::Failed { error } => Some(error.clone()),
        };
        let origin = delivery.origin();
        let outcome = self.outcome(&origin, attempt, verdict).filter(|_| !origin.id.is_empty());
        let ending = match outcome {
            Some(outcome) => {
                // Also if the delivery is somebody else's by now: the work is done, and whoever gets it
                // next need not do it again.
                self.note(&outcome).await;
                Ending::new(&origin, &outcome)
            }
            None => Ending { error, telling: None },
        };
        settling.finish(delivery, ending).await
    }
}
