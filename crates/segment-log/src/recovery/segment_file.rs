//! Opening one segment file: its header checked, its records visited, its end settled.
//!
//! Owns what is done to the file: a damaged header rewritten, the torn tail cut, damage copied aside,
//! or the whole file put aside. Never looks at another segment.

use std::io;
use std::ops::Range;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::quarantine::{Kept, copy_aside};
use crate::record::RecordRef;
use crate::report::{Damage, Quarantine, Recovery, TornTail};
use crate::scan::Window;
use crate::segment::{
    Header, POSITION_MAX, SEGMENT_HEADER_SIZE, Segment, check_header, encode_header, file_name,
    read_full,
};

/// Added to the name of a segment file in which nothing can be read.
pub(super) const PUT_ASIDE: &str = ".quarantine";

/// What the segments of one opening share.
pub(super) struct Run<'a, D> {
    pub(super) disk: &'a D,
    pub(super) visit: &'a mut dyn FnMut(RecordRef<'_>),
    pub(super) report: Recovery,
    /// Working space, handed from segment to segment.
    pub(super) buffer: Vec<u8>,
}

/// What opening one segment file found.
pub(super) struct Found<F> {
    /// The segment and the length of its file, unless the whole segment had to be put aside.
    pub(super) segment: Option<(Segment<F>, u64)>,
    /// Position of the end of the file as it was found: no position before it may be used again.
    pub(super) data_end: u64,
}

/// A segment file that is being opened.
struct SegmentFile<F> {
    file: F,
    base: u64,
    /// Where the next segment begins, or should; `None` for the last one.
    next_base: Option<u64>,
    /// Length of the file.
    len: u64,
    /// Position of the end of the file.
    data_end: u64,
}

impl<F: DiskFile> SegmentFile<F> {
    fn open<D: Disk<File = F>>(
        disk: &D,
        base: u64,
        next_base: Option<u64>,
    ) -> Result<Self, LogError> {
        let file = disk.open(&file_name(base)).map_err(failed(base, Action::Open))?;
        let len = file.len().map_err(failed(base, Action::Read))?;
        let data_end = base
            .checked_add(len.saturating_sub(SEGMENT_HEADER_SIZE))
            .filter(|end| *end <= POSITION_MAX)
            .ok_or_else(|| unusable(base, "its positions are beyond any log's"))?;
        Ok(Self { file, base, next_base, len, data_end })
    }
}

/// The error for a failed operation on the segment's file.
fn failed(base: u64, action: Action) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::from_io(action, &file_name(base), error)
}

/// The error for a segment that this log must not use.
fn unusable(base: u64, problem: impl Into<String>) -> LogError {
    LogError::Format { path: file_name(base), problem: problem.into() }
}

