//! The durable store: one log for all messages and settlements, and the definitions.
//!
//! Whoever has something to store appends it to a buffer in memory ([`Store::append`]) and goes on.
//! The committer ([`Store::commit`], on a thread of its own in a running node) swaps the buffer,
//! writes it, syncs, advances [`Store::durable`] and notifies everybody who waited. While it syncs,
//! the next batch gathers: that is the group commit. It hurries only when somebody waits; what
//! nobody waits for (acks, unconfirmed messages) is gathered for [`LAZY_COMMIT`] or
//! [`LAZY_COMMIT_BYTES`].
//!
//! *Invariants:* a position below [`Store::durable`] survives a crash. After a failed write or sync
//! the store is poisoned: it never reports anything as durable again. A full disk is not a failure,
//! nor is a lack of file descriptors: the batch waits, [`Store::stuck`] holds publishers, and
//! writing goes on when there is room (module [`room`]).

pub(crate) mod committed_records;
mod committer;
pub(crate) mod device;
mod emptying;
mod losses;
pub(crate) mod outcome_records;
mod reading;
pub(crate) mod records;
pub(crate) mod recovery;
mod room;
mod segments;
mod sleeper;

pub(crate) use committer::Commit;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use segment_log::{Batch, LogError, RecordRef};

use crate::NodeError;
use crate::atomics::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::definitions::{Change, DefinitionStore};
use crate::locks::{Condvar, Mutex, Rank};
use crate::options::StoreOptions;
use committed_records::CommittedRecords;
use device::{Device, ReadDevice, ReserveDevice};
use segments::Segments;

/// How long appends that nobody waits for may gather before they are written.
pub(crate) const LAZY_COMMIT: Duration = Duration::from_millis(10);
/// How long the committer and the ledger writer sleep while there is nothing to do: a missed wake-up
/// costs at most this.
const IDLE: Duration = Duration::from_secs(1);
/// How many bytes of them may gather.
const LAZY_COMMIT_BYTES: usize = 4 << 20;
/// Publishers pause while this much waits to be written.
pub(crate) const APPENDED_BYTES_MAX: usize = 32 << 20;

/// Something that waits for a position to become durable.
pub(crate) trait Waiter: Send + Sync {
    /// Notes that it waits. `false` when it was waiting already.
    fn begin_waiting(&self) -> bool;
    /// The committer has begun with what it waits for: to wait for more, it must register anew.
    fn taken(&self);
    /// More is durable now, or the store is poisoned, or there is room again.
    fn committed(&self);
}

/// Stands in for a waiter where only the turn itself is wanted.
struct Nobody;

impl Waiter for Nobody {
    fn begin_waiting(&self) -> bool {
        true
    }

    fn taken(&self) {}

    fn committed(&self) {}
}

/// See the module's documentation.
pub(crate) struct Store {
    appending: Mutex<Appending>,
    /// Tells the committer that there is something to do.
    work: Condvar,
    device: Mutex<Box<dyn Device>>,
    reader: Box<dyn ReadDevice>,
    segments: Mutex<Segments>,
    /// Segments that compaction found worthwhile when it last looked.
    mostly_dead: Mutex<BTreeSet<u64>>,
    /// Segments that compaction has emptied, and the position that must be durable before they go.
    emptying: Mutex<Option<(u64, BTreeSet<u64>)>>,
    definitions: DefinitionStore,
    durable: AtomicU64,
    appended_bytes: AtomicU64,
    /// Bytes of the batch that is being written.
    in_flight_bytes: AtomicU64,
    poisoned: AtomicBool,
    /// Whether and why the last batch could not be written for now; module `room` has the numbers.
    stuck: AtomicU8,
    /// Roughly how much is free on the disk.
    free_bytes: AtomicU64,
    disk_free_bytes_min: u64,
    reserve: Mutex<Box<dyn ReserveDevice>>,
    relaxed: bool,
    /// What the ledger is made from.
    pub(crate) committed_records: CommittedRecords,
    /// How far the ledger has durably followed the log.
    pub(crate) ledger_applied: AtomicU64,
    /// Whether a thread commits; otherwise whoever needs a commit makes it.
    has_committer: AtomicBool,
    committer: OnceLock<ThreadId>,
    /// Distinguishes the read-ahead buffers of this store from those of another.
    serial: u64,
}

struct Appending {
    batch: Batch,
    /// What the committer is writing at the moment, still readable here.
    in_flight: Option<Arc<Batch>>,
    /// Waiters for that batch, while it waits to be tried again.
    in_flight_waiters: Vec<Arc<dyn Waiter>>,
    /// Memory for the next batch.
    spare: Option<Batch>,
    waiters: Vec<Arc<dyn Waiter>>,
    /// Changes that the definition store does not have yet, with the position after each.
    changes: Vec<(Change, u64)>,
    committer_sleeps: bool,
    /// There was nothing to write, so it does not even gather.
    committer_idles: bool,
    closing: bool,
    settle_scratch: Vec<u8>,
}

/// What an append closure writes to.
pub(crate) struct Appender<'a> {
    pub batch: &'a mut Batch,
    pub scratch: &'a mut Vec<u8>,
    changes: &'a mut Vec<(Change, u64)>,
}

impl Appender<'_> {
    /// Appends a change of the definitions.
    pub(crate) fn change(&mut self, change: Change) {
        records::append_change(self.batch, &change);
        self.changes.push((change, self.batch.end()));
    }
}

