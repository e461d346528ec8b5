//! How segments come and go: the next one begun, dead ones deleted.
//!
//! Owns the order of operations on names (the commit protocol in the crate's documentation). Never
//! decides which segments are dead. Invariants: a segment's name appears with its header durable in
//! it; after a temporary error the log goes on with the segments it had.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::log::Log;
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, encode_header, file_name};
use crate::spare::Spare;

/// The name of the next segment's file before it is one.
pub(crate) const NEXT: &str = "next";

impl<D: Disk> Log<D> {
    /// Closes the active segment, synced and cut to length, and begins a new one. Nothing happens
    /// if the active segment is empty.
    ///
    /// # Errors
    /// `DiskFull`, `OutOfFiles`: the active segment stays the active one. Any other poisons the log.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.refuse_if_poisoned()?;
        let base = self.next_position();
        if base == self.active.base {
            return Ok(());
        }
        self.cut_remains()?;
        if self.file_len > self.end_offset() {
            let cut = self.active.file.set_len(self.end_offset());
            cut.map_err(|error| self.failed(Action::Cut, error))?;
            self.file_len = self.end_offset();
            self.is_dirty = true;
        }
        self.sync()?;
        let created = create_segment(&self.disk, &mut self.next, base);
        let segment = created.map_err(|error| self.poison_unless_temporary(error))?;
        self.active = Arc::new(segment);
        self.table.push(Arc::clone(&self.active));
        self.file_len = SEGMENT_HEADER_SIZE;
        self.prepare()
    }

    /// Deletes a segment for good. Everything written before is synced first, because it is the
    /// reason why the segment is not needed; the deletion is durable when this returns.
    ///
    /// # Errors
    /// `Misuse` for the active segment, `NotFound` for none. `DiskFull`, `OutOfFiles`: the segment is
    /// still there, and can be deleted again. Any other poisons the log.
    pub fn delete_segment(&mut self, base: u64) -> Result<(), LogError> {
        self.refuse_if_poisoned()?;
        if base == self.active.base {
            return Err(LogError::Misuse("the active segment cannot be deleted"));
        }
        if self.table.at_base(base).is_none() {
            return Err(LogError::NotFound(base));
        }
        self.sync()?;
        let name = file_name(base);
        let failed = |action| {
            let name = &name;
            move |error| LogError::from_io(action, name, error)
        };
        let removed = match self.disk.remove(&name) {
            // Somebody else did it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed(Action::Remove)),
        };
        removed.map_err(|error| self.poison_unless_temporary(error))?;
        self.table.remove(base);
        let synced = self.disk.sync_directory().map_err(failed(Action::SyncDirectory));
        synced.map_err(|error| self.poison_unless_temporary(error))
    }

    /// Makes ready what the next roll needs. If it cannot be had now, the roll tries again.
    pub(crate) fn prepare(&mut self) -> Result<(), LogError> {
        match self.next.prepare(&self.disk, SEGMENT_HEADER_SIZE as usize) {
            Err(error) if !error.is_temporary() => Err(self.poison_unless_temporary(error)),
            _ => Ok(()),
        }
    }
}

/// Creates an empty segment, durably, before anything can be written to it.
pub(crate) fn create_segment<D: Disk>(
    disk: &D,
    next: &mut Spare<D::File>,
    base: u64,
) -> Result<Segment<D::File>, LogError> {
    next.fill(disk, &encode_header(base))?;
    let file = next.rename(disk, &file_name(base))?;
    Ok(Segment::new(base, base, file, Vec::new()))
}
