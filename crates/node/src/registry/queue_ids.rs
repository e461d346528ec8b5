//! Ids for queues, none of them ever used twice.
//!
//! The ledger knows queues by their ids for as long as it remembers their messages, also those that
//! are not durable: a restart must not use their ids again. So they are reserved in the definitions,
//! many at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use broker::{BrokerError, QueueId};

/// Ids that are reserved at a time; a restart skips those of them that were not used.
const RESERVED_AT_A_TIME: u32 = 256;

/// See the module's documentation.
pub(crate) struct QueueIds {
    next: AtomicU32,
    /// Ids below this one are said to be used in the definitions.
    reserved: AtomicU32,
}

impl QueueIds {
    /// Ids below `next` are used or reserved.
    pub(crate) fn new(next: u32) -> Self {
        Self { next: AtomicU32::new(next), reserved: AtomicU32::new(next) }
    }

    /// An id that was never used. Where none was reserved any more `reserve` is told up to where
    /// they are to be, and must log that before the id is used.
    ///
    /// # Errors
    /// `RESOURCE_ERROR` when there are no more.
    pub(crate) fn draw(&self, reserve: impl FnOnce(u32)) -> Result<QueueId, BrokerError> {
        let id = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| BrokerError::resource_error("the store has used up its queue ids"))?;
        if id >= self.reserved.load(Ordering::Acquire) {
            let end = id.saturating_add(RESERVED_AT_A_TIME);
            if self.reserved.fetch_max(end, Ordering::AcqRel) < end {
                reserve(end);
            }
        }
        Ok(QueueId(id))
    }
}
