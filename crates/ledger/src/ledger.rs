//! The ledger itself: what is asked of it and told to it, and who answers.
//!
//! Owns the parts and the order in which an event reaches them. Never holds a lock while the disk is
//! at work, but for that of the one writer. Invariant: an event is found by every question from the
//! moment [`Ledger::append`] returns.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use segment_log::Disk;

use crate::options::{Options, Sizes};
use crate::page::Page;
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{LedgerError, dedup_key};
use crate::{outcomes, recovery};
use outcome::{Event, IdHash, OutcomeQuery, OutcomesPage, What};

/// See the crate's documentation. One thread appends and flushes; any thread asks.
pub struct Ledger {
    shared: Shared,
    writer: Mutex<Writer>,
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
        let (shared, writer) = recovery::open(disk, options, sizes)?;
        Ok(Self { shared, writer: Mutex::new(writer) })
    }

    /// The position of the message log up to which everything is durable here.
    pub fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// Takes an event in; it is there for who asks from now on, and durable with the next flush.
    /// Events come in the order of their cursors; one that is not after the last is ignored, and
    /// `false` says so.
    pub fn append(&self, event: &Event<'_>) -> bool {
        let Ok(new_in) = self.shared.pages.append(event) else { return false };
        if let Some(position) = new_in {
            self.shared.index.insert(event.id.0, position);
        }
        if let What::Published(published) = &event.what
            && published.is_deduplicated
        {
            for queue in &published.queues {
                self.shared.window.insert(dedup_key(event.id, queue.id), event.time_ms);
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
        self.writer.lock().flush(&self.shared, applied, now_ms)
    }

    /// All that is known of a message, in order; the latest of it where an id has been used over and
    /// over again: what 8 MiB of pages, or about ten thousand events, tell.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn events(&self, id: IdHash) -> Result<Vec<Event<'static>>, LedgerError> {
        let mut positions = self.shared.index.values(id.0)?;
        positions.sort_unstable();
        positions.dedup();
        // Page by page, the latest first.
        let mut by_page = Vec::new();
        let (mut event_count, mut bytes) = (0, 0);
        let mut buffer = Vec::new();
        for position in positions.into_iter().rev() {
            if event_count >= self.shared.sizes.events_max
                || bytes >= self.shared.sizes.events_bytes
            {
                break;
            }
            if !self.shared.pages.read(position, &mut buffer)? {
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
        outcomes::outcomes(&self.shared.pages, query, self.shared.sizes.query_bytes)
    }

    /// When an id was seen by a queue ([`crate::dedup_key`]) last, ms since the epoch, if within
    /// the window as of the last flush.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn first_seen(&self, key: u128) -> Result<Option<u64>, LedgerError> {
        Ok(self.shared.window.latest(key)?)
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes.load(Ordering::Relaxed)
    }

    /// Files that are kept open, as of the last flush.
    pub fn file_count(&self) -> usize {
        self.shared.file_count.load(Ordering::Relaxed)
    }
}
