//! What the library needs from an engine, in bytes: everything typed is above this.
//!
//! *Invariants:* a transport reconnects by itself, and keeps what was given to it until the engine has
//! it. It never waits for the user's code: deliveries and outcomes go into queues that are bounded by
//! what was asked for.

#[cfg(feature = "activemq")]
pub(crate) mod activemq;
pub(crate) mod amqp;
#[cfg(feature = "embedded")]
pub(crate) mod embedded;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod making;
pub(crate) mod properties;
pub(crate) mod queues;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ::outcome::Report;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::capability::Capability;
use crate::error::Error;
use crate::outcome::Settled;
use crate::progress::{Progress, Progressed};
use crate::target::{Key, Target};
use crate::transport::making::{Claimed, Origin};
use crate::window::Permits;

/// A message on its way in.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub target: Target,
    pub id: Arc<str>,
    /// By what it is known to who waits for it.
    pub key: Key,
    /// Over how many queues it is spread, where the engine does not do that.
    pub queue_count: Option<u16>,
    pub content_type: Cow<'static, str>,
    /// Measured from publishing.
    pub deadline: Option<Duration>,
    /// Names and texts, for workers.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// What the engine says to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is on disk.
    Stored,
    /// It reached no queue.
    Unroutable,
}

/// Comes when the engine has a message, or refuses it. Dropped by the transport when it is closed.
pub(crate) type Confirm = oneshot::Receiver<Result<Taken, Error>>;

/// A message for a worker.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Empty if its producer gave it none.
    pub id: String,
    /// Deliveries before this one, if the engine counts them.
    pub attempts_before: Option<u32>,
    pub is_redelivered: bool,
    pub queue: Arc<str>,
    /// As they came, encoded.
    pub properties: Bytes,
    /// Ms since the epoch: when its producer no longer waits for it.
    pub deadline_at_ms: Option<u64>,
    /// Those that its producer gave it, with their values as texts.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub token: Token,
}

impl Incoming {
    /// Who is to be told what became of it: read when it is asked for, since engines that make the outcomes
    /// need not know.
    fn origin(&self) -> Origin {
        Origin::read(&self.queue, &self.properties)
    }
}

/// Names a delivery for its transport.
#[derive(Debug, Clone)]
pub(crate) enum Token {
    Amqp(amqp::DeliveryToken),
    #[cfg(feature = "embedded")]
    Embedded(embedded::DeliveryToken),
    #[cfg(feature = "kafka")]
    Kafka(kafka::DeliveryToken),
    #[cfg(feature = "activemq")]
    Activemq(activemq::DeliveryToken),
}

impl Token {
    fn amqp(&self) -> Option<&amqp::DeliveryToken> {
        #[allow(irrefutable_let_patterns, reason = "without features there is one")]
        if let Self::Amqp(token) = self { Some(token) } else { None }
    }

    #[cfg(feature = "embedded")]
    fn embedded(&self) -> Option<embedded::DeliveryToken> {
        if let Self::Embedded(token) = self { Some(*token) } else { None }
    }

    #[cfg(feature = "kafka")]
    fn kafka(&self) -> Option<&kafka::DeliveryToken> {
        if let Self::Kafka(token) = self { Some(token) } else { None }
    }

    #[cfg(feature = "activemq")]
    fn activemq(&self) -> Option<&activemq::DeliveryToken> {
        if let Self::Activemq(token) = self { Some(token) } else { None }
    }
}

/// What a worker says of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is processed; with what comes back.
    Processed { result: Bytes, content_type: &'static str },
    /// It has failed for good.
    Failed { error: String },
    /// Somebody is to try again after this time. Where the engine cannot wait, the worker has.
    Again { after: Duration },
}

impl Verdict {
    /// Somebody is to try again at once.
    pub(crate) const AGAIN: Self = Self::Again { after: Duration::ZERO };

    /// What a worker reports to a broker that makes the outcomes, before it settles.
    fn into_report(self) -> Option<Report> {
        let (is_error, content_type, body) = match self {
            Self::Processed { result, content_type } => {
                (false, Some(content_type.into()), result.into())
            }
            Self::Failed { error } => (true, None, error.into_bytes()),
            Self::Again { .. } => return None,
        };
        let bytes_published = body.len() as u64;
        let report = Report { is_error, content_type, body, bytes_published, ticket: None };
        // Nothing need not be said.
        (bytes_published > 0).then_some(report)
    }
}

/// Whether a delivery is to be worked on.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is; nobody else works on it as long as this is held.
    Work(Option<Claimed>),
    /// It was worked on before: its producer has been told again what became of it, and it is settled.
    Known,
}

