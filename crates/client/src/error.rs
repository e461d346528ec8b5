//! The one error type: what went wrong, and what to do about it.

use std::fmt;

/// What kind of error it is; its text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be used.
    Url,
    /// The broker cannot be reached, or has not been for too long.
    Unreachable,
    /// The broker does not let this user in, or not into this virtual host.
    Login,
    /// The broker's certificate cannot be trusted, or the broker does not trust ours, or a file with a
    /// certificate or key cannot be used.
    Tls,
    /// The queue or exchange does not exist.
    NotFound,
    /// The user may not do this.
    Forbidden,
    /// The broker takes the message for none of its queues: one is full.
    Refused,
    /// No engine would take it: a name, an id, a key, a header or a deadline that there cannot be.
    Invalid,
    /// It is too large for the broker, or for the window of the producer.
    TooLarge,
    /// A value cannot be encoded, or bytes cannot be decoded.
    Codec,
    /// The window of the producer is full: only from [`try_send`](crate::Producer::try_send).
    Full,
    /// It is not known in time. Nothing is wrong with the message: ask again later.
    TimedOut,
    /// The connection was closed by this program.
    Closed,
    /// The broker has another opinion on what was asked.
    Broker,
    /// This broker, or this version of the library, cannot do it.
    Unsupported,
    /// Nobody keeps what became of messages: the engine does not, and the URL names no ledger.
    NoLedger,
    /// The ledger that the URL names cannot be opened, read or written.
    Ledger,
    /// The store of a broker in this process cannot be opened or written.
    Store,
    /// The outbox cannot be opened, read or written now.
    Outbox,
    /// Somebody else has had the outbox locked for too long.
    OutboxInUse,
    /// The outbox is damaged: nothing is changed in it any more.
    OutboxDamaged,
}

/// Why something could not be done, or cannot be known now.
///
/// The text is for a person: it says what to do. A program looks at [`kind`](Self::kind).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The connection is closed, by this program.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "this program has closed the connection")
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether doing the same again later may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unreachable
                | ErrorKind::Refused
                | ErrorKind::Full
                | ErrorKind::TimedOut
                | ErrorKind::Ledger
                | ErrorKind::Outbox
                | ErrorKind::OutboxInUse
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
