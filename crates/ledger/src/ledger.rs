//! The ledger itself: what is asked of it and told to it, and who answers.
//!
//! Owns the parts and the order in which an event reaches them. Never holds a lock while the disk is
//! at work, but for that of the one writer. Invariant: an event is found by every question from the
//! moment [`Ledger::append`] returns.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use segment_log::Disk;

use crate::flush::Writer;
use crate::lookup::Lookup;
use crate::page::Page;
use crate::pages::Pages;
use crate::recovery;
use crate::{Event, IdHash, LedgerError, OutcomeQuery, OutcomesPage, What, dedup_key, outcomes};

/// How much is kept, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events older than this go, ms. Default: 7 days.
    pub retention_ms: u64,
    /// Bytes on disk beyond which the oldest events go. Default: 1 GiB.
    pub bytes_max: u64,
    /// How long an id is remembered for de-duplication, ms. Default: 7 days.
    pub window_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        Self { retention_ms: WEEK_MS, bytes_max: 1 << 30, window_ms: WEEK_MS }
    }
}

/// Sizes that tests make small.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Bytes at which a page is full.
    pub(crate) page_bytes: usize,
    /// Bytes of pages that share an entry of the directory.
    pub(crate) stretch_bytes: u64,
    /// Bytes of a segment of the log.
    pub(crate) segment_bytes: u64,
    /// Bytes of pages that one question about outcomes reads.
    pub(crate) query_bytes: u64,
    /// Bytes of pages that one question about a message reads.
    pub(crate) events_bytes: u64,
    /// Events beyond which no further page is read for it.
    pub(crate) events_max: usize,
    /// Entries of a lookup in memory beyond which they go into a run.
    pub(crate) memory_entries: usize,
    /// Runs of about one size that become one.
    pub(crate) fan_in: usize,
    /// Entries that each flush merges at least.
    pub(crate) step_entries: u64,
}

impl Sizes {
    fn of(options: &Options) -> Self {
        Self {
            page_bytes: 96 << 10,
            stretch_bytes: 100 << 10,
            segment_bytes: (options.bytes_max / 32).clamp(1 << 20, 64 << 20),
            query_bytes: 8 << 20,
            events_bytes: 8 << 20,
            events_max: 10_000,
            // Seven eighths of a power of two: as full as a hash table gets.
            memory_entries: 7 << 15,
            fan_in: 4,
            step_entries: 32 << 10,
        }
    }
}

/// See the crate's documentation. One thread appends and flushes; any thread asks.
pub struct Ledger {
    pub(crate) options: Options,
    pub(crate) sizes: Sizes,
    pub(crate) pages: Pages,
    pub(crate) index: Lookup,
    pub(crate) window: Lookup,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) applied: AtomicU64,
    pub(crate) size_bytes: AtomicU64,
    pub(crate) file_count: AtomicUsize,
}

impl Ledger {
    /// Opens the ledger on a disk (a directory) of its own.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open<D: Disk + Clone>(disk: D, options: Options) -> Result<Self, LedgerError> {
        let sizes = Sizes::of(&options);
        Self::open_sized(disk, options, sizes)
    }

    pub(crate) fn open_sized<D: Disk + Clone>(
        disk: D,
        options: Options,
        sizes: Sizes,
    ) -> Result<Self, LedgerError> {
        recovery::open(disk, options, sizes)
    }

    /// The position of the message log up to which everything is durable here.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Takes an event in; it is there for who asks from now on, and durable with the next flush.
    /// Events come in the order of their cursors; one that is not after the last is ignored, and
    /// `false` says so.
    pub fn append(&self, event: &Event<'_>) -> bool {
        let Ok(new_in) = self.pages.append(event) else { return false };
        if let Some(position) = new_in {
            self.index.insert(event.id.0, position);
        }
        if let What::Published(published) = &event.what
            && published.is_deduplicated
        {
            for queue in &published.queues {
                self.window.insert(dedup_key(event.id, queue.id), event.time_ms);
            }
        }
        true
    }

    /// Makes everything appended durable, and with it that the message log was followed up to
    /// `applied`. Forgets what is too old or too much.
    ///
    /// # Errors
    /// Whatever the disk says; what was appended is then tried again with the next flush.
    pub fn flush(&self, applied: u64, now_ms: u64) -> Result<(), LedgerError> {
        self.writer.lock().flush(self, applied, now_ms)
    }

    /// All that is known of a message, in order; the latest of it where an id has been used over and
    /// over again: what 8 MiB of pages, or about ten thousand events, tell.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn events(&self, id: IdHash) -> Result<Vec<Event<'static>>, LedgerError> {
        let mut positions = self.index.values(id.0)?;
        positions.sort_unstable();
        positions.dedup();
        // Page by page, the latest first.
        let mut by_page = Vec::new();
        let (mut event_count, mut bytes) = (0, 0);
        let mut buffer = Vec::new();
        for position in positions.into_iter().rev() {
            if event_count >= self.sizes.events_max || bytes >= self.sizes.events_bytes {
                break;
            }
            if !self.pages.read(position, &mut buffer)? {
                continue;
            }
            bytes += buffer.len() as u64;
            let Some(page) = Page::parse(&buffer) else { continue };
            // A key is a part of the hash only: the page tells whether it is the message.
            let is_it: Vec<_> = page.ids().iter().map(|other| other.hash() == id).collect();
            let of_it = page.events().filter(|event| is_it[event.id]);
            let events: Vec<_> = of_it.map(|event| page.event(&event)).collect();
            event_count += events.len();
            by_page.push(events);
        }
        Ok(by_page.into_iter().rev().flatten().collect())
    }

    /// Outcomes in order.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn outcomes(&self, query: &OutcomeQuery) -> Result<OutcomesPage, LedgerError> {
        outcomes::outcomes(&self.pages, query, self.sizes.query_bytes)
    }

    /// When an id was seen by a queue ([`crate::dedup_key`]) last, ms since the epoch, if within
    /// the window as of the last flush.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn first_seen(&self, key: u128) -> Result<Option<u64>, LedgerError> {
        Ok(self.window.latest(key)?)
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Files that are kept open, as of the last flush.
    pub fn file_count(&self) -> usize {
        self.file_count.load(Ordering::Relaxed)
    }
}
