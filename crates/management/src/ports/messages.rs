//! Messages by id, and outcomes in order.

use std::pin::Pin;

use async_trait::async_trait;

use super::{
    Cursor, CursorError, MessageEvent, MessagesError, OutcomePage, OutcomeQuery, Outgoing, Placed,
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

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As far as is known, which may be a moment ago. Cheap.
    Known,
    /// Up to this moment: everything that anybody was told of before. May cost a commit.
    Now,
}

/// The messages of a broker and what becomes of them.
///
/// To follow outcomes, or to wait for one: get [`Messages::changed`], look, then wait for it.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// Publishes as a user, with its permissions; returns when the message will survive a crash.
    ///
    /// # Errors
    /// [`MessagesError`]; it is not published then, unless the text says that it may be.
    async fn publish(
        &self,
        user: &str,
        vhost: &str,
        message: Outgoing,
    ) -> Result<Placed, MessagesError>;

    /// What happened to the messages of an id, in order; none when nobody has heard of it.
    ///
    /// # Errors
    /// [`MessagesError::Store`].
    async fn events(
        &self,
        vhost: &str,
        id: &str,
        freshness: Freshness,
    ) -> Result<Vec<MessageEvent>, MessagesError>;

    /// Outcomes in the order in which they were decided.
    ///
    /// # Errors
    /// [`MessagesError::Store`]; [`MessagesError::Invalid`] for a cursor of somebody else's.
    async fn outcomes(&self, query: OutcomeQuery) -> Result<OutcomePage, MessagesError>;

    /// The cursor after which everything comes that is settled from now on; `None` when nothing
    /// has been settled yet.
    ///
    /// # Errors
    /// [`MessagesError::Store`].
    async fn end(&self) -> Result<Option<Cursor>, MessagesError>;

    /// The cursor after which everything comes that is kept.
    fn beginning(&self) -> Cursor;

    /// Reads what a client hands back.
    ///
    /// # Errors
    /// [`CursorError`] when this port did not write it.
    fn cursor(&self, text: &str) -> Result<Cursor, CursorError>;

    /// Is over when there may be more events than at the moment of this call.
    fn changed(&self) -> Changed;

    /// Takes a queued message out of a queue; its outcome is `dropped`, the reason `cancelled`.
    /// Who may do that is checked by the caller.
    ///
    /// # Errors
    /// [`MessagesError`]; nothing has changed then.
    async fn cancel(&self, vhost: &str, queue: &str, id: &str) -> Result<(), MessagesError>;

    /// Publishes a message that has failed in a queue into that queue again. Who may do that is
    /// checked by the caller.
    ///
    /// # Errors
    /// [`MessagesError`]; nothing has changed then.
    async fn retry(&self, vhost: &str, queue: &str, id: &str) -> Result<(), MessagesError>;

    /// Whether a user may access a queue or an exchange (`""` is the default exchange) so. Asked for
    /// every event that is shown, each time, so it answers from memory.
    fn may(&self, user: &str, vhost: &str, access: Access, name: &str) -> bool;
}
