//! Opening: what the disk holds, and what must be rebuilt from it.
//!
//! Owns the one pass over the log and the choice of runs to trust. Invariants: afterwards
//! everything in a readable page can be found; no unknown file is left.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use segment_log::{Damage, Disk, Log, RecordRef, Recovery};

use crate::device::{Device, Files, files};
use crate::directory::Directory;
use crate::lookup::{Kind, Lookup, RunSet, file_name, parse_file_name};
use crate::manifest::{Listing, Manifest};
use crate::options::{Options, Sizes};
use crate::page::{Body, Page, Summary};
use crate::pages::Pages;
use crate::records::{APPLIED, Applied, PAGE};
use crate::salvage::salvage;
use crate::shared::Shared;
use crate::upkeep::Upkeep;
use crate::writer::Writer;
use crate::{LedgerError, dedup};
use outcome::Reason;

/// Opens the ledger on a disk.
pub(crate) fn open<D: Disk + Clone>(
    disk: D,
    options: Options,
    sizes: Sizes,
) -> Result<(Shared, Writer), LedgerError> {
    let files = files(disk.clone());
    let names = files.list()?;
    let mut pass = Pass {
        bases: names.iter().filter_map(|name| segment_base(name)).collect(),
        directory: Directory::new(sizes.stretch_bytes),
        applied: Applied { position: 0, last: None },
        index: Lookup::new(Kind::Index),
        window: Lookup::new(Kind::Window),
        upkeep: Upkeep::new(files.clone(), &sizes),
        learned: 0,
    };
    pass.bases.sort_unstable();
    pass.load_runs(&names)?;

    let log_options = segment_log::Options {
        segment_bytes_max: sizes.segment_bytes,
        ..segment_log::Options::default()
    };
    let (log, report) = Log::open(disk, log_options, &mut |record| pass.visit(record))?;
    let log: Box<dyn Device> = Box::new(log);
    pass.salvage(&*files, &*log, &report)?;
    if pass.learned > 0 {
        let Pass { applied, learned, .. } = &pass;
        tracing::info!(pages = learned, applied = applied.position, "pages of the ledger indexed");
    }

    let next_position = log.next_position();
    let Pass { directory, applied, index, window, mut upkeep, .. } = pass;
    for run_set in [&mut upkeep.index, &mut upkeep.window] {
        // The log may have lost what the runs covered, and will use those positions again.
        run_set.set_covered(run_set.covered().min(next_position));
    }
    index.set_floor(log.segments().first().map_or(0, |segment| segment.base));
    upkeep.settle(&index, &window);
    let pages = Pages::new(log.reader(), directory, applied.last, next_position, sizes.page_bytes);
    let shared = Shared {
        options,
        sizes,
        pages,
        index,
        window,
        applied: AtomicU64::new(applied.position),
        size_bytes: AtomicU64::new(0),
        file_count: AtomicUsize::new(0),
    };
    let writer = Writer::new(log, upkeep, applied.position);
    writer.tell_size(&shared);
    Ok((shared, writer))
}

/// The base in a segment file's name, in the form that `segment_log` documents.
fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// What the pass over the log collects.
struct Pass {
    /// The bases of all segments, in order.
    bases: Vec<u64>,
    directory: Directory,
    applied: Applied,
    index: Lookup,
    window: Lookup,
    upkeep: Upkeep,
    /// Number of pages that were not in a run.
    learned: u64,
}

impl Pass {
    /// Opens the runs that the manifest lists, and removes all others.
    fn load_runs(&mut self, names: &[String]) -> Result<(), LedgerError> {
        let files = self.upkeep.files.clone();
        let numbers = |kind| names.iter().filter_map(move |name| parse_file_name(kind, name));
        let (index, window): (Vec<_>, Vec<_>) =
            (numbers(Kind::Index).collect(), numbers(Kind::Window).collect());
        let manifest = Manifest::load(&*files)?;
        if manifest.is_none() && !(index.is_empty() && window.is_empty()) {
            tracing::warn!("the ledger's manifest is missing or damaged; its index is made anew");
        }
        let highest = index.iter().chain(&window).max();
        let above = highest.map_or(0, |highest| highest + 1);
        self.upkeep.numbers.next = manifest.as_ref().map_or(0, |it| it.next_number).max(above);
        let kept = match manifest {
            Some(manifest) => {
                let index = adopt(&mut self.upkeep.index, &self.index, &*files, &manifest.index)?;
                let kept = adopt(&mut self.upkeep.window, &self.window, &*files, &manifest.window)?;
                // An index that has lost a part is rebuilt as a whole; a window is not, since it
                // knows ids whose pages are gone.
                if manifest.index.covered == 0 || index.len() < manifest.index.runs.len() {
                    self.upkeep.index.set_covered(0);
                    self.index = Lookup::new(Kind::Index);
                    [Vec::new(), kept]
                } else {
                    [index, kept]
                }
            }
            None => {
                let mut kept = Vec::new();
                for number in &window {
                    if self.upkeep.window.adopt(&self.window, &*files, *number, None)? {
                        kept.push(*number);
                    }
                }
                [Vec::new(), kept]
            }
        };
        for (kind, numbers, kept) in
            [(Kind::Index, index, &kept[0]), (Kind::Window, window, &kept[1])]
        {
            let unknown = numbers.into_iter().filter(|number| !kept.contains(number));
            self.upkeep.numbers.garbage.extend(unknown.map(|number| file_name(kind, number)));
        }
        self.upkeep.numbers.is_dirty = !self.upkeep.numbers.garbage.is_empty();
        Ok(())
    }

