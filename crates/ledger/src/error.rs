//! What can go wrong: the disk, and what is read from it.

/// An error of the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The log of the ledger.
    #[error("the ledger's log: {0}")]
    Log(#[from] segment_log::LogError),
    /// Reading or writing another file of the ledger.
    #[error("the ledger's index: {0}")]
    Io(#[from] std::io::Error),
}