impl Store {
    pub(crate) fn new(
        device: Box<dyn Device>,
        definitions: DefinitionStore,
        segments: Segments,
        reserve: Box<dyn ReserveDevice>,
        options: &StoreOptions,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let start = device.next_position();
        Self {
            appending: Mutex::new(
                Rank::Appending,
                Appending {
                    batch: Batch::new(start),
                    in_flight: None,
                    in_flight_waiters: Vec::new(),
                    spare: None,
                    waiters: Vec::new(),
                    changes: Vec::new(),
                    committer_sleeps: false,
                    committer_idles: false,
                    closing: false,
                    settle_scratch: Vec::new(),
                },
            ),
            work: Condvar::default(),
            reader: device.reader(),
            device: Mutex::new(Rank::Device, device),
            segments: Mutex::new(Rank::Leaf, segments),
            mostly_dead: Mutex::default(),
            emptying: Mutex::default(),
            definitions,
            durable: AtomicU64::new(start),
            appended_bytes: AtomicU64::new(0),
            in_flight_bytes: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            stuck: AtomicU8::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            disk_free_bytes_min: options.disk_free_bytes_min,
            reserve: Mutex::new(Rank::Leaf, reserve),
            relaxed: options.relaxed,
            committed_records: CommittedRecords::default(),
            ledger_applied: AtomicU64::new(0),
            has_committer: AtomicBool::new(false),
            committer: OnceLock::new(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Appends records; returns the position after them, which will become durable some time. With
    /// a `waiter` it will soon, and the waiter is notified.
    pub(crate) fn append<R>(
        &self,
        waiter: Option<&Arc<dyn Waiter>>,
        write: impl FnOnce(&mut Appender<'_>) -> R,
    ) -> (R, u64) {
        let mut appending = self.appending.lock();
        let Appending { batch, settle_scratch, changes, .. } = &mut *appending;
        let result = write(&mut Appender { batch, scratch: settle_scratch, changes });
        let end = appending.batch.end();
        let bytes = appending.batch.len_bytes();
        self.appended_bytes.store(bytes as u64, Ordering::Relaxed);
        let begins = appending.committer_idles && bytes > 0;
        let mut wake = begins || bytes >= LAZY_COMMIT_BYTES;
        if let Some(waiter) = waiter {
            wake = true;
            if waiter.begin_waiting() {
                appending.waiters.push(Arc::clone(waiter));
            }
        }
        let wake = wake && std::mem::take(&mut appending.committer_sleeps);
        drop(appending);
        if wake {
            self.work.notify_one();
        }
        (result, end)
    }

    /// Notifies `waiter` when `position` is durable; `true` when it already is (or never will be).
    pub(crate) fn wait_for(&self, position: u64, waiter: &Arc<dyn Waiter>) -> bool {
        if self.durable() >= position || self.is_poisoned() {
            return true;
        }
        self.append(Some(waiter), |_| ());
        self.durable() >= position || self.is_poisoned()
    }

    /// Makes the committer take a turn, whether or not there is something to write: there may be
    /// something to delete.
    pub(crate) fn look_again(&self) {
        self.append(Some(&(Arc::new(Nobody) as Arc<dyn Waiter>)), |_| ());
    }

    /// Everything before this position survives a crash.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Whether more may be appended without the buffer exceeding its limit.
    pub(crate) fn has_room(&self) -> bool {
        self.appended_bytes.load(Ordering::Relaxed) < APPENDED_BYTES_MAX as u64
    }

    /// What waits to be written, without what is being written.
    #[cfg(test)]
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// Whether this is the thread that everybody waits for.
    pub(crate) fn is_committer(&self) -> bool {
        self.committer.get() == Some(&std::thread::current().id())
    }

    /// Whether a write or sync failed for good.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Brings the definition store up to what is durable in the log.
    pub(crate) fn apply_definitions(&self) -> Result<(), NodeError> {
        let durable = self.durable();
        let mut appending = self.appending.lock();
        let count = appending.changes.partition_point(|(_, end)| *end <= durable);
        if count == 0 {
            return Ok(());
        }
        let ready: Vec<(Change, u64)> = appending.changes.drain(..count).collect();
        drop(appending);
        let end = ready.last().map_or(0, |(_, end)| *end);
        let (changes, ends): (Vec<Change>, Vec<u64>) = ready.into_iter().unzip();
        let applied = self.definitions.apply(&changes, end);
        if applied.is_err() {
            // They come again in the next round, before later ones.
            let ready = changes.into_iter().zip(ends);
            self.appending.lock().changes.splice(..0, ready);
        }
        Ok(applied?)
    }

    /// Lets go of the definitions' file.
    pub(crate) fn close_definitions(&self) {
        self.definitions.close();
    }

    /// Notes that a thread runs [`Store::run_committer`] from now on.
    pub(crate) fn expect_committer(&self) {
        self.has_committer.store(true, Ordering::Release);
    }

    /// Segments that contain records from `position` on from which the ledger is made, in order.
    pub(crate) fn segments_for_ledger(&self, position: u64) -> Vec<u64> {
        self.segments.lock().for_ledger(position)
    }

    /// Reads all records of a segment.
    pub(crate) fn scan_segment(
        &self,
        base: u64,
        visit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Result<(), LogError> {
        self.reader.scan_segment(base, visit)
    }

    /// The number of segment files.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.lock().count()
    }
}
