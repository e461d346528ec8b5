//! Forgetting: whole segments of the log, oldest first.
//!
//! Owns the decision about what is too old or too much. Never deletes a segment before the window
//! can do without its pages, nor the one that holds the latest record of how far the message log
//! has been followed.

use std::sync::atomic::Ordering;

use segment_log::{SEGMENT_HEADER_SIZE, SegmentStat};

use crate::LedgerError;
use crate::shared::Shared;
use crate::writer::Writer;

/// A segment takes events for at most this fraction of the retention time, since it is deleted as a
/// whole.
const SEGMENTS_PER_RETENTION: u64 = 16;

impl Writer {
    /// Begins a new segment if the events of the active one differ much in age. Returns whether it
    /// did.
    pub(crate) fn roll_by_age(
        &mut self,
        shared: &Shared,
        now_ms: u64,
    ) -> Result<bool, LedgerError> {
        let Some(active) = self.log.segments().last().copied() else { return Ok(false) };
        let times = shared.pages.with_directory(|directory| directory.times_ms(active.base));
        let span_ms = shared.options.retention_ms / SEGMENTS_PER_RETENTION;
        if times.is_none_or(|times| times.start.saturating_add(span_ms) >= now_ms) {
            return Ok(false);
        }
        match self.log.roll() {
            Ok(()) => Ok(true),
            // Nothing happened.
            Err(error) if error.is_temporary() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes segments that are too old, and the oldest ones while there is too much.
    pub(crate) fn forget(&mut self, shared: &Shared, now_ms: u64) -> Result<(), LedgerError> {
        let segments = self.log.segments();
        let Some((active, others)) = segments.split_last() else { return Ok(()) };
        if active.base == active.end {
            // The segment before still holds the latest record of how far the message log has been
            // followed.
            return Ok(());
        }
        // The window is bounded by time alone. However large it is, half of the space is for
        // events.
        let window_bytes = self.upkeep.window.size_bytes(&shared.window);
        let uncounted = window_bytes.saturating_sub(shared.options.bytes_max / 2);
        let mut size_bytes = self.size_bytes(shared) - uncounted;
        for segment in others {
            let is_old = shared
                .pages
                .with_directory(|directory| directory.times_ms(segment.base))
                .is_none_or(|times| times.end.saturating_add(shared.options.retention_ms) < now_ms);
            if !is_old && size_bytes <= shared.options.bytes_max {
                break;
            }
            if self.upkeep.window.covered() < segment.end {
                let durable = self.log.next_position();
                if !self.upkeep.detach_window(&shared.index, &shared.window, durable) {
                    break;
                }
            }
            self.log.delete_segment(segment.base)?;
            shared.pages.with_directory(|directory| directory.remove_segment(segment.base));
            shared.index.set_floor(segment.end);
            size_bytes = size_bytes.saturating_sub(file_bytes(segment));
        }
        Ok(())
    }

    /// Publishes the bytes on disk and the number of open files.
    pub(crate) fn tell_size(&self, shared: &Shared) {
        shared.size_bytes.store(self.size_bytes(shared), Ordering::Relaxed);
        let run_count = shared.index.run_count() + shared.window.run_count();
        shared.file_count.store(self.log.segments().len() + run_count, Ordering::Relaxed);
    }

    /// Bytes on disk.
    pub(crate) fn size_bytes(&self, shared: &Shared) -> u64 {
        let segments: u64 = self.log.segments().iter().map(file_bytes).sum();
        segments + self.upkeep.size_bytes(&shared.index, &shared.window)
    }
}

/// Bytes of a segment's file, without the zeros at its end.
fn file_bytes(segment: &SegmentStat) -> u64 {
    SEGMENT_HEADER_SIZE + segment.end - segment.base
}
