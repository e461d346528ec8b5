//! The manifest's file: read when the log is opened, replaced as a whole.
//!
//! Owns the files `segments` and `segments.part`. Never decides which segments live.

use std::io;

use super::NAME;
use super::format::{Found, Listed, Manifest, encoded_len};
use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::segment::read_full;
use crate::spare::Spare;

const PART: &str = "segments.part";
/// Half a million segments; a longer file is not one of ours and is not read into memory.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads the manifest, if its file is among `names`.
pub(crate) fn read<D: Disk>(disk: &D, names: &[String]) -> Result<Found, LogError> {
    if !names.iter().any(|name| name == NAME) {
        return Ok(Found::None);
    }
    let failed = |action| move |error| LogError::from_io(action, NAME, error);
    let file = disk.open(NAME).map_err(failed(Action::Open))?;
    let len = file.len().map_err(failed(Action::Read))?;
    if len > FILE_BYTES_MAX {
        return Ok(Found::Damaged);
    }
    let mut bytes = vec![0; len as usize];
    let filled = read_full(&file, &mut bytes, 0).map_err(failed(Action::Read))?;
    Manifest::parse(&bytes[..filled])
}

/// What is known of the manifest's file, and the spare file that will replace it.
pub(crate) struct ManifestFile<F> {
    part: Spare<F>,
    limit: u64,
    /// Whether the file on disk does not list the log's segments as they are.
    is_stale: bool,
}

impl<F: DiskFile> ManifestFile<F> {
    /// `found` is the manifest on disk, `segments` is what it should list.
    pub(crate) fn new(found: Option<&Manifest>, segments: &[Listed]) -> Self {
        let is_stale = found.is_none_or(|found| found.segments != segments);
        let limit = found.map_or(0, |found| found.limit);
        Self { part: Spare::new(PART), limit, is_stale }
    }

    /// Whether positions up to `end` may be promised.
    pub(crate) fn covers(&self, end: u64) -> bool {
        !self.is_stale && end <= self.limit
    }

    /// Notes that the log's segments are no longer those that are listed.
    pub(crate) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Prepares for a list of `count` segments.
    pub(crate) fn prepare<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        count: usize,
    ) -> Result<(), LogError> {
        self.part.prepare(disk, encoded_len(count))
    }

    /// Writes the next manifest without publishing it yet: this is all that needs room.
    pub(crate) fn fill<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        manifest: &Manifest,
    ) -> Result<(), LogError> {
        self.part.fill(disk, &manifest.encode())
    }

    /// Publishes what was filled in, durably.
    pub(crate) fn publish<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        manifest: &Manifest,
    ) -> Result<(), LogError> {
        self.part.rename(disk, NAME)?;
        self.limit = manifest.limit;
        self.is_stale = false;
        Ok(())
    }

    /// Removes the manifest, durably: no list is better than a wrong one.
    pub(crate) fn discard<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), LogError> {
        self.is_stale = true;
        let failed = |action| move |error| LogError::from_io(action, NAME, error);
        match disk.remove(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed(Action::Remove))?,
        }
        disk.sync_directory().map_err(failed(Action::SyncDirectory))
    }
}
