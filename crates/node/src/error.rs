//! What can go wrong with a node, each as one clear line that tells the user what to do.

use broker::BrokerError;

use crate::auth::AuthError;
use crate::definitions::DefinitionError;

/// An error of the node. A client's mistake is a [`BrokerError`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Another process has the store open.
    #[error(
        "the store {path} is in use by another process; stop it, or choose another directory with --data"
    )]
    StoreInUse {
        /// The store's directory.
        path: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action}: {source}")]
    Disk {
        /// What was tried.
        action: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The message log failed.
    #[error("the message log: {0}")]
    Log(#[from] segment_log::LogError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    /// The definitions cannot be read or written.
    #[error(transparent)]
    Definitions(#[from] DefinitionError),
    /// A problem with users or permissions.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A write or sync failed earlier: nothing is confirmed any more until a restart.
    #[error("an earlier write to the store failed; restart wilco to recover")]
    Poisoned,
    /// Part of the store is gone, and going on would lose more.
    #[error("{text}")]
    Loss {
        /// What is gone, and what to do.
        text: String,
    },
    /// The directory of the store cannot be protected from other users.
    #[error(
        "{path} cannot be the directory of a store: others may write to it; choose a directory of its own with --data"
    )]
    SharedDirectory {
        /// The directory.
        path: String,
    },
    /// Something with that name exists already.
    #[error("{kind} '{name}' exists already")]
    Exists {
        /// `user`, `virtual host`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A name or a password with which nobody could log in.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// What is wrong.
        what: &'static str,
        /// Why, and what it must be.
        reason: &'static str,
    },
    /// Nothing with that name exists.
    #[error("there is no {kind} '{name}'")]
    Missing {
        /// `user`, `virtual host`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A command to the broker was refused.
    #[error("{0}")]
    Broker(#[from] BrokerError),
}

impl NodeError {
    /// For `map_err` on file operations.
    pub(crate) fn disk(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Disk { action, source }
    }
}
