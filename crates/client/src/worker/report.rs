//! What a worker has done.

use std::fmt;

/// What a worker has done between its start and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages processed.
    pub processed: u64,
    /// Messages that have failed for good.
    pub failed: u64,
    /// Attempts after which a message was put back, to be tried again.
    pub retried: u64,
    /// Messages that were given back unfinished because the worker stopped.
    pub given_back: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processed, failed, retried, given_back } = self;
        write!(
            f,
            "{processed} processed, {failed} failed, {retried} retried, {given_back} given back"
        )
    }
}
