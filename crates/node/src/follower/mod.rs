//! The follower: a thread that reads what has become durable and tells the ledger.
//!
//! The committer copies the records that matter into the [`Feed`], without bodies; the follower
//! takes them from there in batches, a few times a second to the disk. So the ledger is a view of
//! the message log and slows nobody: when it cannot keep up the feed is dropped and the follower
//! reads the log's segments instead, which stay until it has ([`Store::ledger_applied`]).
//!
//! It also answers duplicates: what became of the original is known once the ledger has followed
//! the log up to the moment in which the duplicate came.
//!
//! [`Store::ledger_applied`]: crate::store::Store

mod events;
mod feed;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broker::QueueId;
use hashbrown::HashMap;
use ledger::{IdHash, LedgerError};
use parking_lot::Mutex;
use segment_log::{LogError, RecordRef};

use crate::NodeError;
use crate::node::Node;
use crate::store::Waiter;
use crate::vhost::Vhost;
use events::Visit;
pub(crate) use feed::{Feed, FeedBatch};

/// How long events gather before the follower takes them.
const ROUND: Duration = Duration::from_millis(20);
/// How often what was followed is made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// Events that may wait in memory while the ledger cannot be written.
const UNFLUSHED_MAX: u64 = 500_000;

/// What the follower keeps between its rounds.
pub(crate) struct Follower {
    state: Mutex<State>,
}

struct State {
    /// Events up to here are in the ledger, maybe not yet on its disk.
    followed: u64,
    unflushed_count: u64,
    flushed_at: Instant,
    /// The last flush failed, and that was said.
    cannot_flush: bool,
    /// The log could not be read, and that was said.
    cannot_follow: bool,
    names: HashMap<QueueId, QueueNames>,
}

/// Virtual host and name of a queue.
pub(crate) type QueueNames = (Arc<str>, Arc<str>);

impl Follower {
    pub(crate) fn new(applied: u64) -> Self {
        Self {
            state: Mutex::new(State {
                followed: applied,
                unflushed_count: 0,
                flushed_at: Instant::now(),
                cannot_flush: false,
                cannot_follow: false,
                names: HashMap::default(),
            }),
        }
    }
}

impl Node {
    /// The follower's life, until the feed is closed.
    pub(crate) fn run_follower(&self) {
        while self.store.feed.wait(ROUND) {
            self.follow(false);
            // Events come one by one or by the thousand; a batch costs less.
            std::thread::sleep(ROUND / 4);
        }
        self.follow(true);
    }

    /// Tells the ledger what has become durable; `flush` also makes that durable there. Answers up
    /// to which position that was.
    pub(crate) fn follow(&self, flush: bool) -> u64 {
        let mut state = self.follower.state.lock();
        let state = &mut *state;
        if state.unflushed_count > UNFLUSHED_MAX {
            self.flush_ledger(state);
            if state.unflushed_count > 0 {
                // The feed fills meanwhile and is dropped; the log keeps what was in it.
                return state.followed;
            }
        }
        let taken = self.store.feed.take();
        let mut count = 0;
        if taken.overflowed {
            // What was dropped from the feed had become durable before it was taken.
            match self.read_segments(state, taken.end) {
                Ok(read) => count += read,
                Err(error) => {
                    if !std::mem::replace(&mut state.cannot_follow, true) {
                        tracing::error!("the ledger cannot follow the log, and waits: {error}");
                    }
                    self.store.feed.overflow();
                    return state.followed;
                }
            }
        }
        for record in feed::entries(&taken.bytes) {
            count += self.follow_record(state, &record.record, record.body_bytes);
        }
        state.followed = state.followed.max(taken.end);
        state.unflushed_count += count;
        if count > 0 {
            self.ledger_changed.notify(usize::MAX);
        }
        self.answer_duplicates(state.followed);
        let is_due = flush || state.flushed_at.elapsed() >= FLUSH_EVERY;
        if state.unflushed_count > 0 && is_due {
            self.flush_ledger(state);
        }
        self.store.feed.give_back(taken.bytes);
        state.followed
    }

