//! One segment file: its name, its header, and the table of all segments that the log and its
//! readers share.
//!
//! Owns a segment file's name and header. Never writes records. Invariants: segments in the table
//! are sorted by base and do not overlap; bytes below a segment's `end` have been written and never
//! change.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use crate::disk::DiskFile;
use crate::error::LogError;

/// Bytes of a segment file before its first record; they have no positions.
pub const SEGMENT_HEADER_SIZE: u64 = 32;

/// No log gets this far: a file that claims to is not believed, and so sums of positions cannot
/// overflow.
pub(crate) const POSITION_MAX: u64 = u64::MAX / 2;

const MAGIC: [u8; 8] = *b"wilcolog";
const VERSION: u32 = 1;
const SUFFIX: &str = ".log";

/// The file name of the segment that begins at `base`.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}{SUFFIX}")
}

/// The base in a segment's file name; `None` for any other file.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let base = digits.parse().ok()?;
    (file_name(base) == name).then_some(base)
}

/// The file header of the segment that begins at `base`.
pub(crate) fn encode_header(base: u64) -> [u8; SEGMENT_HEADER_SIZE as usize] {
    let mut bytes = [0; SEGMENT_HEADER_SIZE as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&base.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What the first bytes of a segment file turned out to be.
pub(crate) enum Header {
    Good,
    /// Not a header at all: torn while the file was being created, or damaged since.
    Damaged,
    /// An intact header that is not for this log to read.
    Foreign(String),
}

/// Judges the first bytes of the file named by `base`.
pub(crate) fn check_header(bytes: &[u8], base: u64) -> Header {
    let Some(bytes) = bytes.get(..SEGMENT_HEADER_SIZE as usize) else { return Header::Damaged };
    if bytes[..8] != MAGIC || bytes[28..] != crc32c::crc32c(&bytes[..28]).to_le_bytes() {
        return Header::Damaged;
    }
    if bytes[8..12] != VERSION.to_le_bytes() {
        let version = bytes[8..12].iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte));
        return Header::Foreign(format!("format version {version}, this is version {VERSION}"));
    }
    if bytes[16..24] != base.to_le_bytes() {
        let base = bytes[16..24].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        return Header::Foreign(format!("its header says it begins at position {base}"));
    }
    Header::Good
}

/// Fills `buf` from `offset` on, as far as the file goes; returns the number of bytes read.
pub(crate) fn read_full<F: DiskFile>(file: &F, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// A segment and its open file.
pub(crate) struct Segment<F> {
    pub(crate) base: u64,
    pub(crate) file: F,
    /// Stretches that recovery found damaged and copied aside.
    pub(crate) damaged: Vec<Range<u64>>,
    end: AtomicU64,
}

impl<F: DiskFile> Segment<F> {
    pub(crate) fn new(base: u64, end: u64, file: F, damaged: Vec<Range<u64>>) -> Self {
        Self { base, file, damaged, end: AtomicU64::new(end) }
    }

    pub(crate) fn name(&self) -> String {
        file_name(self.base)
    }

    /// The position after the last written byte.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Makes bytes visible to readers; call it only after they have been written.
    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Reads at most up to `end`.
    pub(crate) fn read(&self, position: u64, buf: &mut [u8]) -> Result<usize, LogError> {
        let room = self.end().saturating_sub(position);
        let len = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let offset = SEGMENT_HEADER_SIZE + position - self.base;
        read_full(&self.file, &mut buf[..len], offset).map_err(|source| LogError::Io {
            action: "read",
            path: self.name(),
            source,
        })
    }
}

/// All segments, oldest first.
pub(crate) struct Table<F> {
    segments: RwLock<Vec<Arc<Segment<F>>>>,
}

impl<F: DiskFile> Table<F> {
    pub(crate) fn new(segments: Vec<Arc<Segment<F>>>) -> Self {
        Self { segments: RwLock::new(segments) }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment<F>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The segment that holds a written byte at `position`.
    pub(crate) fn find(&self, position: u64) -> Option<Arc<Segment<F>>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= position);
        let segment = segments.get(after.checked_sub(1)?)?;
        (position < segment.end()).then(|| Arc::clone(segment))
    }

    /// The segment that begins at `base`.
    pub(crate) fn at_base(&self, base: u64) -> Option<Arc<Segment<F>>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at = segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        segments.get(at).cloned()
    }

    pub(crate) fn push(&self, segment: Arc<Segment<F>>) {
        self.writer().push(segment);
    }

    pub(crate) fn remove(&self, base: u64) {
        let mut segments = self.writer();
        let at = segments.binary_search_by_key(&base, |segment| segment.base);
        let removed = at.ok().map(|at| segments.remove(at));
        drop(segments);
        // Closing the last handle of a removed file frees its blocks, which takes milliseconds: not
        // to be done under the lock that every reader takes.
        drop(removed);
    }

    // A panic while the lock is held cannot leave the vector half changed.
    fn writer(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment<F>>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_file_name(&file_name(42)), Some(42));
        assert_eq!(parse_file_name(&file_name(u64::MAX)), Some(u64::MAX));
        for name in ["42.log", "+0000000000000000042.log", "00000000000000000042.log.quarantine"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_of_another_version_is_foreign_and_a_torn_one_damaged() {
        let mut header = encode_header(7);
        assert!(matches!(check_header(&header, 7), Header::Good));
        assert!(matches!(check_header(&header, 8), Header::Foreign(_)));
        assert!(matches!(check_header(&header[..31], 7), Header::Damaged));
        header[8] = 2;
        assert!(matches!(check_header(&header, 7), Header::Damaged));
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(check_header(&header, 7), Header::Foreign(_)));
    }
}
