//! What can go wrong in the log, sorted by what the caller can do about it.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Errors of the log and of its readers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused an operation. Unless the error came from a [`Reader`](crate::Reader) or
    /// from opening, the log is poisoned from now on.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb: "write", "sync", "open".
        action: &'static str,
        /// The file's name inside the log's directory.
        path: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// There is no room for the batch. None of it was kept; the same batch may be written again.
    #[error("the disk is full")]
    DiskFull,
    /// The process, or the whole system, has no file descriptors left. Nothing was changed; the
    /// same call may be tried again.
    #[error(
        "too many open files: raise the limit of open files (`ulimit -n`, `LimitNOFILE=` of systemd)"
    )]
    OutOfFiles,
    /// An earlier IO error left the log in doubt: it accepts nothing more until it is reopened.
    #[error("the log is poisoned by an earlier IO error; restart to recover")]
    Poisoned,
    /// No segment holds this position: it was never written, or has been deleted since.
    #[error("nothing is stored at position {0}")]
    NotFound(u64),
    /// The bytes at this position are not an intact record.
    #[error("no intact record at position {position}")]
    Corrupt {
        /// Where the damage begins.
        position: u64,
    },
    /// A file looks like a segment, but not like one this version understands.
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
    /// Whether the error passes without a restart: the log is as it was before, and the same call
    /// can be tried again once there is room, or a descriptor.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::DiskFull | Self::OutOfFiles)
    }

    /// Builds the error for a failed disk operation, telling temporary failures apart.
    pub(crate) fn from_io(action: Action, path: &str, source: io::Error) -> Self {
        if action.is_full(&source) {
            Self::DiskFull
        } else if action.is_out_of_files(&source) {
            Self::OutOfFiles
        } else {
            Self::Io { action: action.verb(), path: path.to_owned(), source }
        }
    }
}

/// What the disk was asked to do. This decides which of its refusals are temporary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    List,
    Create,
    Open,
    Rename,
    Remove,
    Read,
    Write,
    Cut,
    Sync,
    SyncDirectory,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Read => "read",
            Self::Write => "write",
            Self::Cut => "cut",
            Self::Sync => "sync",
            Self::SyncDirectory => "sync the directory of",
        }
    }

    /// Whether it failed only for want of room. Never true of a sync: what it should have made
    /// durable may be gone, whatever the reason. Nor of an action that needs no room.
    fn is_full(self, error: &io::Error) -> bool {
        !matches!(self, Self::Read | Self::Sync | Self::SyncDirectory) && is_disk_full(error)
    }

    /// Whether it failed only for want of a descriptor. An action that needs none cannot fail that
    /// way, so such an answer is not trusted.
    fn is_out_of_files(self, error: &io::Error) -> bool {
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        match self {
            Self::Create | Self::Open => {
                matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
            }
            Self::List | Self::Rename | Self::Remove => {
                matches!(code, Some(Errno::MFILE | Errno::NFILE))
            }
            Self::Read | Self::Write | Self::Cut | Self::Sync | Self::SyncDirectory => false,
        }
    }
}

/// Whether the operation failed only for want of room.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_room_and_descriptors_are_temporary_and_never_in_a_sync() {
        let error = |action, errno: Errno| LogError::from_io(action, "f", errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert!(matches!(error(Action::Write, errno), LogError::DiskFull));
            assert!(matches!(error(Action::Rename, errno), LogError::DiskFull));
            assert!(matches!(error(Action::Sync, errno), LogError::Io { .. }));
        }
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(matches!(error(Action::List, errno), LogError::OutOfFiles));
            assert!(matches!(error(Action::Write, errno), LogError::Io { .. }));
        }
        assert!(matches!(error(Action::Create, Errno::NOMEM), LogError::OutOfFiles));
        assert!(matches!(error(Action::Rename, Errno::NOMEM), LogError::Io { .. }));
        assert!(!error(Action::Open, Errno::IO).is_temporary());
        assert!(LogError::OutOfFiles.to_string().contains("raise the limit"));
    }
}