/// A question about a message.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub subject: &'static str,
    pub parameters: serde_json::Value,
    /// In which queue the message is, if who asks knows: for an engine that would have to search.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "the others know"))]
    pub queue: Option<String>,
    /// Asking twice does no more than asking once.
    pub is_repeatable: bool,
}

/// The answer to a question.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// As in HTTP.
    pub status: u16,
    pub body: Bytes,
}

/// What comes into a queue that is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// What is sent to it.
    Itself,
    /// Also what is sent to a topic.
    Topic(String),
    /// Outcomes in a queue or, without a name, in all: it is this subscription's own, and gone with it.
    Outcomes(Option<String>),
}

/// A stream of messages for a worker.
pub(crate) struct Subscription {
    /// Ends with an error when the engine ends it.
    pub incoming: mpsc::UnboundedReceiver<Result<Incoming, Error>>,
    pub id: u64,
}

/// Takes outcomes of messages that this process has sent.
pub(crate) trait OutcomeSink: Send + Sync + 'static {
    /// An outcome has come.
    fn settled(&self, settled: Settled);

    /// A worker says how far it has got.
    fn progressed(&self, progressed: Progressed);

    /// Messages whose outcome is awaited and has not come: they are sent again if outcomes were lost.
    fn unsettled(&self) -> Vec<Outgoing>;

    /// None will come any more.
    fn closed(&self);
}

/// See the module's documentation.
#[async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    /// Whether the engine can do this.
    fn can(&self, capability: Capability) -> bool;

    /// Makes a queue or a topic that is not there; one that is stays as it is.
    async fn ensure(&self, target: &Target) -> Result<(), Error>;

    /// Makes a queue that is to be subscribed to, and has it get what it is to get.
    async fn ensure_subscribed(&self, queue: &str, source: &Source) -> Result<(), Error>;

    /// Removes the messages of a queue that no worker has; returns how many.
    async fn purge_queue(&self, queue: &str) -> Result<u64, Error>;

    /// Removes a queue with its messages; returns how many.
    async fn delete_queue(&self, queue: &str) -> Result<u64, Error>;

    /// Makes sure that outcomes come to the sink that the transport was made with.
    async fn ensure_outcomes(&self) -> Result<(), Error>;

    /// Prepares a message for being published: notes that it is about to be sent, and says into which
    /// messages it is spread, where that is for this process to do. None: it reaches no queue.
    async fn prepare(&self, message: &Outgoing) -> Result<Vec<Outgoing>, Error> {
        Ok(vec![message.clone()])
    }

    /// Hands a message to the engine; the permits are held until the engine has it. Whoever drops the
    /// confirm has given up: the message is not sent any more if it has not been.
    fn publish(&self, message: Outgoing, permits: Option<Arc<Permits>>) -> Confirm;

    /// Takes messages out of a queue, at most so many that are not settled.
    async fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        prefetch: u16,
    ) -> Result<Subscription, Error>;

    /// Takes no more; what has been taken can still be settled. The stream ends when no more comes.
    fn stop(&self, subscription: u64);

    /// Gives back what is not settled, and ends the subscription.
    fn release(&self, subscription: u64);

    /// Completes once a released subscription is gone, and the engine knows all that was settled; or
    /// after a few seconds.
    async fn released(&self, subscription: u64);

    /// Whether a message that is to be tried again later waits in the engine; else it waits in the
    /// worker, unsettled, and the verdict comes when its time has.
    fn delays_retries(&self) -> bool {
        false
    }

    /// Whether a delivery can still be settled: else it is in its queue again.
    fn holds(&self, delivery: &Incoming) -> bool;

    /// Asks whether a delivery is to be worked on; `attempt` counts from 1 on. Waits while somebody else
    /// works on a message with the same id.
    async fn admit(&self, _delivery: &Incoming, _attempt: u32) -> Admission {
        Admission::Work(None)
    }

    /// Settles a delivery, which is attempt so many. `false`: it is somebody else's by now.
    async fn settle(&self, delivery: &Incoming, attempt: u32, verdict: Verdict) -> bool;

    /// Tells the producer of a delivery how far its worker has got. It may get lost.
    fn report_progress(&self, delivery: &Incoming, attempt: u32, progress: &Progress);

    /// Asks about a message.
    async fn ask(&self, question: Question, timeout: Duration) -> Result<Answer, Error>;

    /// Why the engine takes no messages for now: there is no connection, or it does not want any.
    fn trouble(&self) -> Option<String>;

    /// Ends everything.
    async fn close(&self);
}
