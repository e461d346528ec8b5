//! Outcomes made here, for engines that make none: the worker says what became of a message, and its
//! producer keeps the deadline.
//!
//! ```text
//!  worker                              ledger        engine             producer
//!    │ delivery ◀───────────────────────────────────── queue ◀──────────── message, reply-to
//!    │ claim ───────────────────────────▶│               │                  │ deadline runs
//!    │ handler                           │               │                  │
//!    │ settle ──────────────────────────▶│               │                  │
//!    │ outcome message, confirmed ─────────────────────▶ queue ───────────▶ outcome
//!    │ ack ───────────────────────────────────────────▶ queue               │
//! ```
//!
//! *Invariants:* a message is acked only when its outcome is in the ledger and the engine has the outcome
//! message. A crash between two steps has the message delivered again; what the ledger knows by then is
//! told again, and not worked on again. So one thing only can happen twice: the work of a handler whose
//! worker ended before the ledger knew.

mod answers;
mod deadlines;
mod origin;
mod settling;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ::outcome::{
    Details, Flags, Outcome as Kind, OutcomeMessage, Reason, Verdict as OutcomeVerdict, Worker,
};
use bytes::Bytes;

use self::deadlines::Deadlines;
use crate::clock::now_ms;
use crate::error::Error;
use crate::ledger::{Claim, Key, Ledger};
use crate::outcome::Settled;
use crate::target::Target;
use crate::transport::{OutcomeSink, Outgoing, Verdict};

pub(crate) use self::origin::{Origin, deadline_at_ms};
pub(crate) use self::settling::{Ending, Settling, Telling};

/// How long to wait before the ledger is asked again: while somebody else works on the message, or when
/// it could not be reached.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(crate) struct Maker {
    ledger: Arc<dyn Ledger>,
    deadlines: Deadlines,
    /// What this process calls itself.
    worker: String,
}

/// What is to be done about a delivery before it is worked on.
enum Admitted {
    Work(Claimed),
    /// This became of it before.
    Known(Box<OutcomeMessage<'static>>),
}

/// The right to work on a message; others have it when this is dropped, unless the message is settled.
pub(crate) struct Claimed {
    ledger: Arc<dyn Ledger>,
    queue: String,
    id: Vec<u8>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.ledger.give_back(Key { queue: &self.queue, id: &self.id });
    }
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claimed({} in {})", self.id.escape_ascii(), self.queue)
    }
}

impl Maker {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        worker: String,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Self {
        Self { ledger, deadlines: Deadlines::new(outcomes), worker }
    }

    /// A message is about to be sent: notes that, and spreads one to a topic over its queues.
    pub(crate) async fn prepare(&self, message: &Outgoing) -> Result<Vec<Outgoing>, Error> {
        let parts = match &message.target {
            Target::Queue(_) => vec![message.clone()],
            Target::Topic(topic) => {
                let queues = self.subscribers(topic).await?;
                let queue_count = u16::try_from(queues.len()).ok();
                let part = |queue: String| {
                    let target = Target::Queue(queue.into());
                    Outgoing { target, queue_count, ..message.clone() }
                };
                queues.into_iter().map(part).collect()
            }
        };
        let published_at_ms = now_ms();
        for part in &parts {
            let key = Key { queue: part.target.name(), id: part.id.as_bytes() };
            self.ledger.sent(key, published_at_ms).await?;
        }
        Ok(parts)
    }

    /// Whether other processes know what this one has noted.
    pub(crate) fn is_shared(&self) -> bool {
        self.ledger.is_shared()
    }

    /// The queues of a topic.
    pub(crate) async fn subscribers(&self, topic: &str) -> Result<Vec<String>, Error> {
        self.ledger.subscribers(topic).await
    }

    /// Has a queue be one of a topic.
    pub(crate) async fn subscribe(&self, topic: &str, queue: &str) -> Result<(), Error> {
        self.ledger.subscribe(topic, queue).await
    }

