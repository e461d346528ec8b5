//! The ledger writer: reads what has become durable and appends it to the ledger; a thread of its
//! own in a living node.
//!
//! The committer copies the records that matter into the store's [`CommittedRecords`], without
//! bodies; the writer takes them from there in batches, and syncs the ledger a few times a second.
//! So the ledger is a view of the message log and slows nobody down: when it cannot keep up, the
//! committed records are dropped and the writer reads the log's segments instead, which stay until
//! it has done so ([`Store::ledger_applied`]).
//!
//! It also answers duplicates: what became of the original is known once the ledger has followed
//! the log up to the moment at which the duplicate came.
//!
//! [`CommittedRecords`]: crate::store::committed_records::CommittedRecords
//! [`Store::ledger_applied`]: crate::store::Store

mod events;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broker::QueueId;
use event_listener::{Event, EventListener};
use hashbrown::HashMap;
use ledger::LedgerError;
use outcome::IdHash;
use segment_log::{LogError, RecordRef};

use crate::NodeError;
use crate::engine::Engine;
use crate::locks::{Mutex, Rank};
use crate::names::QueueNames;
use crate::store::committed_records;
use events::Visit;

/// How long events gather before they are taken.
const ROUND: Duration = Duration::from_millis(20);
/// How often what was followed is made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// The most events that may wait in memory while the ledger cannot be written.
const UNFLUSHED_MAX: u64 = 500_000;
/// How many names of queues are remembered.
const NAMES_MAX: usize = 65_536;

/// See the module's documentation.
pub(crate) struct LedgerWriter {
    engine: Arc<Engine>,
    /// Notified when the ledger has more events.
    changed: Event,
    progress: Mutex<Progress>,
}

/// How far the ledger writer has got.
struct Progress {
    /// Events up to here are in the ledger, but perhaps not yet on its disk.
    followed: u64,
    unflushed_count: u64,
    flushed_at: Instant,
    /// The last flush failed, and that has been logged.
    cannot_flush: bool,
    /// The log could not be read, and that has been logged.
    cannot_follow: bool,
    /// The store is somebody else's by now.
    is_closed: bool,
    names: HashMap<QueueId, QueueNames>,
}

impl LedgerWriter {
    /// A writer for a ledger that has followed the log up to `applied`.
    pub(crate) fn new(engine: &Arc<Engine>, applied: u64) -> Self {
        let progress = Progress {
            followed: applied,
            unflushed_count: 0,
            flushed_at: Instant::now(),
            cannot_flush: false,
            cannot_follow: false,
            is_closed: false,
            names: HashMap::default(),
        };
        let (engine, changed) = (Arc::clone(engine), Event::new());
        Self { engine, changed, progress: Mutex::new(Rank::LedgerProgress, progress) }
    }

    /// Waits until the ledger has more events than now.
    pub(crate) fn changed(&self) -> EventListener {
        self.changed.listen()
    }

    /// The thread's life, until the committed records are closed.
    pub(crate) fn run(&self) {
        while self.wait() {
            self.follow(false);
            // Events come one by one or by the thousand; a batch costs less.
            std::thread::sleep(ROUND / 4);
        }
        self.follow(true);
    }

    /// Waits for something to do. `false` when it is over.
    fn wait(&self) -> bool {
        let has_unflushed = self.progress.lock().unflushed_count > 0;
        let records = &self.engine.store.committed_records;
        if has_unflushed { records.wait(ROUND) } else { records.wait_for_more() }
    }

    /// Appends what has become durable to the ledger; `flush` also makes it durable there. Returns
    /// the position up to which the ledger has followed.
    pub(crate) fn follow(&self, flush: bool) -> u64 {
        let (followed, count) = self.progress(flush);
        if count > 0 {
            self.changed.notify(usize::MAX);
        }
        // Not under the lock, because this reaches queues and connections.
        self.engine.answer_duplicates(followed);
        followed
    }

