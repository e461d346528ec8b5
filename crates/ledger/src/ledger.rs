//! The ledger itself.

use segment_log::Disk;

use crate::{Event, IdHash, LedgerError, OutcomeQuery, OutcomesPage};

/// How much is kept, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events older than this go, ms. Default: 7 days.
    pub retention_ms: u64,
    /// Bytes on disk beyond which the oldest events go. Default: 1 GiB.
    pub bytes_max: u64,
    /// How long an id is remembered for de-duplication, ms. Default: 7 days.
    pub window_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        Self { retention_ms: WEEK_MS, bytes_max: 1 << 30, window_ms: WEEK_MS }
    }
}

/// See the crate's documentation. One thread appends and flushes; any thread asks.
pub struct Ledger {}

impl Ledger {
    /// Opens the ledger on a disk (a directory) of its own.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open<D: Disk + Clone>(_disk: D, _options: Options) -> Result<Self, LedgerError> {
        Ok(Self {})
    }

    /// The position of the message log up to which everything is durable here.
    pub fn applied(&self) -> u64 {
        0
    }

    /// Takes an event in; it is there for who asks from now on, and durable with the next flush.
    /// Events come in the order of their cursors; one that is not after the last is ignored.
    pub fn append(&self, _event: &Event<'_>) {}

    /// Makes everything appended durable, and with it that the message log was followed up to
    /// `applied`. Forgets what is too old or too much.
    ///
    /// # Errors
    /// Whatever the disk says; what was appended is then tried again with the next flush.
    pub fn flush(&self, _applied: u64, _now_ms: u64) -> Result<(), LedgerError> {
        Ok(())
    }

    /// All that is known of a message, in order.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn events(&self, _id: IdHash) -> Result<Vec<Event<'static>>, LedgerError> {
        Ok(Vec::new())
    }

    /// Outcomes in order.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn outcomes(&self, _query: &OutcomeQuery) -> Result<OutcomesPage, LedgerError> {
        Ok(OutcomesPage::default())
    }

    /// When an id was seen by a queue ([`crate::dedup_key`]) last, ms since the epoch, if within
    /// the window.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn first_seen(&self, _key: u128) -> Result<Option<u64>, LedgerError> {
        Ok(None)
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        0
    }
}
