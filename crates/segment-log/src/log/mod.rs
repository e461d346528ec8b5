//! The writing end: batches in, sync.
//!
//! Owns the active segment's file and the order of operations on it (the commit protocol in the
//! crate's documentation); how segments come and go is the business of `rolling`. Never decides
//! when to sync or what to delete. Invariants: positions grow without a gap and are never used
//! twice; every segment but the last is whole, cut to length and synced; after a temporary error
//! everything is as before; after any other error nothing is written or claimed durable again.

mod rolling;

use std::sync::Arc;

use crate::batch::Batch;
use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError, is_disk_full};
use crate::manifest::{Listed, ManifestFile};
use crate::next_segment::NextSegment;
use crate::reader::Reader;
use crate::record::RecordRef;
use crate::recovery;
use crate::report::Recovery;
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, Table};

/// How far beyond small batches a segment is filled with zeros. A sync that changes neither the
/// file's length nor its extents needs no commit of the file system's journal.
const ZERO_AHEAD_BYTES: u64 = 256 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment file above which a new one is begun.
    pub segment_bytes_max: u64,
    /// The next position is at least this: if the log ends before it, a new segment is begun there.
    /// For an owner that knows of positions that the log has lost.
    pub position_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, position_min: 0 }
    }
}

/// A segment as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStat {
    /// Position of its first record; its identity.
    pub base: u64,
    /// Position after its last record.
    pub end: u64,
    /// Whether it is the one being written.
    pub is_active: bool,
}

