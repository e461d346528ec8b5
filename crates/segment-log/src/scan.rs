//! Walks a segment file record by record, past any damage.
//!
//! Owns the judgement of what is a record, what is damage, and where the records continue after it.
//! Never changes a file. Invariants: bytes inside the extent of a record whose header is intact are
//! never searched for records, whatever became of its payload; a group is visited as a whole or not
//! at all.

use std::io;
use std::ops::Range;

use crate::disk::DiskFile;
use crate::record::{
    GROUP, Place, RECORD_HEADER_SIZE, RecordRef, is_sealed, is_whole_group, parse_head, records,
};
use crate::segment::{SEGMENT_HEADER_SIZE, read_full};

/// Bytes read at a time: large enough for the disk, small enough for the processor's cache.
const CHUNK_BYTES: usize = 512 << 10;

/// A file's bytes by position, read in large chunks.
pub(crate) struct Window<'f, F> {
    file: &'f F,
    base: u64,
    /// Position at which to stop: the end of the file, or of the part to be read.
    end: u64,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    start: u64,
    /// Bytes of the buffer that hold data.
    filled: usize,
}

impl<'f, F: DiskFile> Window<'f, F> {
    /// Reads the positions from `base` to `end`. `buffer` is working space to be reused.
    pub(crate) fn new(file: &'f F, base: u64, end: u64, buffer: Vec<u8>) -> Self {
        Self { file, base, end, buffer, start: base, filled: 0 }
    }

    /// Gives the working space back.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The bytes from `position` on: `len` of them, or fewer if the end comes first.
    pub(crate) fn bytes(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let room = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let len = len.min(room);
        if position < self.start || position + len as u64 > self.start + self.filled as u64 {
            self.fill(position, len.max(CHUNK_BYTES.min(room)))?;
        }
        let at = (position - self.start) as usize;
        Ok(&self.buffer[at..self.filled.min(at + len)])
    }

    fn fill(&mut self, position: u64, len: usize) -> io::Result<()> {
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        // The buffer counts as empty until the read has succeeded.
        (self.start, self.filled) = (position, 0);
        let offset = SEGMENT_HEADER_SIZE + (position - self.base);
        self.filled = read_full(self.file, &mut self.buffer[..len], offset)?;
        Ok(())
    }

    /// The position of the last byte that is not zero, from `position` on.
    pub(crate) fn last_nonzero(&mut self, position: u64) -> io::Result<Option<u64>> {
        let (mut at, mut last) = (position, None);
        while at < self.end {
            let bytes = self.bytes(at, CHUNK_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(index) = bytes.iter().rposition(|byte| *byte != 0) {
                last = Some(at + index as u64);
            }
            at += bytes.len() as u64;
        }
        Ok(last)
    }

    fn check(&mut self, position: u64) -> io::Result<Check> {
        let bad = |extent| Ok(Check::Bad { extent });
        let Some((head, place)) = parse_head(self.bytes(position, RECORD_HEADER_SIZE)?, position)
        else {
            return bad(None);
        };
        let Some(end) = position.checked_add(head.size()) else { return bad(None) };
        let Ok(size) = usize::try_from(head.size()) else { return bad(Some(end)) };
        if end > self.end {
            return bad(Some(end));
        }
        let bytes = self.bytes(position, size)?;
        if bytes.len() < size || !is_sealed(bytes, position) || place == Place::Member {
            return bad(Some(end));
        }
        let body = position + RECORD_HEADER_SIZE as u64;
        if head.kind == GROUP && !is_whole_group(&bytes[RECORD_HEADER_SIZE..], body) {
            return bad(Some(end));
        }
        Ok(Check::Good { end })
    }

    /// Where the records continue after damage at `position`, if they do.
    pub(crate) fn resume_after(&mut self, position: u64) -> io::Result<Option<u64>> {
        let mut at = position;
        // As long as headers are intact their extents lead to the next boundary.
        loop {
            match self.check(at)? {
                Check::Good { .. } => return Ok(Some(at)),
                Check::Bad { extent: Some(end) } if end >= self.end => return Ok(None),
                Check::Bad { extent: Some(end) } => at = end,
                Check::Bad { extent: None } => break,
            }
        }
        // From here on only a record that is intact from end to end is trusted. The zeros at the
        // end of a file hold none and need no search.
        let Some(last) = self.last_nonzero(at)? else { return Ok(None) };
        while at < last {
            at += 1;
            if let Check::Good { .. } = self.check(at)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Visits every intact record from the base on and reports the stretches between them. Returns
    /// where the last record ends.
    pub(crate) fn scan(
        &mut self,
        visit: &mut dyn FnMut(RecordRef<'_>),
        damage: &mut dyn FnMut(Range<u64>),
    ) -> io::Result<u64> {
        let mut at = self.base;
        while at < self.end {
            match self.check(at)? {
                Check::Good { end } => {
                    for record in records(self.bytes(at, (end - at) as usize)?, at) {
                        visit(record);
                    }
                    at = end;
                }
                Check::Bad { .. } => match self.resume_after(at)? {
                    Some(next) => {
                        damage(at..next);
                        at = next;
                    }
                    None => break,
                },
            }
        }
        Ok(at)
    }
}

/// What stands at a position.
enum Check {
    /// An intact record.
    Good { end: u64 },
    /// Something else; with its extent if at least the header is intact.
    Bad { extent: Option<u64> },
}