impl<D: Disk> Run<'_, D> {
    /// Opens the segment that begins at `base`. `next_base` is where the next one begins, or should.
    pub(super) fn open(
        &mut self,
        base: u64,
        next_base: Option<u64>,
    ) -> Result<Found<D::File>, LogError> {
        let opened = SegmentFile::open(self.disk, base, next_base)?;
        let buffer = std::mem::take(&mut self.buffer);
        let mut window = Window::new(&opened.file, base, opened.data_end, buffer);
        if !self.check_header(&opened, &mut window)? {
            self.buffer = window.into_buffer();
            self.put_aside(base, opened.data_end - base)?;
            return Ok(Found { segment: None, data_end: opened.data_end });
        }
        let mut damaged = Vec::new();
        let (mut end, rest) = self.scan(base, &mut window, &mut damaged)?;
        self.buffer = window.into_buffer();
        let mut len = opened.len.max(SEGMENT_HEADER_SIZE);
        if next_base.is_none() {
            if let Some(torn) = rest {
                len = self.cut_tail(&opened, torn)?;
            }
            // Even without a cut: what a killed process wrote may be in the page cache only.
            opened.file.sync_data().map_err(failed(base, Action::Sync))?;
        } else if let Some(rest) = rest {
            end = rest.end;
            damaged.push(rest);
        }
        if next_base.is_some_and(|next_base| end > next_base) {
            return Err(unusable(base, "it reaches into the segment after it"));
        }
        for stretch in &damaged {
            let copy = copy_aside(self.disk, &opened.file, base, stretch)?;
            self.note(base, stretch.clone(), Damage::Records, copy);
        }
        let data_end = if next_base.is_none() { end } else { opened.data_end };
        let segment = Segment::new(base, end, opened.file, damaged);
        Ok(Found { segment: Some((segment, len)), data_end })
    }

    /// Checks the file's header, and rewrites a damaged one. Returns whether the segment is usable:
    /// `false` if nothing in it can be read.
    fn check_header(
        &mut self,
        opened: &SegmentFile<D::File>,
        window: &mut Window<'_, D::File>,
    ) -> Result<bool, LogError> {
        let &SegmentFile { ref file, base, next_base, .. } = opened;
        let mut header = [0; SEGMENT_HEADER_SIZE as usize];
        let header_len = read_full(file, &mut header, 0).map_err(failed(base, Action::Read))?;
        match check_header(&header[..header_len], base) {
            Header::Good => return Ok(true),
            Header::Foreign(problem) => return Err(unusable(base, problem)),
            Header::Damaged => {}
        }
        let has_records = window.resume_after(base).map_err(failed(base, Action::Read))?.is_some();
        let is_blank = window.last_nonzero(base).map_err(failed(base, Action::Read))?.is_none();
        let is_unborn = is_blank && next_base.is_none();
        if !has_records && !is_unborn {
            return Ok(false);
        }
        // Either a crash came while the file was being created, or only its header is damaged.
        file.write_at(&encode_header(base), 0).map_err(failed(base, Action::Write))?;
        file.sync_data().map_err(failed(base, Action::Sync))?;
        if has_records {
            self.note(base, base..base, Damage::Header, (None, false));
        }
        Ok(true)
    }

    /// Visits all records. Returns where the last one ends, and what is not zero after that.
    fn scan(
        &mut self,
        base: u64,
        window: &mut Window<'_, D::File>,
        damaged: &mut Vec<Range<u64>>,
    ) -> Result<(u64, Option<Range<u64>>), LogError> {
        let (visit, record_count) = (&mut *self.visit, &mut self.report.record_count);
        let mut counting = |record: RecordRef<'_>| {
            *record_count += 1;
            visit(record);
        };
        let scanned = window.scan(&mut counting, &mut |range| damaged.push(range));
        let end = scanned.map_err(failed(base, Action::Read))?;
        let last = window.last_nonzero(end).map_err(failed(base, Action::Read))?;
        Ok((end, last.map(|last| end..last + 1)))
    }

    /// Cuts off a write that a crash interrupted. Returns the length of the file.
    fn cut_tail(
        &mut self,
        opened: &SegmentFile<D::File>,
        torn: Range<u64>,
    ) -> Result<u64, LogError> {
        let bytes = torn.end - torn.start;
        self.report.torn_tail = Some(TornTail { position: torn.start, bytes });
        let len = SEGMENT_HEADER_SIZE + torn.start - opened.base;
        opened.file.set_len(len).map_err(failed(opened.base, Action::Cut))?;
        Ok(len)
    }

    fn note(&mut self, segment: u64, range: Range<u64>, damage: Damage, copy: Kept) {
        let (file, is_known) = copy;
        let (position, bytes) = (range.start, range.end - range.start);
        self.report.quarantined.push(Quarantine {
            segment,
            position,
            bytes,
            damage,
            file,
            is_known,
        });
    }

    /// Renames a segment in which not one record can be read.
    fn put_aside(&mut self, base: u64, bytes: u64) -> Result<(), LogError> {
        let name = file_name(base);
        let aside = format!("{name}{PUT_ASIDE}");
        self.disk
            .rename(&name, &aside)
            .map_err(|error| LogError::from_io(Action::Rename, &name, error))?;
        self.disk
            .sync_directory()
            .map_err(|error| LogError::from_io(Action::SyncDirectory, &name, error))?;
        self.note(base, base..base + bytes, Damage::Segment, (Some(aside), false));
        Ok(())
    }
}
