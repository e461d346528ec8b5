//! Ids for queues; none is ever used twice.
//!
//! The ledger knows queues, even transient ones, by their ids for as long as it remembers their
//! messages: a restart must not use their ids again. So ids are reserved in the definitions, many
//! at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use broker::{BrokerError, QueueId};

/// How many ids are reserved at a time; a restart skips those that were not used.
const RESERVED_AT_A_TIME: u32 = 256;

/// See the module's documentation.
pub(crate) struct QueueIds {
    next: AtomicU32,
    /// According to the definitions, ids below this one are used.
    reserved: AtomicU32,
}

impl QueueIds {
    /// Ids below `next` are used or reserved.
    pub(crate) fn new(next: u32) -> Self {
        Self { next: AtomicU32::new(next), reserved: AtomicU32::new(next) }
    }

    /// An id that was never used. When the reserved ones are used up, `reserve` gets the id up to
    /// which more are to be reserved, and must log that before the id is used.
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
