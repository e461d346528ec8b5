//! What became of a message, as a value.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::SystemTime;

use ::outcome::{Outcome as Kind, OutcomeMessage, Worker};
use amqp::ByteSlice;
use bytes::Bytes;

use crate::clock::at;
use crate::codec::{Decode, Json};
use crate::error::{Error, ErrorKind};
use crate::target::Key;

/// What became of a message in a queue. Exactly one of these, once; only a missed deadline may yet turn
/// into a late success.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome<R = (), C = Json> {
    /// A worker has processed it.
    Processed(Processed<R, C>),
    /// A worker has rejected it, or it was tried too often.
    Failed(Failed),
    /// Its time to live passed before a worker had it.
    Expired(Details),
    /// Its producer's deadline passed first. [`Receipt::send_again`](crate::Receipt::send_again) puts it
    /// in again: it is not processed twice.
    DeadlineMissed(Details),
    /// It was removed: purged, cancelled, the queue deleted or too long. [`Details::reason`] says which.
    Dropped(Details),
    /// It reached no queue.
    Unroutable(Details),
}

/// What is known of every outcome.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Details {
    /// The message.
    pub id: String,
    /// Whose outcome it is; empty if the message reached no queue.
    pub queue: String,
    /// How often a worker had it.
    pub attempts: u16,
    /// Why it left the queue, if it did: `acked`, `auto-acked`, `rejected`, `delivery-limit`, `ttl`,
    /// `max-length`, `refused`, `purged`, `queue-deleted`, `cancelled`.
    pub reason: Option<&'static str>,
    /// Who settled it, as the broker names it; may be empty.
    pub worker: String,
    /// When it was published.
    pub published_at: SystemTime,
    /// When this was decided.
    pub settled_at: SystemTime,
    /// It was processed, but after its deadline.
    pub is_late: bool,
    /// It was handed to a worker that does not say whether it has processed it.
    pub is_unverified: bool,
    /// It is what became of the message when it was put in before.
    pub is_duplicate: bool,
    /// Over how many queues the message was spread: so many outcomes there are.
    pub queue_count: u16,
    /// The header `traceparent` that its producer gave it (W3C Trace Context), to go on with the trace in
    /// which it was worked on; `None` also where the outcome is told once more.
    pub traceparent: Option<String>,
}

/// A message was processed; with what the worker gave back.
pub struct Processed<R = (), C = Json> {
    details: Details,
    body: Bytes,
    /// How large it was, if this is only the beginning.
    cut_from: Option<u64>,
    types: PhantomData<fn(C) -> R>,
}

/// A message was not processed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failed {
    details: Details,
    /// What the worker said; empty if it said nothing.
    pub error: String,
}

impl<R, C> Outcome<R, C> {
    /// What is known of it, whatever it is.
    pub fn details(&self) -> &Details {
        match self {
            Self::Processed(processed) => &processed.details,
            Self::Failed(failed) => &failed.details,
            Self::Expired(details)
            | Self::DeadlineMissed(details)
            | Self::Dropped(details)
            | Self::Unroutable(details) => details,
        }
    }

    /// Its name, as everywhere in wilco: `processed`, `failed`, `expired`, `deadline-missed`,
    /// `dropped`, `unroutable`.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether it was processed.
    pub fn is_processed(&self) -> bool {
        matches!(self, Self::Processed(_))
    }

    /// What the worker gave back, if it was processed.
    pub fn processed(self) -> Option<Processed<R, C>> {
        match self {
            Self::Processed(processed) => Some(processed),
            _ => None,
        }
    }

    /// Why it failed, if it did.
    pub fn failed(self) -> Option<Failed> {
        match self {
            Self::Failed(failed) => Some(failed),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Processed(_) => Kind::Processed,
            Self::Failed(_) => Kind::Failed,
            Self::Expired(_) => Kind::Expired,
            Self::DeadlineMissed(_) => Kind::DeadlineMissed,
            Self::Dropped(_) => Kind::Dropped,
            Self::Unroutable(_) => Kind::Unroutable,
        }
    }

    pub(crate) fn from_settled(settled: &Settled) -> Self {
        let details = settled.details.clone();
        match settled.kind {
            Kind::Processed => {
                let (body, cut_from) = (settled.result.clone(), settled.cut_from);
                Self::Processed(Processed { details, body, cut_from, types: PhantomData })
            }
            Kind::Failed => Self::Failed(Failed { details, error: settled.error.clone() }),
            Kind::Expired => Self::Expired(details),
            Kind::DeadlineMissed => Self::DeadlineMissed(details),
            Kind::Dropped => Self::Dropped(details),
            Kind::Unroutable => Self::Unroutable(details),
        }
    }
}

impl<R, C: Decode<R>> Processed<R, C> {
    /// What the worker gave back. A worker that knows nothing of results (one that only acks) gives
    /// back nothing, which is `()` or `None` in JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`]: it is not an `R`, or only the beginning of one. The message was processed all
    /// the same.
    pub fn result(&self) -> Result<R, Error> {
        self.decode()
    }
}

