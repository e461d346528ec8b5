//! The log's writing side.
//!
//! Owns the batch that is being written. Invariants: what one flush covers is one group, so a crash
//! leaves all of it or nothing; a group that a full disk refused is written unchanged before
//! anything else, since the index already knows its pages' positions.

use std::sync::atomic::Ordering;

use segment_log::{Batch, LogError, RECORD_HEADER_SIZE};

use crate::device::Device;
use crate::records::{APPLIED, APPLIED_SIZE, Applied, PAGE};
use crate::shared::Shared;
use crate::upkeep::Upkeep;

/// The log's writing side, used by the one thread that appends.
pub(crate) struct Writer {
    pub(crate) log: Box<dyn Device>,
    pub(crate) upkeep: Upkeep,
    batch: Batch,
    /// Whether the batch is still to be written, because there was no room for it.
    is_pending: bool,
    /// How far the message log has been followed, according to this batch or the last one.
    applied: u64,
}

impl Writer {
    pub(crate) fn new(log: Box<dyn Device>, upkeep: Upkeep, applied: u64) -> Self {
        let batch = Batch::new(log.next_position());
        Self { log, upkeep, batch, is_pending: false, applied }
    }

    /// Writes the batch that a full disk refused.
    pub(crate) fn write_pending(&mut self, shared: &Shared) -> Result<(), LogError> {
        if self.is_pending { self.write(shared) } else { Ok(()) }
    }

    /// Whether this is not what the last batch recorded.
    pub(crate) fn is_news(&self, applied: u64) -> bool {
        self.applied != applied
    }

    /// Puts everything since the last flush into the batch.
    pub(crate) fn gather(&mut self, shared: &Shared, applied: u64) {
        let start = self.log.next_position();
        self.batch.reset(start);
        self.batch.begin_group();
        let tail_bytes = (RECORD_HEADER_SIZE + APPLIED_SIZE) as u64;
        let sealed = shared.pages.seal(start, tail_bytes);
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

    pub(crate) fn write(&mut self, shared: &Shared) -> Result<(), LogError> {
        // After a failed sync the batch is already in the log, and the log is poisoned.
        self.log.write(&self.batch)?;
        self.log.sync()?;
        self.is_pending = false;
        let segment = self.log.segments().last().map_or(0, |segment| segment.base);
        shared.pages.flushed(self.batch.end(), segment);
        shared.applied.store(self.applied, Ordering::Release);
        Ok(())
    }
}
