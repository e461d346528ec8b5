//! What a producer has in hand once its message is on disk.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::awaited::Interest;
use crate::error::{Error, ErrorKind};
use crate::outcome::{Outcome, Settled};
use crate::progress::Progress;
use crate::transport::Outgoing;

/// The broker has the message on disk. What became of it is another question:
/// [`outcome`](Self::outcome). A receipt that is dropped waits for nothing; the message is worked on all
/// the same.
pub struct Receipt<Out = (), C = crate::codec::Json> {
    pub(super) sent: Sent,
    /// How many outcomes [`next`](Self::next) has returned.
    pub(super) seen: usize,
    pub(super) types: PhantomData<fn(C) -> Out>,
}

/// A message with all that is needed to send it again.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) producer: Arc<Inner>,
    pub(super) message: Outgoing,
    pub(super) interest: Interest,
}

/// How much longer than its deadline a message is waited for: the broker says that it was missed.
const GRACE: Duration = Duration::from_secs(5);

impl<Out, C> Receipt<Out, C> {
    /// The message's id.
    pub fn id(&self) -> &str {
        &self.sent.message.id
    }

    /// What became of the message, if that is known already.
    pub fn known_outcome(&self) -> Option<Outcome<Out, C>> {
        self.sent.interest.settled().map(|settled| Outcome::from_settled(&settled))
    }

    /// What became of the message: waits until that is known, but no longer than its deadline, or the
    /// producer's [`outcome_timeout`](super::ProducerBuilder::outcome_timeout) if it has none. A failure
    /// of the worker is an outcome, not an error. Of a message to a topic: the worst of its queues.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: it is not known yet. Ask again, or send again under the same id.
    pub async fn outcome(&self) -> Result<Outcome<Out, C>, Error> {
        self.outcome_within(self.patience()).await
    }

    /// How long an outcome is waited for.
    fn patience(&self) -> Duration {
        let deadline = self.sent.message.deadline.map(|deadline| deadline.saturating_add(GRACE));
        deadline.unwrap_or(self.sent.producer.settings.outcome_timeout)
    }

    /// The outcome in the next queue, in the order in which they come; `None` when there are no more.
    /// Waits as [`outcome`](Self::outcome) does, for each.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome); the next call goes on waiting.
    pub async fn next(&mut self) -> Result<Option<Outcome<Out, C>>, Error> {
        let timeout = self.patience();
        let next = tokio::time::timeout(timeout, self.sent.interest.nth(self.seen)).await;
        match next.map_err(|_| self.not_known_after(timeout))? {
            Some(settled) => {
                self.seen += 1;
                Ok(Some(Outcome::from_settled(&settled)))
            }
            None if self.sent.interest.is_closed() => Err(Error::closed()),
            None => Ok(None),
        }
    }

    /// How far workers get with the message, if they say so ([`Context::progress`](crate::Context::progress)).
    pub fn progress(&self) -> ProgressStream {
        ProgressStream { interest: self.sent.interest.clone(), seen: 0 }
    }

    fn not_known_after(&self, timeout: Duration) -> Error {
        let text = format!(
            "after {timeout:?} it is not known what became of message {} in {}: it waits for a worker or \
             is being worked on. Ask again, or give messages a deadline",
            self.id(),
            self.sent.producer.target,
        );
        Error::new(ErrorKind::TimedOut, text)
    }

    /// The same, waiting no longer than this.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub async fn outcome_within(&self, timeout: Duration) -> Result<Outcome<Out, C>, Error> {
        let settled = tokio::time::timeout(timeout, self.sent.interest.wait()).await;
        let settled = settled.map_err(|_| self.not_known_after(timeout))?;
        let settled = settled.ok_or_else(Error::closed)?;
        Ok(Outcome::from_settled(&settled))
    }

    /// Puts the message in again, under the same id. If the broker has lost it, it is a new one with a
    /// new deadline. If it still waits for a worker or is being worked on, it stays where it is, and
    /// what becomes of it is told, late as it may be; what has become of it already is told again. So it
    /// is not processed twice, as far as the engine knows its id ([`Capability::SharedIds`](crate::Capability::SharedIds)).
    ///
    /// # Errors
    /// As [`Producer::send`](super::Producer::send).
    pub async fn send_again(&self) -> Result<(), Error> {
        let timeout = self.sent.producer.settings.send_timeout;
        let interest = &self.sent.interest;
        let mut known = Known { interest, outcomes: Some(interest.begin_again()) };
        let sending = async {
            let permits = self.sent.producer.room(self.sent.message.body.len(), true).await?;
            self.sent.hand_over(&Arc::new(permits)).await
        };
        let sent = tokio::time::timeout(timeout, sending).await;
        let sent = sent.unwrap_or_else(|_| Err(self.sent.not_confirmed(timeout)));
        if sent.is_ok() {
            known.outcomes = None;
        }
        sent
    }
}

/// What is known of a message while it is put in again: it still is, unless that succeeds.
struct Known<'a> {
    interest: &'a Interest,
    outcomes: Option<Vec<Arc<Settled>>>,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        if let Some(outcomes) = self.outcomes.take() {
            self.interest.restore(outcomes);
        }
    }
}

impl<Out, C> fmt::Debug for Receipt<Out, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// What workers say of how far they have got. Only the latest is kept: who looks rarely sees few.
pub struct ProgressStream {
    interest: Interest,
    seen: u64,
}

impl ProgressStream {
    /// Waits for news; `None` when it is known what became of the message, or the connection is closed.
    pub async fn next(&mut self) -> Option<Progress> {
        let (seen, progress) = self.interest.progress_after(self.seen).await?;
        self.seen = seen;
        Some(progress)
    }
}

impl fmt::Debug for ProgressStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressStream").field("seen", &self.seen).finish_non_exhaustive()
    }
}