    fn visit(&mut self, record: RecordRef<'_>) {
        match record.kind {
            PAGE => self.visit_page(record),
            APPLIED => {
                if let Some(applied) = Applied::decode(record.payload) {
                    let last = self.applied.last.max(applied.last);
                    self.applied = Applied { last, ..applied };
                }
            }
            _ => {}
        }
    }

    fn visit_page(&mut self, record: RecordRef<'_>) {
        if !self.enter(record) {
            return;
        }
        let position = record.position;
        let is_new_to_index = position >= self.upkeep.index.covered();
        let is_new_to_window = position >= self.upkeep.window.covered();
        if is_new_to_index || is_new_to_window {
            self.learn(position, record.payload, is_new_to_index, is_new_to_window, dedup::after);
        }
        // A whole index may have to be rebuilt: it is written to runs on the way.
        let Self { index, window, upkeep, .. } = self;
        let Upkeep { files, numbers, index: of_index, window: of_window, .. } = upkeep;
        for (lookup, run_set) in [(index, of_index), (window, of_window)] {
            run_set.spill_if_full(lookup, &**files, numbers, record.end());
        }
    }

    /// Puts a page into the directory; `false` if its format is unknown.
    fn enter(&mut self, record: RecordRef<'_>) -> bool {
        let position = record.position;
        let Some((summary, ..)) = Summary::decode(record.payload) else {
            tracing::warn!(position, "a page of the ledger is of a format not known here");
            return false;
        };
        let after = self.bases.partition_point(|base| *base <= position);
        let segment = after.checked_sub(1).map_or(0, |at| self.bases[at]);
        self.directory.push(segment, position..record.end(), summary);
        self.applied.last = self.applied.last.max(Some(summary.last));
        true
    }

    /// Puts a page into the index, the window, or both.
    fn learn(
        &mut self,
        position: u64,
        payload: &[u8],
        to_index: bool,
        to_window: bool,
        after: dedup::After,
    ) {
        let Some(page) = Page::parse(payload) else { return };
        self.learned += 1;
        let hashes: Vec<_> = page.ids().iter().map(|id| id.hash()).collect();
        if to_index {
            hashes.iter().for_each(|hash| self.index.insert(hash.0, position));
        }
        if !to_window {
            return;
        }
        for event in page.events() {
            let id = hashes[event.id];
            match &event.body {
                Body::Published(published) if published.is_deduplicated => {
                    for (_, queue) in page.queues(published) {
                        dedup::see(&self.window, id, queue, event.time_ms, after);
                    }
                }
                Body::Settled(settled) if settled.verdict.reason.is_some_and(Reason::frees_id) => {
                    dedup::free(&self.window, id, settled.queue, event.time_ms, after);
                }
                _ => {}
            }
        }
    }

    /// Recovers what is intact in the damaged stretches of the log.
    fn salvage(
        &mut self,
        files: &dyn Files,
        log: &dyn Device,
        report: &Recovery,
    ) -> Result<(), LedgerError> {
        let reader = log.reader();
        for damage in report.quarantined.iter().filter(|it| it.damage == Damage::Records) {
            let (position, bytes) = (damage.position, damage.bytes);
            let mut page_count = 0;
            salvage(files, &*reader, damage, &mut |record| {
                page_count += 1;
                // It may be in a run already; having it twice does no harm.
                if self.enter(record) {
                    // Its place in the order is not known any more, so its times decide.
                    self.learn(record.position, record.payload, true, true, u64::max);
                }
            })?;
            if !damage.is_known {
                tracing::warn!(position, bytes, page_count, "the ledger's log is damaged");
            }
        }
        Ok(())
    }
}

/// Opens the listed runs; returns the numbers of those that are intact.
fn adopt(
    run_set: &mut RunSet,
    lookup: &Lookup,
    files: &dyn Files,
    listing: &Listing,
) -> Result<Vec<u64>, LedgerError> {
    let mut kept = Vec::new();
    for run in &listing.runs {
        if run_set.adopt(lookup, files, run.number, Some(*run))? {
            kept.push(run.number);
        } else {
            let number = run.number;
            tracing::warn!(number, "a run of the ledger is lost; made anew from the pages");
        }
    }
    let is_whole = kept.len() == listing.runs.len();
    run_set.set_covered(if is_whole { listing.covered } else { 0 });
    Ok(kept)
}
