//! One turn of the committer: swap, write, sync, notify.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use segment_log::{Batch, LogError, records};

use super::committed_records::CommittedBatch;
use super::{IDLE, LAZY_COMMIT, LAZY_COMMIT_BYTES, Store, Waiter};
use crate::NodeError;

/// How long the disk is left alone before the same batch is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Something became durable, or there was nothing to do.
    Done,
    /// There is no room on the disk, or no descriptor left: the same batch comes again.
    Later,
}

impl Store {
    /// The committer's life: until [`Store::close`], or until the disk fails.
    pub(crate) fn run_committer(&self) {
        let _ = self.committer.set(std::thread::current().id());
        while self.await_work() {
            match self.commit() {
                Ok(Commit::Done) => {}
                Ok(Commit::Later) if self.appending.lock().closing => {
                    tracing::error!("the store cannot be written; what was not confirmed is lost");
                    self.poison(Vec::new());
                    return;
                }
                Ok(Commit::Later) => std::thread::sleep(RETRY),
                Err(error) => {
                    tracing::error!("the store is poisoned and confirms nothing more: {error}");
                    return;
                }
            }
        }
    }

    /// Writes and syncs everything that has been appended, and notifies those who wait.
    pub(crate) fn commit(&self) -> Result<Commit, NodeError> {
        if self.is_poisoned() {
            return Err(NodeError::Poisoned);
        }
        let (batch, waiters) = self.take_batch();
        if !batch.is_empty() {
            if let Err(error) = self.write_or_make_room(&batch) {
                if error.is_temporary() {
                    self.appending.lock().in_flight_waiters = waiters;
                    return Ok(Commit::Later);
                }
                self.poison(waiters);
                return Err(error.into());
            }
            self.clear_stuck();
            self.note_written(batch.len_bytes() as u64);
            self.durable.store(batch.end(), Ordering::Release);
        }
        waiters.iter().for_each(|waiter| waiter.committed());
        self.account(&batch);
        self.recycle(batch);
        self.delete_segments()
    }

    /// With relaxed durability: writes to the disk what only the operating system has.
    pub(crate) fn sync_relaxed(&self) -> Result<(), LogError> {
        if self.relaxed { self.device.lock().sync() } else { Ok(()) }
    }

    /// Ends the committer's life; what has been appended is written first.
    pub(crate) fn close(&self) {
        self.appending.lock().closing = true;
        self.work.notify_one();
    }

    /// Sleeps until there is something to write. `false`: closed and nothing left.
    fn await_work(&self) -> bool {
        let mut appending = self.appending.lock();
        let mut since: Option<Instant> = None;
        loop {
            let is_empty = appending.batch.is_empty() && appending.waiters.is_empty();
            let retries = appending.in_flight.is_some();
            if appending.closing && is_empty && !retries {
                return false;
            }
            let hurries = !appending.waiters.is_empty()
                || appending.closing
                || retries
                || appending.batch.len_bytes() >= LAZY_COMMIT_BYTES;
            if hurries {
                return true;
            }
            appending.committer_sleeps = true;
            if is_empty {
                since = None;
                // The next append wakes us, even if nobody waits for it.
                appending.committer_idles = true;
                self.work.wait_for(&mut appending, IDLE);
                appending.committer_idles = false;
            } else {
                let deadline = *since.get_or_insert_with(|| Instant::now() + LAZY_COMMIT);
                if !self.work.wait_until(&mut appending, deadline) {
                    return true;
                }
            }
            appending.committer_sleeps = false;
        }
    }

    /// The batch to write: a new one, or again the one that found the disk full.
    fn take_batch(&self) -> (Arc<Batch>, Vec<Arc<dyn Waiter>>) {
        let mut appending = self.appending.lock();
        if let Some(batch) = appending.in_flight.clone() {
            // Those who have come since then wait for the next batch.
            return (batch, std::mem::take(&mut appending.in_flight_waiters));
        }
        let waiters = std::mem::take(&mut appending.waiters);
        waiters.iter().for_each(|waiter| waiter.taken());
        let end = appending.batch.end();
        let next = match appending.spare.take() {
            Some(mut spare) => {
                spare.reset(end);
                spare
            }
            None => Batch::new(end),
        };
        let batch = Arc::new(std::mem::replace(&mut appending.batch, next));
        appending.in_flight = Some(Arc::clone(&batch));
        self.in_flight_bytes.store(batch.len_bytes() as u64, Ordering::Relaxed);
        self.appended_bytes.store(0, Ordering::Relaxed);
        (batch, waiters)
    }

    /// Writes and syncs; tries once more if something could be done about the lack of room.
    fn write_or_make_room(&self, batch: &Batch) -> Result<(), LogError> {
        match self.write(batch) {
            Err(error) if error.is_temporary() && self.is_stuck_with(batch.len_bytes(), &error) => {
                let again = self.write(batch);
                if let Err(error) = &again {
                    self.is_stuck_with(batch.len_bytes(), error);
                }
                again
            }
            written => written,
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), LogError> {
        let mut device = self.device.lock();
        device.write(batch)?;
        if self.relaxed {
            // A confirm then means that the operating system has it.
            return Ok(());
        }
        device.sync()
    }

    fn account(&self, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        let base = self.device.lock().active_base();
        let mut segments = self.segments.lock();
        segments.add(base);
        let mut committed = CommittedBatch::default();
        records(batch.as_bytes(), batch.start()).for_each(|record| {
            segments.account(&record);
            committed.take(&record);
        });
        drop(segments);
        self.committed_records.push(committed, batch.end());
    }

    /// Its bytes can now be read from the log; its memory serves the next batch but one.
    fn recycle(&self, batch: Arc<Batch>) {
        self.appending.lock().in_flight = None;
        self.in_flight_bytes.store(0, Ordering::Relaxed);
        if let Ok(batch) = Arc::try_unwrap(batch) {
            self.appending.lock().spare = Some(batch);
        }
    }

    fn delete_segments(&self) -> Result<Commit, NodeError> {
        loop {
            let deletable = self.segments.lock().deletable(
                self.definitions.applied_position(),
                self.ledger_applied.load(Ordering::Acquire),
            );
            if deletable.is_empty() {
                return Ok(Commit::Done);
            }
            let mut device = self.device.lock();
            let deleted = device.delete_segments(&deletable);
            let gone: Vec<u64> =
                deletable.into_iter().filter(|&base| !device.has_segment(base)).collect();
            drop(device);
            let mut segments = self.segments.lock();
            gone.iter().for_each(|&base| segments.remove(base));
            drop(segments);
            match deleted {
                // With these gone, segments that only settle something in them can go as well.
                Ok(()) => {}
                // Nothing is lost by keeping them for now.
                Err(error) if error.is_temporary() => return Ok(Commit::Done),
                Err(error) => {
                    self.poison(Vec::new());
                    return Err(error.into());
                }
            }
        }
    }

    /// Nothing becomes durable any more: notifies those who waited for this batch and for the next.
    fn poison(&self, mut waiters: Vec<Arc<dyn Waiter>>) {
        self.poisoned.store(true, Ordering::Release);
        waiters.append(&mut self.appending.lock().waiters);
        waiters.iter().for_each(|waiter| waiter.committed());
    }
}
