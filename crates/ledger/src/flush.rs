//! A flush: everything appended becomes durable, and what is too old or too much is forgotten.
//!
//! Owns the order of these steps, and nothing else.

use crate::shared::Shared;
use crate::writer::Writer;
use crate::{LedgerError, dedup};

impl Writer {
    /// Makes durable what was appended, and that the message log has been followed up to `applied`.
    pub(crate) fn flush(
        &mut self,
        shared: &Shared,
        applied: u64,
        now_ms: u64,
    ) -> Result<(), LedgerError> {
        self.write_pending(shared)?;
        let has_rolled = self.roll_by_age(shared, now_ms)?;
        if shared.pages.has_unflushed() || self.is_news(applied) || has_rolled {
            self.gather(shared, applied);
            self.write(shared)?;
        }
        shared.window.set_floor(dedup::seen(now_ms.saturating_sub(shared.options.window_ms)));
        self.upkeep.work(&shared.index, &shared.window, self.log.next_position());
        self.forget(shared, now_ms)?;
        self.tell_size(shared);
        Ok(())
    }
}
