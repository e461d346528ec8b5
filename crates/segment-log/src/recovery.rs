//! Opening: scans every segment, cuts the torn tail, copies damage aside.
//!
//! Owns the only places where a log changes files it finds: it cuts the last segment after its last
//! record, rewrites a damaged file header, and renames a segment in which nothing can be read.
//! Never drops an intact record. Invariant: what was visited is durable when opening returns, even
//! if it had been written but not synced before.

use std::ops::Range;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::manifest::{self, Manifest, Missing};
use crate::next_segment::NextSegment;
use crate::quarantine::{Kept, copy_aside};
use crate::record::RecordRef;
use crate::report::{Damage, Quarantine, Recovery, TornTail};
use crate::scan::Window;
use crate::segment::{
    Header, POSITION_MAX, SEGMENT_HEADER_SIZE, Segment, check_header, encode_header, file_name,
    parse_file_name, read_full,
};

/// Added to the name of a segment file in which nothing can be read.
const PUT_ASIDE: &str = ".quarantine";

pub(crate) struct Recovered<D: Disk> {
    pub(crate) segments: Vec<Arc<Segment<D::File>>>,
    pub(crate) active: Arc<Segment<D::File>>,
    pub(crate) next: NextSegment<D::File>,
    pub(crate) file_len: u64,
    /// The manifest, if it exists and is readable.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) report: Recovery,
}

/// Scans the disk's segments and makes the last of them, or a new one, ready to be written, so that
/// no position below `position_min` is used.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    position_min: u64,
    visit: &mut dyn FnMut(RecordRef<'_>),
) -> Result<Recovered<D>, LogError> {
    if position_min > POSITION_MAX {
        return Err(LogError::Misuse("position_min is beyond any log's positions"));
    }
    let names =
        disk.list().map_err(|error| LogError::from_io(Action::List, "the directory", error))?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    bases.sort_unstable();
    let mut run = Run { disk, visit, report: Recovery::default(), buffer: Vec::new() };
    let manifest = run.read_manifest(&names, &bases)?;
    let missing = &run.report.missing;
    // Bases and ends of what has been lost.
    let lost: Vec<u64> = missing.iter().flat_map(|lost| [lost.base, lost.end]).collect();
    let lost_end = lost.iter().copied().max().unwrap_or(0);
    let floor = positions_put_aside(disk, &names)?.max(position_min).max(lost_end);
    let mut segments = Vec::with_capacity(bases.len() + 1);
    // The active segment, with the length of its file.
    let mut active = None;
    let mut next = 0;
    for (index, &base) in bases.iter().enumerate() {
        let after = lost.iter().copied().filter(|position| *position > base);
        let next_base = bases.get(index + 1).copied().into_iter().chain(after).min();
        let found = run.open(base, next_base)?;
        next = found.data_end;
        let end_found = found.segment.as_ref().map_or(found.data_end, |(found, _)| found.end());
        if let Some(end) = manifest.as_ref().and_then(|manifest| manifest.end_of(base))
            && end_found < end
        {
            run.report.missing.push(Missing { segment: base, base: end_found, end });
            next = end;
        }
        let Some((segment, file_len)) = found.segment else { continue };
        next = next.max(segment.end());
        let segment = Arc::new(segment);
        if next_base.is_none() {
            active = Some((Arc::clone(&segment), file_len));
            next = segment.end();
        }
        run.report.bytes += segment.end() - base;
        segments.push(segment);
    }
    disk.sync_directory()
        .map_err(|error| LogError::from_io(Action::SyncDirectory, "the log", error))?;
    let mut next_segment = NextSegment::new();
    let (active, file_len) = match active {
        Some(active) if active.0.end() >= floor => active,
        last => {
            if let Some((segment, file_len)) = last {
                close(&segment, file_len)?;
            }
            let segment = Arc::new(next_segment.create(disk, next.max(floor))?);
            segments.push(Arc::clone(&segment));
            (segment, SEGMENT_HEADER_SIZE)
        }
    };
    let mut report = run.report;
    report.next_position = active.end();
    report.segment_count = segments.len();
    Ok(Recovered { segments, active, next: next_segment, file_len, manifest, report })
}

/// Cuts the zeros off the segment that was the last until now.
fn close<F: DiskFile>(segment: &Segment<F>, file_len: u64) -> Result<(), LogError> {
    let failed = |action| move |error| LogError::from_io(action, &segment.name(), error);
    let len = SEGMENT_HEADER_SIZE + segment.end() - segment.base;
    if file_len > len {
        segment.file.set_len(len).map_err(failed(Action::Cut))?;
        segment.file.sync_data().map_err(failed(Action::Sync))?;
    }
    Ok(())
}

/// Where the positions of the segments that were put aside end: they are not used again.
fn positions_put_aside<D: Disk>(disk: &D, names: &[String]) -> Result<u64, LogError> {
    let mut floor = 0;
    for name in names {
        let Some(base) = name.strip_suffix(PUT_ASIDE).and_then(parse_file_name) else { continue };
        let failed = |action| move |error| LogError::from_io(action, name, error);
        let file = disk.open(name).map_err(failed(Action::Open))?;
        let len = file.len().map_err(failed(Action::Read))?;
        let end = base.saturating_add(len.saturating_sub(SEGMENT_HEADER_SIZE));
        if end <= POSITION_MAX {
            floor = floor.max(end);
        }
    }
    Ok(floor)
}

