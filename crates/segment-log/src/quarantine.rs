//! Keeps damaged bytes for whoever wants to look at them.
//!
//! Owns the `<base>-<position>.quarantine` files. Never changes the segment. Invariant: a file of
//! that name is complete; until then its name ends in `.part`.

use std::ops::Range;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::segment::{SEGMENT_HEADER_SIZE, read_full};

const CHUNK_BYTES: u64 = 1 << 20;

/// The file that holds damaged bytes, and whether it existed before.
pub(crate) type Kept = (Option<String>, bool);

/// Copies a damaged stretch of a segment to a file of its own, durably. It is named after its
/// position, so that the next opening finds it already done. There is no file if the disk is full:
/// that must not keep a node down, and the bytes are still where they were.
pub(crate) fn copy_aside<D: Disk>(
    disk: &D,
    segment: &D::File,
    base: u64,
    stretch: &Range<u64>,
) -> Result<Kept, LogError> {
    let name = format!("{base:020}-{:020}.quarantine", stretch.start);
    match copy(disk, segment, base, stretch, &name) {
        Ok(is_known) => Ok((Some(name), is_known)),
        Err(LogError::DiskFull) => Ok((None, false)),
        Err(error) => Err(error),
    }
}

fn copy<D: Disk>(
    disk: &D,
    segment: &D::File,
    base: u64,
    stretch: &Range<u64>,
    name: &str,
) -> Result<bool, LogError> {
    let failed = |action| move |error| LogError::from_io(action, name, error);
    let len = stretch.end - stretch.start;
    let part = format!("{name}.part");
    let names = disk.list().map_err(failed(Action::List))?;
    if names.iter().any(|existing| existing == name) {
        let existing = disk.open(name).map_err(failed(Action::Open))?;
        if existing.len().map_err(failed(Action::Read))? == len {
            return Ok(true);
        }
    }
    if names.contains(&part) {
        disk.remove(&part).map_err(failed(Action::Remove))?;
    }
    let target = disk.create(&part).map_err(failed(Action::Create))?;
    let offset = SEGMENT_HEADER_SIZE + stretch.start - base;
    if let Err(error) = fill(&target, segment, offset, len, name) {
        // On a full disk the room is needed for other things. If it stays, the next opening
        // removes it.
        let _ = disk.remove(&part);
        return Err(error);
    }
    disk.rename(&part, name).map_err(failed(Action::Rename))?;
    disk.sync_directory().map_err(failed(Action::SyncDirectory))?;
    Ok(false)
}

fn fill<F: DiskFile>(
    target: &F,
    segment: &F,
    offset: u64,
    len: u64,
    name: &str,
) -> Result<(), LogError> {
    let failed = |action| move |error| LogError::from_io(action, name, error);
    let mut buffer = vec![0; CHUNK_BYTES.min(len) as usize];
    let mut copied = 0;
    while copied < len {
        let count = (len - copied).min(CHUNK_BYTES) as usize;
        let read = read_full(segment, &mut buffer[..count], offset + copied);
        match read.map_err(failed(Action::Read))? {
            0 => break,
            count => {
                target.write_at(&buffer[..count], copied).map_err(failed(Action::Write))?;
                copied += count as u64;
            }
        }
    }
    target.sync_data().map_err(failed(Action::Sync))
}