/// The log. One owner writes; any number of [`Reader`]s read.
///
/// In order: [`open`](Self::open), then [`write`](Self::write) and [`sync`](Self::sync) repeatedly.
/// Only what a successful `sync` covers is sure to be found by the next `open`.
pub struct Log<D: Disk> {
    disk: D,
    options: Options,
    table: Arc<Table<D::File>>,
    active: Arc<Segment<D::File>>,
    /// The file of the next segment.
    next: NextSegment<D::File>,
    /// The list of segments.
    manifest: ManifestFile<D::File>,
    /// Length of the active file; beyond its last record it holds zeros.
    file_len: u64,
    /// Whether something was written since the last sync.
    is_dirty: bool,
    /// Whether part of a batch that found no room is still there behind the last record.
    has_remains: bool,
    is_poisoned: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log on `disk`, or begins one, and calls `visit` for every record, oldest first,
    /// and for the members of groups one by one.
    ///
    /// A torn tail is cut; damage before the last record is copied aside and stepped over; no
    /// position of a segment whose file is gone is used again. The [`Recovery`] says all of this,
    /// for the caller to report. A caller that will not go on after a loss must write nothing: what
    /// is missing is reported at every opening until something is written.
    ///
    /// # Errors
    /// `Io`, `DiskFull` and `OutOfFiles` from the disk, `Format` for a segment of another version
    /// or base, `Misuse` for a `position_min` beyond 2^63.
    pub fn open(
        disk: D,
        options: Options,
        visit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Result<(Self, Recovery), LogError> {
        let recovered = recovery::recover(&disk, options.position_min, visit)?;
        let segments = Listed::of(&recovered.segments, recovered.active.base);
        let mut log = Self {
            disk,
            options,
            table: Arc::new(Table::new(recovered.segments)),
            active: recovered.active,
            next: recovered.next,
            manifest: ManifestFile::new(recovered.manifest.as_ref(), &segments),
            file_len: recovered.file_len,
            is_dirty: false,
            has_remains: false,
            is_poisoned: false,
        };
        let report = recovered.report;
        if report.missing.is_empty() && !report.is_manifest_damaged {
            match log.keep_manifest(log.next_position()) {
                Err(error) if !error.is_temporary() => return Err(error),
                // The first write tries again.
                _ => {}
            }
        }
        log.prepare()?;
        Ok((log, report))
    }

    /// The position of the next record to be written.
    pub fn next_position(&self) -> u64 {
        self.active.end()
    }

    /// Writes a batch, which must start at [`next_position`](Self::next_position). Readers see it
    /// at once; it is not durable until [`sync`](Self::sync).
    ///
    /// Begins a new segment first if the batch would overfill the active one; a batch larger than a
    /// segment gets one of its own.
    ///
    /// # Errors
    /// `DiskFull`, `OutOfFiles`: nothing was kept, and the same batch may be written again.
    /// `Misuse`: the batch starts elsewhere or has an open group; nothing happened. Any other error
    /// poisons the log.
    pub fn write(&mut self, batch: &Batch) -> Result<(), LogError> {
        self.refuse_if_poisoned()?;
        if batch.has_open_group() {
            return Err(LogError::Misuse("the batch has an open group"));
        }
        if batch.start() != self.next_position() {
            return Err(LogError::Misuse("the batch does not start at the next position"));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.cut_remains()?;
        let len = batch.len_bytes() as u64;
        if self.end_offset() + len > self.options.segment_bytes_max {
            self.roll_for(batch.end())?;
        }
        self.keep_manifest(batch.end())?;
        let offset = self.end_offset();
        self.is_dirty = true;
        if let Err(error) = self.active.file.write_at(batch.as_bytes(), offset) {
            let error = self.failed(Action::Write, error);
            if error.is_temporary() {
                self.has_remains = true;
                self.cut_remains()?;
            }
            return Err(error);
        }
        self.active.set_end(batch.end());
        self.write_zeros_ahead(offset + len, len)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// `Io` if the disk failed: what was written since the last sync may or may not be lost, and
    /// the log is poisoned.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.refuse_if_poisoned()?;
        self.cut_remains()?;
        if self.is_dirty {
            self.active.file.sync_data().map_err(|error| self.failed(Action::Sync, error))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// A handle for reading.
    pub fn reader(&self) -> Reader<D> {
        Reader { table: Arc::clone(&self.table) }
    }

    /// The disk the log lives on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// All segments, oldest first; the last is the active one.
    pub fn segments(&self) -> Vec<SegmentStat> {
        let stat = |segment: Arc<Segment<D::File>>| SegmentStat {
            base: segment.base,
            end: segment.end(),
            is_active: segment.base == self.active.base,
        };
        self.table.all().into_iter().map(stat).collect()
    }

    /// Offset in the active file where the next record goes.
    fn end_offset(&self) -> u64 {
        SEGMENT_HEADER_SIZE + self.active.end() - self.active.base
    }

    /// Durably removes what was written of a batch before the disk was full: another batch may come
    /// next, and the remains of this one must not be found behind it.
    fn cut_remains(&mut self) -> Result<(), LogError> {
        if !self.has_remains {
            return Ok(());
        }
        let offset = self.end_offset();
        self.active.file.set_len(offset).map_err(|error| self.failed(Action::Cut, error))?;
        self.active.file.sync_data().map_err(|error| self.failed(Action::Sync, error))?;
        self.file_len = offset;
        self.is_dirty = false;
        self.has_remains = false;
        Ok(())
    }

    /// Extends the file with zeros when a small batch has reached its end. Large batches do
    /// without: for them, writing everything twice would cost more than the journal does.
    fn write_zeros_ahead(&mut self, end: u64, batch_len: u64) -> Result<(), LogError> {
        if end <= self.file_len {
            return Ok(());
        }
        self.file_len = end;
        if batch_len > ZERO_AHEAD_BYTES / 4 {
            return Ok(());
        }
        let target = (end + ZERO_AHEAD_BYTES).min(self.options.segment_bytes_max);
        while self.file_len < target {
            let len = (target - self.file_len).min(ZEROS.len() as u64);
            match self.active.file.write_at(&ZEROS[..len as usize], self.file_len) {
                Ok(()) => self.file_len += len,
                // This is only an optimisation: the next batch will find out whether it fits. Some
                // zeros may have been written, so the length is no longer known.
                Err(error) if is_disk_full(&error) => {
                    self.file_len = target;
                    break;
                }
                Err(error) => return Err(self.failed(Action::Write, error)),
            }
        }
        Ok(())
    }

    fn refuse_if_poisoned(&self) -> Result<(), LogError> {
        if self.is_poisoned { Err(LogError::Poisoned) } else { Ok(()) }
    }

    /// The error for a failed operation on the active segment; poisons the log unless it is
    /// temporary.
    fn failed(&mut self, action: Action, source: std::io::Error) -> LogError {
        let error = LogError::from_io(action, &self.active.name(), source);
        self.poison_unless_temporary(error)
    }

    fn poison_unless_temporary(&mut self, error: LogError) -> LogError {
        self.is_poisoned |= !error.is_temporary();
        error
    }
}
