//! The ledger itself: takes events in, answers queries, and passes both to its parts.
//!
//! Owns the parts and the order in which an event reaches them. Never holds a lock while the disk
//! is at work, except the one writer's. Invariant: every query finds an event from the moment
//! [`Ledger::append`] returns.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use segment_log::Disk;

use crate::options::{Options, Sizes};
use crate::page::Page;
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{LedgerError, dedup};
use crate::{outcomes, recovery};
use outcome::{Event, IdHash, OutcomeQuery, OutcomesPage, Reason, What};

/// See the crate's documentation. One thread appends and flushes; any thread may query.
pub struct Ledger {
    shared: Shared,
    writer: Mutex<Writer>,
}

impl Ledger {
    /// Opens the ledger on a disk (a directory) of its own.
    ///
    /// # Errors
    /// Those of the disk.
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

    /// Appends an event. Queries find it from now on, and the next flush makes it durable. Events
    /// come in the order of their cursors; one that is not after the last is ignored, and `false`
    /// is returned.
    pub fn append(&self, event: &Event<'_>) -> bool {
        let Ok(new_in) = self.shared.pages.append(event) else { return false };
        if let Some(position) = new_in {
            self.shared.index.insert(event.id.0, position);
        }
        let window = &self.shared.window;
        match &event.what {
            What::Published(published) if published.is_deduplicated => {
                for queue in &published.queues {
                    dedup::see(window, event.id, &queue.name, event.time_ms, dedup::after);
                }
            }
            What::Settled(settled) if settled.verdict.reason.is_some_and(Reason::frees_id) => {
                dedup::free(window, event.id, &settled.queue, event.time_ms, dedup::after);
            }
            _ => {}
        }
        true
    }

    /// Makes everything appended durable, and with it the fact that the message log has been
    /// followed up to `applied`. Forgets what is too old or too much.
    ///
    /// # Errors
    /// Those of the disk; the next flush then tries again with what was appended.
    pub fn flush(&self, applied: u64, now_ms: u64) -> Result<(), LedgerError> {
        self.writer.lock().flush(&self.shared, applied, now_ms)
    }

    /// All that is known of a message, in order. If an id has been used over and over again, only
    /// the latest events: those in 8 MiB of pages, or about ten thousand.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn events(&self, id: IdHash) -> Result<Vec<Event<'static>>, LedgerError> {
        let mut positions = self.shared.index.values(id.0)?;
        positions.sort_unstable();
        positions.dedup();
        // Page by page, the latest page first.
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
            // A key is only a part of the hash: the page tells whether this is the message.
            let is_it: Vec<_> = page.ids().iter().map(|other| other.hash() == id).collect();
            let of_it = page.events().filter(|event| is_it[event.id]);
            let events: Vec<_> = of_it.map(|event| page.event(&event)).collect();
            event_count += events.len();
            by_page.push(events);
        }
        Ok(by_page.into_iter().rev().flatten().collect())
    }

    /// Outcomes, in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn outcomes(&self, query: &OutcomeQuery) -> Result<OutcomesPage, LedgerError> {
        outcomes::outcomes(&self.shared.pages, query, self.shared.sizes.query_bytes)
    }

    /// When a queue last saw an id ([`crate::dedup_key`]), ms since the epoch, if that is within
    /// the window as of the last flush and the id has not been freed since.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn first_seen(&self, key: u128) -> Result<Option<u64>, LedgerError> {
        Ok(self.shared.window.latest(key)?.and_then(dedup::seen_at_ms))
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes.load(Ordering::Relaxed)
    }

    /// Files kept open, as of the last flush.
    pub fn file_count(&self) -> usize {
        self.shared.file_count.load(Ordering::Relaxed)
    }
}
