//! How segments come and go: the next one is begun, dead ones are deleted.
//!
//! Owns the order in which files are created, renamed and removed (the commit protocol in the
//! crate's documentation). Never decides which segments are dead. Invariants: the manifest lists a
//! segment before anything in it is promised, and no longer lists it when its file is removed;
//! after a temporary error the log goes on with the segments it had.

use std::io;
use std::sync::Arc;

use super::Log;
use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::manifest::{Listed, Manifest};
use crate::segment::{POSITION_MAX, SEGMENT_HEADER_SIZE, file_name};

/// How far beyond what is written the manifest's limit may be, however large segments are.
const LIMIT_STEP_BYTES_MAX: u64 = 1 << 30;

impl<D: Disk> Log<D> {
    /// Closes the active segment, synced and cut to length, and begins a new one. Nothing happens
    /// if the active segment is empty.
    ///
    /// # Errors
    /// `DiskFull`, `OutOfFiles`: the active segment stays the active one. Any other error poisons
    /// the log.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.roll_for(self.next_position())
    }

    /// Rolls for a batch that ends at `end`.
    pub(super) fn roll_for(&mut self, end: u64) -> Result<(), LogError> {
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
        // Whatever needs room or a descriptor comes before the first renaming.
        let manifest = self.manifest_of(&[], Some(base), end);
        let filled = self.manifest.fill(&self.disk, &manifest);
        let created = filled.and_then(|()| self.next.create(&self.disk, base));
        let segment = created.map_err(|error| self.poison_unless_temporary(error))?;
        self.active = Arc::new(segment);
        self.table.push(Arc::clone(&self.active));
        self.file_len = SEGMENT_HEADER_SIZE;
        self.manifest.mark_stale();
        let published = self.manifest.publish(&self.disk, &manifest);
        published.map_err(|error| self.poison_unless_temporary(error))?;
        self.prepare()
    }

    /// Deletes one segment for good; see [`delete_segments`](Self::delete_segments).
    ///
    /// # Errors
    /// As there.
    pub fn delete_segment(&mut self, base: u64) -> Result<(), LogError> {
        self.delete_segments(&[base])
    }

    /// Deletes segments for good. Everything written before is synced first, because it is the
    /// reason why they are no longer needed; the deletion is durable when this returns. A crash on
    /// the way may leave any of them behind: none may be the reason why another is not needed.
    ///
    /// # Errors
    /// `Misuse` for the active segment, `NotFound` for one that does not exist; nothing happened.
    /// `DiskFull`, `OutOfFiles`: what [`segments`](Self::segments) still lists can be deleted
    /// again. Any other error poisons the log.
    pub fn delete_segments(&mut self, bases: &[u64]) -> Result<(), LogError> {
        self.refuse_if_poisoned()?;
        if bases.contains(&self.active.base) {
            return Err(LogError::Misuse("the active segment cannot be deleted"));
        }
        if let Some(base) = bases.iter().find(|base| self.table.at_base(**base).is_none()) {
            return Err(LogError::NotFound(*base));
        }
        if bases.is_empty() {
            return Ok(());
        }
        self.sync()?;
        let unlisted = self.unlist(bases);
        unlisted.map_err(|error| self.poison_unless_temporary(error))?;
        let removed = bases.iter().try_for_each(|base| self.remove_file(*base));
        if removed.is_err() {
            // It stays, so it must be listed again.
            self.manifest.mark_stale();
        }
        let synced = self.disk.sync_directory();
        synced.map_err(|error| self.failed(Action::SyncDirectory, error))?;
        removed.map_err(|error| self.poison_unless_temporary(error))?;
        self.prepare()
    }

    /// Writes the manifest without these segments. Deleting is what helps against a full disk, so
    /// it must not need room: if there is none, the manifest is removed altogether until there is.
    fn unlist(&mut self, bases: &[u64]) -> Result<(), LogError> {
        let manifest = self.manifest_of(bases, None, self.next_position());
        let filled = self.manifest.fill(&self.disk, &manifest);
        match filled.and_then(|()| self.manifest.publish(&self.disk, &manifest)) {
            Err(LogError::DiskFull) => self.manifest.discard(&self.disk),
            unlisted => unlisted,
        }
    }

    fn remove_file(&self, base: u64) -> Result<(), LogError> {
        let name = file_name(base);
        match self.disk.remove(&name) {
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed.map_err(|error| LogError::from_io(Action::Remove, &name, error))?;
            }
        }
        self.table.remove(base);
        Ok(())
    }

    /// Makes the manifest list the segments as they are and allow for positions up to `end`.
    pub(super) fn keep_manifest(&mut self, end: u64) -> Result<(), LogError> {
        if self.manifest.covers(end) {
            return Ok(());
        }
        let manifest = self.manifest_of(&[], None, end);
        let filled = self.manifest.fill(&self.disk, &manifest);
        let published = filled.and_then(|()| self.manifest.publish(&self.disk, &manifest));
        published.map_err(|error| self.poison_unless_temporary(error))?;
        self.prepare()
    }

    /// The manifest without some segments and with one more, and with room for positions beyond
    /// `end`.
    fn manifest_of(&self, without: &[u64], with: Option<u64>, end: u64) -> Manifest {
        let active = with.unwrap_or(self.active.base);
        let mut segments = Listed::of(&self.table.all(), active);
        segments.retain(|listed| !without.contains(&listed.base));
        segments.extend(with.map(|base| Listed { base, end: None }));
        let step = self.options.segment_bytes_max.min(LIMIT_STEP_BYTES_MAX);
        Manifest { segments, limit: end.saturating_add(step).min(POSITION_MAX) }
    }

    /// Prepares what the next roll or deletion needs. If that fails for now, they try again.
    pub(super) fn prepare(&mut self) -> Result<(), LogError> {
        let count = self.table.all().len() + 1;
        let prepared = match self.next.prepare(&self.disk) {
            Ok(()) => self.manifest.prepare(&self.disk, count),
            failed => failed,
        };
        match prepared {
            Err(error) if !error.is_temporary() => Err(self.poison_unless_temporary(error)),
            _ => Ok(()),
        }
    }
}
