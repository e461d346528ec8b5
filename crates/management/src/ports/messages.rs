//! Messages by id, and outcomes in order.

use std::pin::Pin;

use async_trait::async_trait;

use super::{
    Cursor, CursorError, MessageEvent, MessagesError, OutcomePage, OutcomeQuery, Outgoing, Placed,
    User,
};

/// See [`Messages::changed`].
pub type Changed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What somebody wants to do with a queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Take messages out of it, or see them.
    Read,
    /// Put messages in.
    Write,
}

impl Access {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// How recent an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Includes everything that anybody has been told: confirms, acks, outcomes. Cheap.
    Told,
    /// Up to this moment. May cost a commit.
    Now,
}

/// The messages of a broker and what becomes of them.
///
/// To follow outcomes, or to wait for one: get [`Messages::changed`], look, then await it.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// Publishes as a user, with that user's permissions; returns when the message will survive a
    /// crash.
    ///
    /// # Errors
    /// [`MessagesError`]; then the message is not published, unless the text says that it may be.
    async fn publish(
        &self,
        user: &User,
        vhost: &str,
        message: Outgoing,
    ) -> Result<Placed, MessagesError>;

    /// What happened to the messages with an id, in order; empty when nobody knows the id.
    ///
    /// # Errors
    /// [`MessagesError::Store`].
    async fn events(
        &self,
        vhost: &str,
        id: &str,
        freshness: Freshness,
    ) -> Result<Vec<MessageEvent>, MessagesError>;

    /// Outcomes in the order in which they were decided, including all that anybody has been told.
    ///
    /// # Errors
    /// [`MessagesError::Store`]; [`MessagesError::Invalid`] for a cursor of another broker.
    async fn outcomes(&self, query: OutcomeQuery) -> Result<OutcomePage, MessagesError>;

    /// The cursor after which everything comes that is settled from now on; `None` when nothing has
    /// been settled yet.
    ///
    /// # Errors
    /// [`MessagesError::Store`].
    async fn end(&self) -> Result<Option<Cursor>, MessagesError>;

    /// The cursor before everything that is kept.
    fn beginning(&self) -> Cursor;

    /// Reads a cursor that a client hands back.
    ///
    /// # Errors
    /// [`CursorError`] when this port did not write it.
    fn cursor(&self, text: &str) -> Result<Cursor, CursorError>;

    /// Completes when there may be more events than at the moment of this call.
    fn changed(&self) -> Changed;

    /// Takes a queued message out of a queue; its outcome is `dropped`, the reason `cancelled`. The
    /// caller checks who may do that.
    ///
    /// # Errors
    /// [`MessagesError`]; nothing has changed then.
    async fn cancel(&self, vhost: &str, queue: &str, id: &str) -> Result<(), MessagesError>;

    /// Publishes a message that has failed in a queue to that queue again. The caller checks who
    /// may do that. A copy in a dead-letter queue is taken out if the user may read that queue and
    /// write to it.
    ///
    /// # Errors
    /// [`MessagesError`]; nothing has changed then.
    async fn retry(
        &self,
        user: &User,
        vhost: &str,
        queue: &str,
        id: &str,
    ) -> Result<(), MessagesError>;

    /// The largest body that a message may have, bytes.
    fn message_bytes_max(&self) -> u64;

    /// Whether a user has this access to a queue or an exchange (`""` is the default exchange). This
    /// is asked each time an event is shown, so it is answered from memory.
    fn may(&self, user: &str, vhost: &str, access: Access, name: &str) -> bool;
}
