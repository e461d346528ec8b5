//! Reads records back by position, from any thread.
//!
//! Owns nothing but a share in the table of segments: what the log has written is visible at once,
//! and a deleted segment is gone at once (a read under way still succeeds). Never changes a file.

use std::sync::Arc;

use crate::disk::Disk;
use crate::error::LogError;
use crate::record::{
    GROUP, Place, RECORD_HEADER_SIZE, RecordHead, RecordRef, is_sealed, parse_head,
};
use crate::scan::Window;
use crate::segment::{Segment, Table};

/// Size of the first read of a record: enough for most messages, so that they cost one call.
const FIRST_READ_BYTES: usize = 4 << 10;

/// A handle for reading; cheap to clone, safe to share.
pub struct Reader<D: Disk> {
    pub(crate) table: Arc<Table<D::File>>,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<D: Disk> Reader<D> {
    /// Puts the payload of the record at `position` into `buffer`, replacing what it held.
    ///
    /// # Errors
    /// `NotFound` if nothing is stored there, `Corrupt` if no intact record begins there, `Io`.
    pub fn read(&self, position: u64, buffer: &mut Vec<u8>) -> Result<RecordHead, LogError> {
        let segment = self.table.find(position).ok_or(LogError::NotFound(position))?;
        buffer.clear();
        buffer.resize(FIRST_READ_BYTES, 0);
        let head = read_first(&segment, position, buffer)?;
        if !is_sealed(buffer, position) {
            return Err(LogError::Corrupt { position });
        }
        buffer.drain(..RECORD_HEADER_SIZE);
        Ok(head)
    }

    /// Puts the records from `position` on into `buffer`, for read-ahead: as many whole records of
    /// one segment as fit into `max_bytes`, and at least one. Iterate over them with
    /// [`records`](crate::records); their CRCs are checked here.
    ///
    /// # Errors
    /// As [`read`](Self::read), for the first record; a damaged later one only ends the range.
    pub fn read_range(
        &self,
        position: u64,
        max_bytes: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), LogError> {
        let segment = self.table.find(position).ok_or(LogError::NotFound(position))?;
        let room = usize::try_from(segment.end() - position).unwrap_or(usize::MAX);
        buffer.clear();
        buffer.resize(max_bytes.max(RECORD_HEADER_SIZE).min(room), 0);
        let filled = segment.read(position, buffer)?;
        buffer.truncate(filled);
        let whole = sealed_len(buffer, position);
        if whole > 0 {
            buffer.truncate(whole);
            return Ok(());
        }
        // The first record alone is too large, or damaged. Of a group, the first member is enough.
        let (group, start) = match parse_head(buffer, position) {
            Some((head, Place::Top)) if head.kind == GROUP => {
                (Some(head.encode(position, Place::Top)), position + RECORD_HEADER_SIZE as u64)
            }
            _ => (None, position),
        };
        buffer.resize(RECORD_HEADER_SIZE, 0);
        read_first(&segment, start, buffer)?;
        if !is_sealed(buffer, start) {
            return Err(LogError::Corrupt { position: start });
        }
        if let Some(header) = group {
            buffer.splice(..0, header);
        }
        Ok(())
    }

    /// Visits every record of the segment that begins at `base`, groups flattened.
    ///
    /// # Errors
    /// `NotFound` if there is no such segment. `Corrupt`, after everything readable has been
    /// visited, if there is damage that was not there when the log was opened: do not delete the
    /// segment then.
    pub fn scan_segment(
        &self,
        base: u64,
        visit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Result<(), LogError> {
        let segment = self.table.at_base(base).ok_or(LogError::NotFound(base))?;
        let end = segment.end();
        let mut corrupt = None;
        let mut damage = |position: u64| {
            if !segment.damaged.iter().any(|known| known.contains(&position)) {
                corrupt.get_or_insert(position);
            }
        };
        let scanned = Window::new(&segment.file, base, end, Vec::new())
            .scan(visit, &mut |range| damage(range.start))
            .map_err(|source| LogError::Io { action: "read", path: segment.name(), source })?;
        if scanned < end {
            damage(scanned);
        }
        corrupt.map_or(Ok(()), |position| Err(LogError::Corrupt { position }))
    }
}

/// Reads one whole record; the length of `buffer` says how many bytes to read at first.
fn read_first<F: crate::DiskFile>(
    segment: &Segment<F>,
    position: u64,
    buffer: &mut Vec<u8>,
) -> Result<RecordHead, LogError> {
    let corrupt = || LogError::Corrupt { position };
    let filled = segment.read(position, buffer)?;
    let (head, _) = parse_head(&buffer[..filled], position).ok_or_else(corrupt)?;
    let size = head.size();
    // Bounds the allocation by what the segment holds before the length is trusted.
    if size > segment.end() - position {
        return Err(corrupt());
    }
    let size = usize::try_from(size).map_err(|_| corrupt())?;
    if size > filled {
        buffer.resize(size, 0);
        let rest = segment.read(position + filled as u64, &mut buffer[filled..])?;
        if filled + rest < size {
            return Err(corrupt());
        }
    }
    buffer.truncate(size);
    Ok(head)
}

/// Bytes at the front of `bytes` that are whole records with good CRCs, without a group header
/// that no member follows.
fn sealed_len(bytes: &[u8], start: u64) -> usize {
    let (mut at, mut whole) = (0, 0);
    while let Some((head, _)) = parse_head(&bytes[at..], start + at as u64) {
        if head.kind == GROUP {
            at += RECORD_HEADER_SIZE;
            continue;
        }
        let Some(end) = usize::try_from(head.size()).ok().and_then(|size| at.checked_add(size))
        else {
            break;
        };
        match bytes.get(at..end) {
            Some(record) if is_sealed(record, start + at as u64) => (at, whole) = (end, end),
            _ => break,
        }
    }
    whole
}
