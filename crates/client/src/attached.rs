//! A message of which only queue and id are known, in whatever process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::outcome::Outcome;
use crate::story::{self, Stage, Story};

/// How long an outcome is waited for, unless said otherwise.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A message that was asked for by its id.
pub struct Attached<R = (), C = crate::codec::Json> {
    connection: Arc<Connection>,
    queue: String,
    id: String,
    state: MessageState<R, C>,
    /// The id is known in other queues, too.
    is_elsewhere: bool,
}

/// What is known of a message in a queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum MessageState<R = (), C = crate::codec::Json> {
    /// Nobody has sent a message with this id to this queue, or it was so long ago that it is forgotten,
    /// or this user may not know.
    Unknown,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Delivered,
    /// This became of it.
    Settled(Outcome<R, C>),
}

impl<R, C> MessageState<R, C> {
    fn of(story: Option<&Story>, queue: &str) -> Self {
        let in_queue = story.and_then(|story| story.queues().iter().find(|it| it.queue == queue));
        let Some(in_queue) = in_queue else { return Self::Unknown };
        match (in_queue.outcome(), in_queue.stage) {
            (Some(outcome), _) => Self::Settled(outcome),
            (None, Stage::Delivered) => Self::Delivered,
            (None, Stage::Queued | Stage::Settled) => Self::Queued,
        }
    }
}

impl<R, C> Attached<R, C> {
    pub(crate) async fn find(
        connection: Arc<Connection>,
        queue: String,
        id: String,
    ) -> Result<Self, Error> {
        let story = story::look_up(&connection, &id, Some(&queue)).await?;
        let state = MessageState::of(story.as_ref(), &queue);
        let is_elsewhere = story.as_ref().is_some_and(Story::is_in_several_queues);
        Ok(Self { connection, queue, id, state, is_elsewhere })
    }

    /// Where the message stood when it was last looked at.
    pub fn state(&self) -> &MessageState<R, C> {
        &self.state
    }

    /// Looks again.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub async fn look_again(&mut self) -> Result<&MessageState<R, C>, Error> {
        let story = story::look_up(&self.connection, &self.id, Some(&self.queue)).await?;
        self.state = MessageState::of(story.as_ref(), &self.queue);
        Ok(&self.state)
    }

    /// What became of the message: waits until that is known, but no longer than 30 s.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: nothing is known of it. [`ErrorKind::TimedOut`]: it is not known yet.
    pub async fn outcome(&self) -> Result<Outcome<R, C>, Error> {
        self.outcome_within(OUTCOME_TIMEOUT).await
    }

    /// The same, waiting no longer than this.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub async fn outcome_within(&self, timeout: Duration) -> Result<Outcome<R, C>, Error> {
        let Self { connection, queue, id, .. } = self;
        let began = Instant::now();
        let mut is_elsewhere = self.is_elsewhere;
        loop {
            // Each answer says how it is now, so nothing is missed between two. Where the id is in other
            // queues as well, the broker would wait for those, too.
            let left = timeout.saturating_sub(began.elapsed());
            let wait = if is_elsewhere { Duration::ZERO } else { left };
            let asked = story::settled_within(connection, id, queue, wait);
            let asked = tokio::time::timeout(left, asked).await;
            let timed_out = || {
                let text = format!(
                    "after {timeout:?} it is not known what became of message {id} in queue \
                     '{queue}'; ask again"
                );
                Error::new(ErrorKind::TimedOut, text)
            };
            let story = asked.map_err(|_| timed_out())??;
            is_elsewhere = story.as_ref().is_some_and(Story::is_in_several_queues);
            match MessageState::of(story.as_ref(), queue) {
                MessageState::Settled(outcome) => return Ok(outcome),
                MessageState::Unknown => {
                    let text = format!(
                        "nothing is known of a message {id} in queue '{queue}': it was never sent \
                         there, or is forgotten, or this user may not know"
                    );
                    return Err(Error::new(ErrorKind::NotFound, text));
                }
                // If the id is known elsewhere, too, the answer came for that.
                MessageState::Queued | MessageState::Delivered => {
                    tokio::time::sleep(LOOK_AGAIN.min(left)).await;
                }
            }
        }
    }

    /// Has a message that has failed, expired or was dropped tried again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Forbidden`]; [`ErrorKind::Broker`]: it has not failed.
    pub async fn retry(&self) -> Result<(), Error> {
        story::change(&self.connection, "retry", &self.id, Some(&self.queue)).await
    }

    /// Takes a message that waits for a worker out of its queue.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Forbidden`]; [`ErrorKind::Broker`]: a worker has it, or it
    /// has its outcome.
    pub async fn cancel(&self) -> Result<(), Error> {
        story::change(&self.connection, "cancel", &self.id, Some(&self.queue)).await
    }
}

impl<R, C> fmt::Debug for Attached<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, id, .. } = self;
        f.debug_struct("Attached").field("queue", queue).field("id", id).finish_non_exhaustive()
    }
}
