//! Opening: what the disk holds, and what has to be built anew from it.
//!
//! Owns the one pass over the log. Invariant: afterwards everything that is in a readable page is
//! found.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use segment_log::{Disk, Log, RecordRef, Recovery};

use crate::device::Device;
use crate::directory::Directory;
use crate::flush::{APPLIED, Applied, PAGE, Writer};
use crate::ledger::{Ledger, Options, Sizes};
use crate::lookup::{Kind, Lookup};
use crate::page::{Body, Page, Summary};
use crate::pages::Pages;
use crate::{Cursor, LedgerError, dedup_key};

/// Opens the ledger on a disk.
pub(crate) fn open<D: Disk + Clone>(
    disk: D,
    options: Options,
    sizes: Sizes,
) -> Result<Ledger, LedgerError> {
    let names = disk.list()?;
    let mut pass = Pass {
        bases: names.iter().filter_map(|name| segment_base(name)).collect(),
        directory: Directory::new(sizes.stretch_bytes),
        applied: Applied { position: 0, last: None },
        index: Lookup::new(Kind::Index),
        window: Lookup::new(Kind::Window),
    };
    pass.bases.sort_unstable();
    let log_options = segment_log::Options { segment_bytes_max: sizes.segment_bytes };
    let (log, report) = Log::open(disk, log_options, &mut |record| pass.visit(record))?;
    tell(&report);
    let log: Box<dyn Device> = Box::new(log);
    let next_position = log.next_position();
    let Applied { position: applied, last } = pass.applied;
    let pages = Pages::new(log.reader(), pass.directory, last, next_position, sizes.page_bytes);
    Ok(Ledger {
        options,
        sizes,
        pages,
        index: pass.index,
        window: pass.window,
        writer: Mutex::new(Writer::new(log, applied)),
        applied: AtomicU64::new(applied),
        size_bytes: AtomicU64::new(0),
    })
}

/// Tells of damage the log has met.
fn tell(report: &Recovery) {
    for damage in report.quarantined.iter().filter(|damage| !damage.is_known) {
        let (position, bytes) = (damage.position, damage.bytes);
        tracing::warn!(position, bytes, "the ledger's log is damaged");
    }
}

/// The base in the name of a segment file, as `segment_log` documents it.
fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// What the pass over the log gathers.
struct Pass {
    /// Of all segments, in order.
    bases: Vec<u64>,
    directory: Directory,
    applied: Applied,
    index: Lookup,
    window: Lookup,
}

impl Pass {
    fn visit(&mut self, record: RecordRef<'_>) {
        match record.kind {
            PAGE => self.visit_page(record),
            APPLIED => {
                if let Some(applied) = Applied::decode(record.payload) {
                    let last: Option<Cursor> = self.applied.last.max(applied.last);
                    self.applied = Applied { last, ..applied };
                }
            }
            _ => {}
        }
    }

    fn visit_page(&mut self, record: RecordRef<'_>) {
        let position = record.position;
        let Some((summary, ..)) = Summary::decode(record.payload) else {
            tracing::warn!(position, "a page of the ledger is of a format not known here");
            return;
        };
        let after = self.bases.partition_point(|base| *base <= position);
        let segment = after.checked_sub(1).map_or(0, |at| self.bases[at]);
        self.directory.push(segment, position..record.end(), summary);
        self.applied.last = self.applied.last.max(Some(summary.last));
        self.learn(position, record.payload);
    }

    /// Puts a page into the index and the window.
    fn learn(&self, position: u64, payload: &[u8]) {
        let Some(page) = Page::parse(payload) else { return };
        let hashes: Vec<_> = page.ids().iter().map(|id| id.hash()).collect();
        for hash in &hashes {
            self.index.insert(hash.0, position);
        }
        for event in page.events() {
            let Body::Published(published) = &event.body else { continue };
            if published.is_deduplicated {
                for (queue, _) in page.queues(published) {
                    self.window.insert(dedup_key(hashes[event.id], queue), event.time_ms);
                }
            }
        }
    }
}