    /// Has a queue be in no topic any more.
    pub(crate) async fn unsubscribe(&self, queue: &str) -> Result<(), Error> {
        self.ledger.unsubscribe(queue).await
    }

    /// A message is sent: its deadline runs from now on.
    pub(crate) fn sent(&self, message: &Outgoing) {
        self.deadlines.begin(message);
    }

    /// The outcome of a message of this process has come.
    pub(crate) fn told(&self, settled: &Settled) {
        self.deadlines.end(settled);
    }

    /// Whether a delivery is to be worked on. Waits while somebody else works on the same message, and
    /// while the ledger cannot be reached.
    async fn admit(&self, origin: &Origin, attempt: u32) -> Admitted {
        let mut wait = ASK_AGAIN;
        loop {
            match self.ledger.claim(origin.key(), attempt, &self.worker).await {
                Ok(Claim::Ours) => {
                    let Origin { queue, id, .. } = origin;
                    let (queue, id) = (queue.clone(), id.clone());
                    let ledger = Arc::clone(&self.ledger);
                    return Admitted::Work(Claimed { ledger, queue, id });
                }
                Ok(Claim::Settled(outcome)) => return Admitted::Known(outcome),
                Ok(Claim::Theirs) => wait = ASK_AGAIN,
                Err(error) => {
                    tracing::warn!("messages wait, since the ledger cannot be asked: {error}");
                    wait = (wait * 2).min(ASK_AGAIN_MAX);
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Notes what became of a message. Waits while the ledger cannot be reached: an outcome that is not
    /// in the ledger is none.
    async fn note(&self, outcome: &OutcomeMessage<'static>) {
        let mut wait = ASK_AGAIN;
        while let Err(error) = self.ledger.settle(outcome).await {
            tracing::warn!("an outcome waits, since the ledger cannot be written: {error}");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ASK_AGAIN_MAX);
        }
    }

    /// What became of a message, in the words of an outcome message. `None`: it is to be tried again.
    fn outcome(
        &self,
        origin: &Origin,
        attempts: u32,
        verdict: Verdict,
    ) -> Option<OutcomeMessage<'static>> {
        let settled_at_ms = now_ms();
        let (outcome, reason, report) = match verdict {
            Verdict::Processed { result, content_type } => {
                let report = (None, Some(result), Some(content_type));
                (Kind::Processed, Reason::Acked, report)
            }
            Verdict::Failed { error } => {
                (Kind::Failed, Reason::Rejected, (Some(error), None, None))
            }
            Verdict::Again { .. } => return None,
        };
        let (error, result, content_type) = report;
        let is_late = outcome == Kind::Processed
            && origin.deadline_at_ms.is_some_and(|deadline_at_ms| settled_at_ms > deadline_at_ms);
        Some(OutcomeMessage {
            verdict: OutcomeVerdict {
                outcome,
                reason: Some(reason),
                attempts: u16::try_from(attempts).unwrap_or(u16::MAX),
                queue_count: origin.queue_count,
                published_at_ms: origin.published_at_ms,
                flags: Flags::NONE.with_if(is_late, Flags::LATE),
            },
            details: Details {
                message_id: Cow::Owned(origin.id.clone().into()),
                worker: Worker { user: "", name: &self.worker }.text().into(),
                error: error.filter(|error| !error.is_empty()).map(|it| Cow::Owned(it.into())),
                content_type: content_type.map(|it| Cow::Owned(it.into())),
                result: result.map(|it: Bytes| Cow::Owned(it.into())),
                dead_letter_exchange: None,
            },
            correlation_id: origin.correlation_id.clone().map(|it| Cow::Owned(it.into())),
            queue: Cow::Owned(origin.queue.clone()),
            settled_at_ms,
            result_bytes: None,
            traceparent: origin.traceparent.clone().map(Cow::Owned),
        })
    }
}
