//! What goes wrong, and what it means: of connections, links and messages.

use fe2o3_amqp::connection::OpenError;
use fe2o3_amqp::link::{
    LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
};
use fe2o3_amqp::types::definitions::{self, AmqpError, ErrorCondition, LinkError};
use fe2o3_amqp::types::primitives::Symbol;

use crate::error::{Error, ErrorKind};
use crate::url::{Address, Mechanism};

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Down {
    /// The socket could not be opened, or ended.
    #[error("{0}")]
    Socket(String),
    /// The broker has nothing to say.
    #[error("no answer")]
    Silent,
    /// It does not let us in.
    #[error("{0}")]
    Login(String),
    /// It speaks something else.
    #[error("this is no broker that speaks AMQP 1.0: {0}")]
    NotAmqp(String),
    /// It speaks no TLS.
    #[cfg(feature = "tls")]
    #[error("there is no TLS on this port")]
    NotTls,
    /// It is not to be trusted, or does not trust us.
    #[cfg(feature = "tls")]
    #[error("{0}")]
    Tls(String),
    /// It has closed the connection.
    #[error("the broker has closed the connection: {0}")]
    Closed(String),
}

impl Down {
    /// Of opening.
    pub(super) fn of_open(error: OpenError) -> Self {
        match error {
            OpenError::RemoteClosedWithError(error) => Self::of_close(&error),
            OpenError::ProtocolHeaderMismatch(bytes) => {
                Self::NotAmqp(bytes.escape_ascii().to_string())
            }
            OpenError::Io(error) => Self::Socket(error.to_string()),
            other => Self::Socket(other.to_string()),
        }
    }

    /// Of an error with which the broker closes the connection.
    pub(super) fn of_close(error: &definitions::Error) -> Self {
        match error.condition {
            ErrorCondition::AmqpError(AmqpError::UnauthorizedAccess) => Self::Login(words(error)),
            _ => Self::Closed(words(error)),
        }
    }

    /// Whether another host may be better.
    pub(super) fn may_differ(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Silent | Self::Closed(_) => true,
            // Each host has a certificate of its own.
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }

    /// What to do about it.
    pub(super) fn explain(&self, address: &Address) -> Error {
        let (kind, advice) = match self {
            Self::Login(_) if address.mechanism == Mechanism::External => {
                (ErrorKind::Login, "; check that the broker knows a user by this certificate")
            }
            Self::Login(_) if address.user.is_empty() => {
                (ErrorKind::Login, "; say user and password in the URL")
            }
            Self::Login(_) => (ErrorKind::Login, "; check user and password in the URL"),
            Self::NotAmqp(_) => (ErrorKind::Url, "; check host and port in the URL"),
            #[cfg(feature = "tls")]
            Self::NotTls => (
                ErrorKind::Url,
                "; check the port in the URL (TLS has 5671 as a rule), or begin it with activemq://",
            ),
            // It says itself what to do.
            #[cfg(feature = "tls")]
            Self::Tls(_) => (ErrorKind::Tls, ""),
            Self::Socket(_) if address.may_want_tls() => (
                ErrorKind::Unreachable,
                "; port 5671 is for TLS as a rule, for which the URL begins with activemqs://",
            ),
            Self::Socket(_) | Self::Silent | Self::Closed(_) => (
                ErrorKind::Unreachable,
                "; check that the broker runs, and host and port in the URL",
            ),
        };
        Error::new(kind, format!("cannot connect to {address}: {self}{advice}"))
    }
}

/// Why a link is not there (any more).
#[derive(Debug, Clone)]
pub(super) enum Lost {
    /// Its connection is gone, or nobody knows: it may be there again soon.
    Connection,
    /// This program wants nothing more.
    Closed,
    /// The broker does not want it.
    Refused(Refusal),
}

/// The broker's words.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn of(error: Option<&definitions::Error>) -> Self {
        let Some(error) = error else {
            return Self { kind: ErrorKind::Refused, text: "without a reason".to_owned() };
        };
        let description = error.description.as_deref().unwrap_or_default();
        let kind = match kind(&error.condition) {
            // Artemis calls it an error of its own.
            ErrorKind::Broker if description.contains("does not have permission") => {
                ErrorKind::Forbidden
            }
            kind => kind,
        };
        Self { kind, text: words(error) }
    }

    pub(super) fn into_error(self, what: &str) -> Error {
        Error::new(self.kind, format!("{what}: {}", self.text))
    }
}

fn kind(condition: &ErrorCondition) -> ErrorKind {
    match condition {
        ErrorCondition::AmqpError(error) => match error {
            AmqpError::NotFound | AmqpError::ResourceDeleted => ErrorKind::NotFound,
            AmqpError::UnauthorizedAccess => ErrorKind::Forbidden,
            AmqpError::ResourceLimitExceeded => ErrorKind::Refused,
            AmqpError::FrameSizeTooSmall => ErrorKind::TooLarge,
            _ => ErrorKind::Broker,
        },
        ErrorCondition::LinkError(LinkError::MessageSizeExceeded) => ErrorKind::TooLarge,
        _ => ErrorKind::Broker,
    }
}

fn words(error: &definitions::Error) -> String {
    let condition = match &error.condition {
        ErrorCondition::AmqpError(it) => Symbol::from(it).0,
        ErrorCondition::ConnectionError(it) => Symbol::from(it).0,
        ErrorCondition::SessionError(it) => Symbol::from(it).0,
        ErrorCondition::LinkError(it) => Symbol::from(it).0,
        ErrorCondition::Custom(it) => it.0.clone(),
    };
    match error.description.as_deref().map(str::trim) {
        Some(description) if !description.is_empty() => format!("{description} ({condition})"),
        _ => condition,
    }
}

impl From<LinkStateError> for Lost {
    fn from(error: LinkStateError) -> Self {
        match error {
            LinkStateError::RemoteDetachedWithError(error)
            | LinkStateError::RemoteClosedWithError(error) => {
                Self::Refused(Refusal::of(Some(&error)))
            }
            _ => Self::Connection,
        }
    }
}

impl From<SendError> for Lost {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => LinkStateError::from(error).into(),
            SendError::MessageSizeExceeded(error) => {
                Self::Refused(Refusal { kind: ErrorKind::TooLarge, text: error.to_string() })
            }
            _ => Self::Connection,
        }
    }
}

impl From<RecvError> for Lost {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            _ => Self::Connection,
        }
    }
}

impl From<SenderAttachError> for Lost {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::RemoteClosedWithError(error) => {
                Self::Refused(Refusal::of(Some(&error)))
            }
            _ => Self::Connection,
        }
    }
}

impl From<ReceiverAttachError> for Lost {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::RemoteClosedWithError(error) => {
                Self::Refused(Refusal::of(Some(&error)))
            }
            _ => Self::Connection,
        }
    }
}