struct Run<'a, D> {
    disk: &'a D,
    visit: &'a mut dyn FnMut(RecordRef<'_>),
    report: Recovery,
    /// Working space, handed from segment to segment.
    buffer: Vec<u8>,
}

/// What opening one segment file found.
struct Found<F> {
    /// The segment and the length of its file, unless the whole segment had to be put aside.
    segment: Option<(Segment<F>, u64)>,
    /// Position of the end of the file as it was found: no position before it may be used again.
    data_end: u64,
}

impl<D: Disk> Run<'_, D> {
    /// Compares the segments that the manifest lists with those that exist.
    fn read_manifest(
        &mut self,
        names: &[String],
        bases: &[u64],
    ) -> Result<Option<Manifest>, LogError> {
        let manifest = match manifest::read(self.disk, names)? {
            manifest::Found::Good(manifest) => manifest,
            manifest::Found::None => return Ok(None),
            manifest::Found::Damaged => {
                self.report.is_manifest_damaged = true;
                return Ok(None);
            }
        };
        // What was put aside has already been reported, and its file is there.
        let aside = names.iter().filter_map(|name| parse_file_name(name.strip_suffix(PUT_ASIDE)?));
        let mut there: Vec<u64> = aside.chain(bases.iter().copied()).collect();
        there.sort_unstable();
        self.report.missing = manifest.missing(&there);
        Ok(Some(manifest))
    }

    fn open(&mut self, base: u64, next_base: Option<u64>) -> Result<Found<D::File>, LogError> {
        let name = file_name(base);
        let failed = |action| {
            let name = &name;
            move |error| LogError::from_io(action, name, error)
        };
        let file = self.disk.open(&name).map_err(failed(Action::Open))?;
        let mut file_len = file.len().map_err(failed(Action::Read))?;
        let mut header = [0; SEGMENT_HEADER_SIZE as usize];
        let header_len = read_full(&file, &mut header, 0).map_err(failed(Action::Read))?;
        let data_len = file_len.saturating_sub(SEGMENT_HEADER_SIZE);
        let too_far =
            |problem: &str| LogError::Format { path: name.clone(), problem: problem.to_owned() };
        let data_end = base
            .checked_add(data_len)
            .filter(|end| *end <= POSITION_MAX)
            .ok_or_else(|| too_far("its positions are beyond any log's"))?;

        let mut window = Window::new(&file, base, data_end, std::mem::take(&mut self.buffer));
        match check_header(&header[..header_len], base) {
            Header::Good => {}
            Header::Foreign(problem) => return Err(LogError::Format { path: name, problem }),
            Header::Damaged => {
                let has_records =
                    window.resume_after(base).map_err(failed(Action::Read))?.is_some();
                let is_blank = window.last_nonzero(base).map_err(failed(Action::Read))?.is_none();
                let is_unborn = is_blank && next_base.is_none();
                if !has_records && !is_unborn {
                    self.buffer = window.into_buffer();
                    self.put_aside(base, data_len)?;
                    return Ok(Found { segment: None, data_end });
                }
                // Either a crash came while the file was being created, or only its header is
                // damaged.
                file.write_at(&encode_header(base), 0).map_err(failed(Action::Write))?;
                file.sync_data().map_err(failed(Action::Sync))?;
                file_len = file_len.max(SEGMENT_HEADER_SIZE);
                if has_records {
                    self.note(base, base..base, Damage::Header, (None, false));
                }
            }
        }

        let mut stretches: Vec<Range<u64>> = Vec::new();
        let (visit, record_count) = (&mut *self.visit, &mut self.report.record_count);
        let mut counting = |record: RecordRef<'_>| {
            *record_count += 1;
            visit(record);
        };
        let scanned = window.scan(&mut counting, &mut |range| stretches.push(range));
        let mut end = scanned.map_err(failed(Action::Read))?;
        let rest =
            window.last_nonzero(end).map_err(failed(Action::Read))?.map(|last| end..last + 1);
        self.buffer = window.into_buffer();
        if next_base.is_none() {
            if let Some(torn) = rest {
                let bytes = torn.end - torn.start;
                self.report.torn_tail = Some(TornTail { position: end, bytes });
                file_len = SEGMENT_HEADER_SIZE + end - base;
                file.set_len(file_len).map_err(failed(Action::Cut))?;
            }
            // Even without a cut: what a killed process wrote may be in the page cache only.
            file.sync_data().map_err(failed(Action::Sync))?;
        } else if let Some(rest) = rest {
            end = rest.end;
            stretches.push(rest);
        }
        if next_base.is_some_and(|next_base| end > next_base) {
            return Err(too_far("it reaches into the segment after it"));
        }
        for stretch in &stretches {
            let copy = copy_aside(self.disk, &file, base, stretch)?;
            self.note(base, stretch.clone(), Damage::Records, copy);
        }
        let data_end = if next_base.is_none() { end } else { data_end };
        Ok(Found { segment: Some((Segment::new(base, end, file, stretches), file_len)), data_end })
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