    /// Follows everything there is in the log, once, before the node does anything else.
    pub(crate) fn catch_up(&self) -> Result<(), NodeError> {
        let mut state = self.follower.state.lock();
        let count = self.read_segments(&mut state, self.store.durable())?;
        if count > 0 {
            tracing::debug!(events = count, "the ledger has followed the log");
            state.unflushed_count += count;
        }
        self.flush_ledger(&mut state);
        Ok(())
    }

    fn flush_ledger(&self, state: &mut State) {
        state.flushed_at = Instant::now();
        // The ledger must never know more than the log does after a crash.
        let synced = self.store.sync_relaxed().map_err(LedgerError::from);
        match synced.and_then(|()| self.ledger.flush(state.followed, self.now_ms())) {
            Ok(()) => {
                state.unflushed_count = 0;
                if std::mem::take(&mut state.cannot_flush) {
                    tracing::info!("the ledger is written again");
                }
                self.store.ledger_applied.store(state.followed, Ordering::Release);
                // Segments may go now; the committer looks when it has something to do.
                let waiter: Arc<dyn Waiter> = self.outcomes.notices.clone();
                self.store.append(Some(&waiter), |_| ());
            }
            Err(error) if !std::mem::replace(&mut state.cannot_flush, true) => {
                tracing::error!("the ledger cannot be written, and waits: {error}");
            }
            Err(_) => {}
        }
    }

    /// Follows the log itself, from where the ledger has got to.
    fn read_segments(&self, state: &mut State, end: u64) -> Result<u64, NodeError> {
        let mut count = 0;
        for base in self.store.segments_for_ledger(state.followed) {
            let from = state.followed;
            let scanned = self.store.scan_segment(base, &mut |record| {
                if record.position >= from && record.position < end && feed::is_wanted(&record) {
                    count += self.follow_record(state, &record, feed::body_bytes(&record));
                }
            });
            match scanned {
                Ok(()) | Err(LogError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        state.followed = state.followed.max(end);
        Ok(count)
    }

    fn follow_record(&self, state: &mut State, record: &RecordRef<'_>, body_bytes: u32) -> u64 {
        let names = &mut state.names;
        let mut visit = Visit {
            vhost_of: &|message_id, hash| self.vhost_of(message_id, IdHash(hash)),
            names: &mut |id| self.queue_names(names, id),
            emit: &mut |event| {
                // In this order: an id is always known to one of them.
                if self.ledger.append(event) {
                    self.forget_pending(event);
                }
            },
            count: 0,
        };
        visit.record(record, body_bytes);
        visit.count
    }

    /// The virtual host that a message is in, told by the hash of both.
    pub(crate) fn vhost_of(&self, message_id: &str, hash: IdHash) -> Option<Arc<Vhost>> {
        let vhosts = self.vhosts.read();
        vhosts.values().find(|vhost| IdHash::new(&vhost.name, message_id) == hash).cloned()
    }

    /// What a queue is called, or was called until a moment ago.
    fn queue_names(
        &self,
        names: &mut HashMap<QueueId, QueueNames>,
        id: QueueId,
    ) -> Option<QueueNames> {
        const NAMES_MAX: usize = 65_536;
        if let Some(known) = names.get(&id) {
            return Some(known.clone());
        }
        if names.len() > NAMES_MAX {
            names.clear();
        }
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            if let Some(queue) = vhost.state.read().queues.get(&id) {
                names.insert(id, (vhost.name.clone(), queue.name.clone()));
            }
        }
        if let Some(known) = names.get(&id) {
            return Some(known.clone());
        }
        let deleted = self.deleted_queues.lock();
        let found = deleted.iter().find(|(of, _)| *of == id).map(|(_, names)| names.clone())?;
        names.insert(id, found.clone());
        Some(found)
    }
}

#[cfg(test)]
mod tests;
