//! What can go wrong with the definitions, each as one clear line.

use std::io;

/// An error of the definition store or of a change record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// Another process (or another handle of this one) holds the store.
    #[error("the definitions {name} are in use by another process")]
    InUse {
        /// The file, by the name given to the store.
        name: String,
    },
    /// The file is not a definition store, or its content cannot be trusted.
    #[error("the definitions {name} are damaged: {reason}")]
    Damaged {
        /// The file, by the name given to the store.
        name: String,
        /// What was found.
        reason: String,
    },
    /// The file was written by a version of wilco with another format.
    #[error("the definitions {name} have format {found}, this version reads format {supported}")]
    Format {
        /// The file, by the name given to the store.
        name: String,
        /// The format the file says it has.
        found: u64,
        /// The format this version reads and writes.
        supported: u64,
    },
    /// The store has been closed.
    #[error("the definitions {name} are closed")]
    Closed {
        /// The file, by the name given to the store.
        name: String,
    },
    /// The disk refused an operation.
    #[error("the definitions {name} cannot be read or written: {source}")]
    Io {
        /// The file, by the name given to the store.
        name: String,
        /// What the disk said.
        source: io::Error,
    },
    /// A change record of the log cannot be understood.
    #[error("a definition change in the log cannot be read: {reason}")]
    Change {
        /// What is wrong with it.
        reason: String,
    },
}

impl DefinitionError {
    /// The error for what redb reported about the file `name`.
    pub(super) fn from_redb(name: &str, error: impl Into<redb::Error>) -> Self {
        let name = name.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                Self::InUse { name }
            }
            // redb reports content it does not recognise as invalid data, not as corruption.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged { name, reason: source.to_string() }
            }
            // A file shorter than its own header says it is.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged { name, reason: "the file ends too early".to_owned() }
            }
            redb::Error::Io(source) => Self::Io { name, source },
            redb::Error::PreviousIo => Self::Io {
                name,
                source: io::Error::other("an earlier read or write failed; open the store again"),
            },
            other => Self::Damaged { name, reason: one_line(&other.to_string()) },
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