impl<R, C> Processed<R, C> {
    /// The same, as a type that is not known from the queue: for topics.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub fn decode<T>(&self) -> Result<T, Error>
    where
        C: Decode<T>,
    {
        if let Some(bytes) = self.cut_from {
            let (id, kept) = (&self.details.id, self.body.len());
            let text = format!(
                "message {id} was processed, but of the {bytes} bytes that the worker gave back only \
                 {kept} were kept"
            );
            return Err(Error::new(ErrorKind::Codec, text));
        }
        <C as Decode<T>>::decode(&self.body).map_err(|error| {
            let (queue, id) = (&self.details.queue, &self.details.id);
            let text = format!(
                "message {id} was processed, but what the worker of queue '{queue}' gave back is not \
                 the {} that is expected here: {error}",
                C::CONTENT_TYPE,
            );
            Error::new(ErrorKind::Codec, text)
        })
    }

    /// What the worker gave back, as bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl<R, C> Deref for Processed<R, C> {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.details
    }
}

impl Deref for Failed {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.details
    }
}

impl<R, C> Clone for Processed<R, C> {
    fn clone(&self) -> Self {
        let Self { details, body, cut_from, .. } = self;
        let (details, body) = (details.clone(), body.clone());
        Self { details, body, cut_from: *cut_from, types: PhantomData }
    }
}

impl<R, C> fmt::Debug for Processed<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.escape_ascii().to_string();
        f.debug_struct("Processed").field("details", &self.details).field("body", &body).finish()
    }
}

/// One line: the outcome, and why.
impl<R, C> fmt::Display for Outcome<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let details = self.details();
        match self {
            Self::Failed(failed) if !failed.error.is_empty() => write!(f, ": {}", failed.error)?,
            Self::Failed(_) | Self::Dropped(_) => {
                if let Some(reason) = details.reason {
                    write!(f, ": {reason}")?;
                }
            }
            _ => {}
        }
        if details.is_late { f.write_str(" (late)") } else { Ok(()) }
    }
}

/// An outcome before it has types.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) kind: Kind,
    /// Of which message.
    pub(crate) key: Key,
    pub(crate) details: Details,
    pub(crate) result: Bytes,
    pub(crate) cut_from: Option<u64>,
    pub(crate) error: String,
}

impl Settled {
    /// From an outcome message.
    pub(crate) fn of(message: &OutcomeMessage<'_>) -> Self {
        let OutcomeMessage { verdict, details, queue, settled_at_ms, result_bytes, .. } = message;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let id = text(&details.message_id);
        let correlation = message.correlation_id.as_deref().and_then(|it| it.to_str().ok());
        Self {
            kind: verdict.outcome,
            key: Key::of_outcome(queue, &id, correlation),
            details: Details {
                id,
                queue: queue.clone().into_owned(),
                attempts: verdict.attempts,
                reason: verdict.reason.map(::outcome::Reason::name),
                worker: Worker::parse(&details.worker).name.to_owned(),
                published_at: at(verdict.published_at_ms),
                settled_at: at(*settled_at_ms),
                is_late: verdict.is_late(),
                is_unverified: verdict.is_unverified(),
                is_duplicate: verdict.is_duplicate(),
                queue_count: verdict.queue_count,
                traceparent: message.traceparent.as_deref().map(str::to_owned),
            },
            result: Bytes::copy_from_slice(details.result.as_deref().unwrap_or_default()),
            cut_from: *result_bytes,
            error: details.error.as_deref().map(|error| text(error)).unwrap_or_default(),
        }
    }

    /// For a message that came back because it reached no queue.
    pub(crate) fn unroutable(key: Key, id: &str) -> Self {
        Self::without_worker(Kind::Unroutable, key, id, "", SystemTime::now())
    }

    /// For a message whose deadline has passed, says its producer.
    pub(crate) fn deadline_missed(
        key: Key,
        id: &str,
        queue: &str,
        published_at: SystemTime,
        queue_count: u16,
    ) -> Self {
        let mut settled = Self::without_worker(Kind::DeadlineMissed, key, id, queue, published_at);
        settled.details.queue_count = queue_count;
        settled
    }

    fn without_worker(
        kind: Kind,
        key: Key,
        id: &str,
        queue: &str,
        published_at: SystemTime,
    ) -> Self {
        Self {
            kind,
            key,
            details: Details {
                id: id.to_owned(),
                queue: queue.to_owned(),
                attempts: 0,
                reason: None,
                worker: String::new(),
                published_at,
                settled_at: SystemTime::now(),
                is_late: false,
                is_unverified: false,
                is_duplicate: false,
                queue_count: 0,
                traceparent: None,
            },
            result: Bytes::new(),
            cut_from: None,
            error: String::new(),
        }
    }
}
