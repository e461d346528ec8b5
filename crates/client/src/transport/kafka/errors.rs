//! What Kafka's errors mean to a program.

use krafka::KrafkaError;
use krafka::error::ErrorCode;

use crate::error::{Error, ErrorKind};
use crate::url::Address;

/// Whether there is no such topic, or no such partition of it.
pub(super) fn is_unknown(error: &KrafkaError) -> bool {
    let codes = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    matches!(error, KrafkaError::Broker { code, .. } if codes.contains(code))
}

/// An error about something, in words that say what to do.
pub(super) fn refused(what: &str, error: &KrafkaError) -> Error {
    let (kind, advice) = match error {
        KrafkaError::Auth { .. } => (ErrorKind::Login, "; check user and password in the URL"),
        KrafkaError::Closed { .. } => return Error::closed(),
        error if is_unknown(error) => (ErrorKind::NotFound, ""),
        KrafkaError::Broker { code, .. } => match code {
            ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed => {
                (ErrorKind::Forbidden, "; an administrator can allow it to this user")
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => (
                ErrorKind::TooLarge,
                "; put the content elsewhere and send where it is, or have max.message.bytes raised",
            ),
            ErrorCode::InvalidTopic => (ErrorKind::Invalid, ""),
            code if code.is_retriable() => (ErrorKind::Unreachable, "; check that the brokers run"),
            _ => (ErrorKind::Broker, ""),
        },
        KrafkaError::Network(_)
        | KrafkaError::Timeout { .. }
        | KrafkaError::DeliveryTimeout { .. } => {
            (ErrorKind::Unreachable, "; check that the brokers run")
        }
        _ => (ErrorKind::Broker, ""),
    };
    Error::new(kind, format!("{what}: {error}{advice}"))
}

/// There is no connection to begin with.
pub(super) fn unreachable(address: &Address, error: &KrafkaError) -> Error {
    let (kind, advice) = match error {
        KrafkaError::Auth { .. } if address.tls.is_some() => (
            ErrorKind::Login,
            "; check user, password, auth_mechanism and the certificates in the URL",
        ),
        KrafkaError::Auth { .. } => {
            (ErrorKind::Login, "; check user, password and auth_mechanism in the URL")
        }
        KrafkaError::Config { .. } => (ErrorKind::Url, ""),
        _ if address.tls.is_some() => (
            ErrorKind::Unreachable,
            "; check that the brokers run and have TLS on this port, and hosts and ports in the URL",
        ),
        _ => (
            ErrorKind::Unreachable,
            "; check that the brokers run, and hosts and ports in the URL; one that wants TLS needs kafkas://",
        ),
    };
    Error::new(kind, format!("cannot connect to {address}: {error}{advice}"))
}
