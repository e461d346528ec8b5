//! Making it durable: one group of records per flush.
//!
//! Owns the writing end of the log. Invariants: what one flush covers is one group, so a crash leaves
//! all of it or nothing; a group that a full disk refused is written as it was before anything else
//! is, since its pages' positions are known to the index already.

use std::sync::atomic::Ordering;

use segment_log::{Batch, LogError, RECORD_HEADER_SIZE};

use crate::device::Device;
use crate::ledger::Ledger;
use crate::upkeep::Upkeep;
use crate::{Cursor, LedgerError};

/// Kind of record: a page.
pub(crate) const PAGE: u8 = 1;
/// Kind of record: how far the message log was followed.
pub(crate) const APPLIED: u8 = 2;

/// Bytes of the payload of [`APPLIED`].
const APPLIED_SIZE: usize = 20;

/// The writing side, the follower's.
pub(crate) struct Writer {
    pub(crate) log: Box<dyn Device>,
    pub(crate) upkeep: Upkeep,
    batch: Batch,
    /// The batch is yet to be written: there was no room for it.
    is_pending: bool,
    /// What the batch says, or the last one said.
    applied: u64,
}

/// How far the message log was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) position: u64,
    /// The last event.
    pub(crate) last: Option<Cursor>,
}

impl Applied {
    fn encode(self) -> [u8; APPLIED_SIZE] {
        // No event has this cursor.
        let last = self.last.unwrap_or(Cursor { position: u64::MAX, nth: u32::MAX });
        let mut bytes = [0; APPLIED_SIZE];
        bytes[..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&last.position.to_le_bytes());
        bytes[16..].copy_from_slice(&last.nth.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; APPLIED_SIZE] = bytes.try_into().ok()?;
        let position = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        let last = Cursor {
            position: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            nth: u32::from_le_bytes(bytes[16..].try_into().ok()?),
        };
        let is_none = last.position == u64::MAX && last.nth == u32::MAX;
        Some(Self { position, last: (!is_none).then_some(last) })
    }
}

impl Writer {
    pub(crate) fn new(log: Box<dyn Device>, upkeep: Upkeep, applied: u64) -> Self {
        let batch = Batch::new(log.next_position());
        Self { log, upkeep, batch, is_pending: false, applied }
    }

    pub(crate) fn flush(
        &mut self,
        ledger: &Ledger,
        applied: u64,
        now_ms: u64,
    ) -> Result<(), LedgerError> {
        if self.is_pending {
            self.write(ledger)?;
        }
        let has_rolled = self.roll_by_age(ledger, now_ms)?;
        if ledger.pages.has_unflushed() || applied != self.applied || has_rolled {
            self.gather(ledger, applied);
            self.write(ledger)?;
        }
        ledger.window.set_floor(now_ms.saturating_sub(ledger.options.window_ms));
        self.upkeep.work(&ledger.index, &ledger.window, self.log.next_position());
        self.forget(ledger, now_ms)?;
        self.tell_size(ledger);
        Ok(())
    }

    /// Puts everything since the last flush into the batch.
    fn gather(&mut self, ledger: &Ledger, applied: u64) {
        let start = self.log.next_position();
        self.batch.reset(start);
        self.batch.begin_group();
        let tail_bytes = (RECORD_HEADER_SIZE + APPLIED_SIZE) as u64;
        let sealed = ledger.pages.seal(start, tail_bytes);
        for page in &sealed.pages {
            let position = self.batch.append(PAGE, 0, &[&page.bytes]);
            debug_assert_eq!(position, page.position, "the index knows it by this position");
        }
        let last = Applied { position: applied, last: sealed.last };
        self.batch.append(APPLIED, 0, &[&last.encode()]);
        self.batch.end_group();
        self.applied = applied;
        self.is_pending = true;
    }

    fn write(&mut self, ledger: &Ledger) -> Result<(), LogError> {
        // After a failed sync the batch is in the log already, and the log poisoned.
        self.log.write(&self.batch)?;
        self.log.sync()?;
        self.is_pending = false;
        let segment = self.log.segments().last().map_or(0, |segment| segment.base);
        ledger.pages.flushed(self.batch.end(), segment);
        ledger.applied.store(self.applied, Ordering::Release);
        Ok(())
    }
}