    /// How far the ledger has got now, and the number of events that this took.
    fn progress(&self, flush: bool) -> (u64, u64) {
        let mut progress = self.progress.lock();
        let progress = &mut *progress;
        if progress.is_closed {
            return (progress.followed, 0);
        }
        if progress.unflushed_count > UNFLUSHED_MAX {
            self.flush_ledger(progress);
            if progress.unflushed_count > 0 {
                // The committed records fill up meanwhile and are dropped; the log keeps what was
                // in them.
                return (progress.followed, 0);
            }
        }
        let taken = self.engine.store.committed_records.take();
        let mut count = 0;
        if taken.overflowed {
            // The records that were dropped had become durable before the others were taken.
            match self.read_segments(progress, taken.end) {
                Ok(read) => count += read,
                Err(error) => {
                    if !std::mem::replace(&mut progress.cannot_follow, true) {
                        tracing::error!("the ledger cannot follow the log, and waits: {error}");
                    }
                    self.engine.store.committed_records.overflow();
                    return (progress.followed, 0);
                }
            }
        }
        for record in committed_records::entries(&taken.bytes) {
            count += self.follow_record(progress, &record.record, record.body_bytes);
        }
        progress.followed = progress.followed.max(taken.end);
        progress.unflushed_count += count;
        let is_due = flush || progress.flushed_at.elapsed() >= FLUSH_EVERY;
        if progress.unflushed_count > 0 && is_due {
            self.flush_ledger(progress);
        }
        self.engine.store.committed_records.give_back(taken.bytes);
        (progress.followed, count)
    }

    /// Nothing is written from now on.
    pub(crate) fn close(&self) {
        self.progress.lock().is_closed = true;
    }

    /// Follows everything in the log, once, before the node does anything else.
    pub(crate) fn catch_up(&self) -> Result<(), NodeError> {
        let mut progress = self.progress.lock();
        let count = self.read_segments(&mut progress, self.engine.store.durable())?;
        if count > 0 {
            tracing::debug!(events = count, "the ledger has followed the log");
            progress.unflushed_count += count;
        }
        self.flush_ledger(&mut progress);
        Ok(())
    }

    fn flush_ledger(&self, progress: &mut Progress) {
        progress.flushed_at = Instant::now();
        // After a crash the ledger must never know more than the log.
        let synced = self.engine.store.sync_relaxed().map_err(LedgerError::from);
        match synced
            .and_then(|()| self.engine.ledger.flush(progress.followed, self.engine.now_ms()))
        {
            Ok(()) => {
                progress.unflushed_count = 0;
                if std::mem::take(&mut progress.cannot_flush) {
                    tracing::info!("the ledger is written again");
                }
                self.engine.store.ledger_applied.store(progress.followed, Ordering::Release);
                // Segments may go now; the committer checks when it has something to do.
                self.engine.store.look_again();
            }
            Err(error) if !std::mem::replace(&mut progress.cannot_flush, true) => {
                tracing::error!("the ledger cannot be written, and waits: {error}");
            }
            Err(_) => {}
        }
    }

    /// Follows the log itself, from where the ledger has got to.
    fn read_segments(&self, progress: &mut Progress, end: u64) -> Result<u64, NodeError> {
        let mut count = 0;
        for base in self.engine.store.segments_for_ledger(progress.followed) {
            let from = progress.followed;
            let scanned = self.engine.store.scan_segment(base, &mut |record| {
                if record.position >= from
                    && record.position < end
                    && committed_records::is_wanted(&record)
                {
                    count += self.follow_record(
                        progress,
                        &record,
                        committed_records::body_bytes(&record),
                    );
                }
            });
            match scanned {
                Ok(()) | Err(LogError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        progress.followed = progress.followed.max(end);
        Ok(count)
    }

    fn follow_record(
        &self,
        progress: &mut Progress,
        record: &RecordRef<'_>,
        body_bytes: u32,
    ) -> u64 {
        let (engine, names) = (&self.engine, &mut progress.names);
        let mut visit = Visit {
            vhost_of: &|message_id, hash| engine.registry.vhost_of(message_id, IdHash(hash)),
            names: &mut |id| queue_names(engine, names, id),
            emit: &mut |event| {
                // In this order, so that one of the two always knows an id.
                if engine.ledger.append(event) {
                    engine.forget_pending(event);
                }
            },
            count: 0,
        };
        visit.record(record, body_bytes);
        visit.count
    }
}

/// The name a queue has, or had until a moment ago.
fn queue_names(
    engine: &Engine,
    known: &mut HashMap<QueueId, QueueNames>,
    id: QueueId,
) -> Option<QueueNames> {
    if let Some(names) = known.get(&id) {
        return Some(names.clone());
    }
    if known.len() > NAMES_MAX {
        known.clear();
    }
    let names = engine.registry.queue_names(id)?;
    known.insert(id, names.clone());
    Some(names)
}

#[cfg(test)]
mod tests;
