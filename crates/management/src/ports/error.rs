//! What can go wrong with messages. `problem` says what a client is told of each.

/// The text is no cursor of this broker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CursorError(
    /// What a cursor looks like.
    pub String,
);

/// Why something could not be done. Every implementation has to fit its errors in here, and every
/// one of them has its answer, so the list is complete on purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessagesError {
    /// Nobody has heard of the id, or not in this queue.
    #[error("no message with this id is known here")]
    Unknown,
    /// A worker has it.
    #[error("the message is being worked on; only a queued one can be cancelled")]
    BeingWorkedOn,
    /// It has an outcome already.
    #[error("the message has its outcome already")]
    AlreadySettled,
    /// Only what has failed can be tried again.
    #[error("the message has not failed, so there is nothing to try again")]
    NotFailed,
    /// What was published is no longer there.
    #[error(
        "the message's content is not kept: its body was larger than 64 KiB, or it was processed"
    )]
    ContentGone,
    /// The queue it failed in is deleted.
    #[error("the queue '{0}' is deleted")]
    QueueGone(String),
    /// The queue it failed in is at its limit and takes no more.
    #[error("the queue '{0}' is full")]
    QueueFull(String),
    /// There is no such exchange.
    #[error("{0}")]
    UnknownExchange(String),
    /// The user may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Something of the message is not as it must be.
    #[error("{0}")]
    Invalid(String),
    /// The body is larger than it may be.
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
