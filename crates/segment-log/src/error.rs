//! What can go wrong in the log, sorted by what the caller can do about it.

use std::io;

use thiserror::Error;

/// Errors of the log and of its readers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused an operation. Unless it came from a [`Reader`](crate::Reader), the log is
    /// poisoned from here on.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb: "write", "sync", "open".
        action: &'static str,
        /// The file's name inside the log's directory.
        path: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// There is no room for the batch. Nothing of it was kept; the same batch may be written again.
    #[error("the disk is full")]
    DiskFull,
    /// An earlier IO error left the log in doubt: it takes nothing more until it is opened anew.
    #[error("the log is poisoned by an earlier IO error; restart to recover")]
    Poisoned,
    /// No segment holds this position: never written, or deleted since.
    #[error("nothing is stored at position {0}")]
    NotFound(u64),
    /// The bytes at this position are not an intact record.
    #[error("no intact record at position {position}")]
    Corrupt {
        /// Where the damage begins.
        position: u64,
    },
    /// A file looks like a segment but cannot be one this version understands.
    #[error("segment {path} cannot be used: {problem}")]
    Format {
        /// The file's name inside the log's directory.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller broke a rule of the interface; nothing was changed.
    #[error("misuse of the log: {0}")]
    Misuse(&'static str),
}

impl LogError {
    /// Builds the error for a failed disk operation; a full disk is told apart.
    pub(crate) fn from_io(action: &'static str, path: &str, source: io::Error) -> Self {
        if is_disk_full(&source) {
            Self::DiskFull
        } else {
            Self::Io { action, path: path.to_owned(), source }
        }
    }
}

/// Whether the operation failed for want of room only.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
