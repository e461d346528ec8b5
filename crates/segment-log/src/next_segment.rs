//! The next segment: its file is created in advance, its header written, then it gets its name.
//!
//! Owns the name that the file has until then. Never decides when a segment begins. Invariant: a
//! segment's name appears with its header durable in it.

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, encode_header, file_name};
use crate::spare::Spare;

/// The name of the file before it becomes a segment.
const NEXT: &str = "next";

/// The file of the next segment, if there is one at the moment.
pub(crate) struct NextSegment<F>(Spare<F>);

impl<F: DiskFile> NextSegment<F> {
    /// No file yet.
    pub(crate) const fn new() -> Self {
        Self(Spare::new(NEXT))
    }

    /// Creates the file if there is none.
    pub(crate) fn prepare<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), LogError> {
        self.0.prepare(disk, SEGMENT_HEADER_SIZE as usize)
    }

    /// Creates an empty segment, durably, before anything can be written to it.
    pub(crate) fn create<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        base: u64,
    ) -> Result<Segment<F>, LogError> {
        self.0.fill(disk, &encode_header(base))?;
        let file = self.0.rename(disk, &file_name(base))?;
        Ok(Segment::new(base, base, file, Vec::new()))
    }
}
