//! What can go wrong with messages. `problem` says what a client is told about each error.

/// The text is not a cursor of this broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CursorError(
    /// What a cursor looks like.
    pub String,
);

/// Why something could not be done. Every implementation has to map its errors to these, and each
/// of these has its answer, so the list is deliberately complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessagesError {
    /// Nobody knows the id, or not in this queue.
    #[error("no message with this id is known here")]
    Unknown,
    /// A worker has it.
    #[error("the message is being worked on; only a queued one can be cancelled")]
    BeingWorkedOn,
    /// It has an outcome already.
    #[error("the message has its outcome already")]
    AlreadySettled,
    /// Only a message that has failed can be tried again.
    #[error("the message has not failed, so there is nothing to try again")]
    NotFailed,
    /// The content of the message is gone.
    #[error(
        "the message's content is not kept: its body was larger than 64 KiB, or the disk was nearly \
         full when it failed"
    )]
    ContentGone,
    /// The queue in which it failed has been deleted.
    #[error("the queue '{0}' is deleted")]
    QueueGone(String),
    /// The queue in which it failed is at its limit and takes no more.
    #[error("the queue '{0}' is full; try again when workers have taken some of its messages")]
    QueueFull(String),
    /// Only the broker, or a worker on its own connection, may publish there.
    #[error("{0}")]
    ReservedTarget(String),
    /// There is no such exchange.
    #[error("{0}")]
    UnknownExchange(String),
    /// The user may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Something about the message is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The body is too large.
    #[error("{0}")]
    TooLarge(String),
    /// A queue it was routed to is full.
    #[error("a queue that the message was routed to is full and refused it")]
    Refused,
    /// Not now, but perhaps soon.
    #[error("{0}")]
    Busy(String),
    /// The store cannot be read or written.
    #[error("{0}")]
    Store(String),
}
