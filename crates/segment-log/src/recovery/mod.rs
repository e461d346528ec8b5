//! Opening: scans every segment, cuts the torn tail, copies damage aside.
//!
//! Owns the only places where a log changes files it finds: it cuts the last segment after its last
//! record, rewrites a damaged file header, and renames a segment in which nothing can be read.
//! Never drops an intact record. Invariant: what was visited is durable when opening returns, even
//! if it had been written but not synced before.

mod segment_file;

use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};
use crate::manifest::{self, Manifest, Missing};
use crate::next_segment::NextSegment;
use crate::record::RecordRef;
use crate::report::Recovery;
use crate::segment::{POSITION_MAX, SEGMENT_HEADER_SIZE, Segment, parse_file_name};
use segment_file::{PUT_ASIDE, Run};

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
    let manifest = read_manifest(disk, &names, &bases, &mut run.report)?;
    let found = open_all(&mut run, &bases, manifest.as_ref())?;
    let floor = positions_put_aside(disk, &names)?.max(position_min).max(found.lost_end);
    disk.sync_directory()
        .map_err(|error| LogError::from_io(Action::SyncDirectory, "the log", error))?;
    let mut segments = found.segments;
    let mut next_segment = NextSegment::new();
    let (active, file_len) = match found.active {
        Some(active) if active.0.end() >= floor => active,
        last => {
            if let Some((segment, file_len)) = last {
                close(&segment, file_len)?;
            }
            let segment = Arc::new(next_segment.create(disk, found.next.max(floor))?);
            segments.push(Arc::clone(&segment));
            (segment, SEGMENT_HEADER_SIZE)
        }
    };
    let mut report = run.report;
    report.next_position = active.end();
    report.segment_count = segments.len();
    Ok(Recovered { segments, active, next: next_segment, file_len, manifest, report })
}

/// Compares the segments that the manifest lists with those that exist.
fn read_manifest<D: Disk>(
    disk: &D,
    names: &[String],
    bases: &[u64],
    report: &mut Recovery,
) -> Result<Option<Manifest>, LogError> {
    let manifest = match manifest::read(disk, names)? {
        manifest::Found::Good(manifest) => manifest,
        manifest::Found::None => return Ok(None),
        manifest::Found::Damaged => {
            report.is_manifest_damaged = true;
            return Ok(None);
        }
    };
    // What was put aside has already been reported, and its file is there.
    let aside = names.iter().filter_map(|name| parse_file_name(name.strip_suffix(PUT_ASIDE)?));
    let mut there: Vec<u64> = aside.chain(bases.iter().copied()).collect();
    there.sort_unstable();
    report.missing = manifest.missing(&there);
    Ok(Some(manifest))
}

/// What opening all segment files found.
struct FoundSegments<F> {
    segments: Vec<Arc<Segment<F>>>,
    /// The active segment, with the length of its file.
    active: Option<(Arc<Segment<F>>, u64)>,
    /// The first position after all of them.
    next: u64,
    /// The end of the segments that are missing: no position before it may be used again.
    lost_end: u64,
}

/// Opens every segment, and compares where it ends with what the manifest says.
fn open_all<D: Disk>(
    run: &mut Run<'_, D>,
    bases: &[u64],
    manifest: Option<&Manifest>,
) -> Result<FoundSegments<D::File>, LogError> {
    // Bases and ends of what has been lost.
    let missing = run.report.missing.iter();
    let lost: Vec<u64> = missing.flat_map(|lost| [lost.base, lost.end]).collect();
    let lost_end = lost.iter().copied().max().unwrap_or(0);
    let segments = Vec::with_capacity(bases.len() + 1);
    let mut all = FoundSegments { segments, active: None, next: 0, lost_end };
    for (index, &base) in bases.iter().enumerate() {
        let after = lost.iter().copied().filter(|position| *position > base);
        let next_base = bases.get(index + 1).copied().into_iter().chain(after).min();
        let found = run.open(base, next_base)?;
        all.next = found.data_end;
        let end_found = found.segment.as_ref().map_or(found.data_end, |(found, _)| found.end());
        if let Some(end) = manifest.and_then(|manifest| manifest.end_of(base))
            && end_found < end
        {
            run.report.missing.push(Missing { segment: base, base: end_found, end });
            all.next = end;
        }
        let Some((segment, file_len)) = found.segment else { continue };
        all.next = all.next.max(segment.end());
        let segment = Arc::new(segment);
        if next_base.is_none() {
            all.active = Some((Arc::clone(&segment), file_len));
            all.next = segment.end();
        }
        run.report.bytes += segment.end() - base;
        all.segments.push(segment);
    }
    Ok(all)
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
