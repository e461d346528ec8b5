//! The node: opens a store, owns its threads, and is what sessions work on.
//!
//! Threads: the committer (module `store`), the follower (module `follower`: it tells the ledger)
//! and the keeper (timers, definitions, compaction, free disk and memory). A simulator opens a node without threads and calls [`Node::commit`] and
//! [`Node::keep`] itself.
//!
//! Locks: the whole list is in ARCHITECTURE.md. Never two at once, with two exceptions: a change of
//! the definitions is appended while what it changes is locked, and a batch with de-duplicated ids
//! while the ids in flight are (module `outcomes::ids_in_flight`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use broker::QueueId;
use hashbrown::HashMap;
use ledger::{Ledger, Prefixed};
use parking_lot::{Mutex, RwLock};
use segment_log::{Disk, RealDisk};

use crate::auth::{AccessTable, Logins};
use crate::clock::Clock;
use crate::consumer::ConsumerHandle;
use crate::definitions::{DefinitionStore, Definitions};
use crate::follower::{Follower, QueueNames};
use crate::live_queue::LiveQueue;
use crate::lookup::open_ledger;
use crate::memory::Memory;
use crate::options::{Limits, Options, StoreOptions};
use crate::outbox::Outbox;
use crate::outcomes::Outcomes;
use crate::store::Store;
use crate::store::recovery::{Recovered, recover};
use crate::timers::Timers;
use crate::vhost::Vhost;
use crate::{NodeError, startup};

/// The virtual host that is there from the start.
pub const DEFAULT_VHOST: &str = "/";

/// What a start found in the store.
#[derive(Debug, Clone, Default)]
pub struct RecoverySummary {
    /// Messages in durable queues.
    pub message_count: u64,
    /// Durable queues.
    pub queue_count: usize,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// What was wrong, a clear line each; already logged.
    pub warnings: Vec<String>,
}

/// A living broker. See the module's documentation.
pub struct Node {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) ledger_changed: event_listener::Event,
    pub(crate) follower: Follower,
    pub(crate) outcomes: Outcomes,
    /// Queues that were deleted lately: their last events are still on the way into the ledger.
    pub(crate) deleted_queues: Mutex<VecDeque<(QueueId, QueueNames)>>,
    ignored_report_count: AtomicU64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) vhosts: RwLock<HashMap<String, Arc<Vhost>>>,
    /// Users and permissions as they stand.
    pub(crate) accounts: RwLock<Definitions>,
    pub(crate) access: AccessTable,
    pub(crate) logins: Arc<Logins>,
    pub(crate) limits: Limits,
    pub(crate) store_options: StoreOptions,
    pub(crate) loopback_users: Vec<String>,
    pub(crate) timers: Timers,
    /// Open connections, to be told when publishers are held and let go.
    pub(crate) connections: Mutex<HashMap<u64, Weak<Outbox>>>,
    /// Consumers of direct reply-to, by the token in their address.
    pub(crate) reply_consumers: RwLock<HashMap<String, Weak<ConsumerHandle>>>,
    pub(crate) next_queue_id: AtomicU32,
    /// Ids below this one are said to be used in the definitions.
    pub(crate) reserved_queue_ids: AtomicU32,
    next_connection: AtomicU64,
    next_serial: AtomicU64,
    cached_bytes: AtomicI64,
    /// Memory of what clients have begun and not finished.
    pub(crate) unfinished_bytes: AtomicU64,
    pub(crate) memory: Memory,
    pub(crate) publishers_held: AtomicBool,
    recovered: RecoverySummary,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held open for its lock.
    _lock: Option<std::fs::File>,
}

impl Node {
    /// Opens the store in a directory and starts the node's threads.
    ///
    /// # Errors
    /// [`NodeError::StoreInUse`] and whatever the disk says.
    pub fn open(options: Options) -> Result<Arc<Self>, NodeError> {
        let lock = startup::lock_directory(&options.data)?;
        let log_directory = options.data.join("log");
        let disk = RealDisk::new(&log_directory)
            .map_err(NodeError::disk(format!("open {}", log_directory.display())))?;
        // Before anything is written: on a full disk that makes the room a start needs.
        startup::free_reserve_if_full(&disk, &options.store);
        let definitions = DefinitionStore::open_file(options.data.join("definitions.redb"))?;
        let directory = options.data.join("ledger");
        let ledger_disk = RealDisk::new(&directory)
            .map_err(NodeError::disk(format!("open {}", directory.display())))?;
        let ledger = open_ledger(ledger_disk, &options.ledger)?;
        let node = Self::build(disk, definitions, ledger, options, Some(lock))?;
        node.start_threads()?;
        Ok(node)
    }

    /// Opens a node on any disk, without threads: whoever calls this also calls [`Node::commit`]
    /// and [`Node::keep`], and decides what time it is. For simulators.
    pub fn open_on<D: Disk + Clone>(disk: D, options: Options) -> Result<Arc<Self>, NodeError> {
        let definitions = DefinitionStore::open_on_disk(&disk, "definitions.redb")?;
        let ledger = open_ledger(Prefixed::new(disk.clone(), "ledger-"), &options.ledger)?;
        Self::build(disk, definitions, ledger, options, None)
    }

    fn build<D: Disk + Clone>(
        disk: D,
        definitions: DefinitionStore,
        ledger: Ledger,
        options: Options,
        lock: Option<std::fs::File>,
    ) -> Result<Arc<Self>, NodeError> {
        let ledger_applied = ledger.applied();
        let recovered = recover(disk, definitions, &options.store, ledger_applied)?;
        let Recovered { store, definitions, queues, orphans, gone_queues, log, losses } = recovered;
        let summary = startup::summarize(&log, losses, &queues, &definitions);
        let node = Arc::new(Self {
            store,
            ledger,
            ledger_changed: event_listener::Event::new(),
            follower: Follower::new(ledger_applied),
            outcomes: Outcomes::default(),
            deleted_queues: Mutex::new(gone_queues.into()),
            ignored_report_count: AtomicU64::new(0),
            clock: options.clock,
            vhosts: RwLock::default(),
            next_queue_id: AtomicU32::new(definitions.next_queue_id),
            reserved_queue_ids: AtomicU32::new(definitions.next_queue_id),
            accounts: RwLock::new(definitions),
            access: AccessTable::default(),
            logins: Logins::new()?,
            limits: options.limits,
            store_options: options.store,
            loopback_users: options.loopback_users,
            timers: Timers::default(),
            connections: Mutex::default(),
            reply_consumers: RwLock::default(),
            next_connection: AtomicU64::new(1),
            next_serial: AtomicU64::new(1),
            cached_bytes: AtomicI64::new(0),
            unfinished_bytes: AtomicU64::new(0),
            memory: Memory::open(),
            publishers_held: AtomicBool::new(false),
            recovered: summary,
            threads: Mutex::default(),
            _lock: lock,
        });
        startup::restore(&node, queues)?;
        node.outcomes.notices.bind(&node);
        node.catch_up()?;
        node.tell_orphans(orphans)?;
        Ok(node)
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), NodeError> {
        let spawn = |name: &str, life: fn(&Node)| {
            let node = Arc::clone(self);
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || life(&node))
                .map_err(NodeError::disk("start a thread"))
        };
        self.store.expect_committer();
        let committer = spawn("wilco-committer", |node| node.store.run_committer())?;
        let follower = spawn("wilco-ledger", Node::run_follower)?;
        let keeper = spawn("wilco-keeper", Node::run_keeper)?;
        *self.threads.lock() = vec![follower, committer, keeper];
        Ok(())
    }

    /// Writes and syncs what is left, and stops the threads. Sessions should be closed before.
    pub fn close(&self) {
        self.timers.close();
        let mut threads = std::mem::take(&mut *self.threads.lock());
        // The keeper first: what it still appends is written by the committer, and the ledger then
        // follows that.
        threads.reverse();
        let close: [&dyn Fn(); 3] = [&|| (), &|| self.store.close(), &|| self.store.feed.close()];
        for (thread, close) in threads.into_iter().zip(close) {
            close();
            if thread.join().is_err() {
                tracing::error!("a thread of the node panicked");
            }
        }
        if let Err(error) = self.store.apply_definitions() {
            tracing::error!("the definitions stay in the log until the next start: {error}");
        }
    }

    /// Makes durable all that was appended. Only for a node without threads.
    ///
    /// # Errors
    /// [`NodeError::Poisoned`] and whatever the disk says. `Ok(false)`: not now, there is no room on
    /// the disk.
    pub fn commit(&self) -> Result<bool, NodeError> {
        Ok(self.store.commit()? == crate::store::Commit::Done)
    }

    /// What a start found in the store.
    pub fn recovered(&self) -> &RecoverySummary {
        &self.recovered
    }

    /// Messages, ready and unsettled, that are in queues.
    pub fn message_count(&self) -> u64 {
        let queues = self.all_queues();
        let depths = queues.iter().map(|queue| queue.state.lock().core.depth());
        depths.map(|depth| depth.ready_count + depth.unsettled_count + depth.delayed_count).sum()
    }

    /// Reports of workers that were ignored: their channels did not hold the message.
    pub fn ignored_report_count(&self) -> u64 {
        self.ignored_report_count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_ignored_report(&self) {
        self.ignored_report_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of segment files of the message log.
    pub fn segment_count(&self) -> usize {
        self.store.segment_count()
    }

    /// Whether publishers are to be held: too little disk or memory left.
    pub fn holds_publishers(&self) -> bool {
        if !self.store.has_disk_room() {
            // The keeper, who looks a few times a second, would be too late.
            self.hold_publishers(true, false);
        }
        self.publishers_held.load(Ordering::Acquire)
    }

    /// Wakes every connection, to look at something all of them must know.
    pub fn wake_connections(&self) {
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        connections.iter().filter_map(Weak::upgrade).for_each(|outbox| outbox.wake());
    }

    /// The largest body a message may have, bytes.
    pub fn message_bytes_max(&self) -> u64 {
        self.limits.message_bytes_max
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that nobody else has.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether bodies of newly queued messages may stay in memory.
    pub(crate) fn keeps_bodies(&self) -> bool {
        self.cached_bytes.load(Ordering::Relaxed) < self.store_options.body_cache_bytes as i64
    }

    pub(crate) fn count_cached(&self, before: u64, after: u64) {
        if before != after {
            self.cached_bytes.fetch_add(after as i64 - before as i64, Ordering::Relaxed);
        }
    }

    /// Has the timers look at a queue.
    pub(crate) fn schedule(&self, queue: &Arc<LiveQueue>, at_ms: u64) {
        if queue.claim_timer(at_ms) {
            self.timers.add(at_ms, queue);
        }
    }

    pub(crate) fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    pub(crate) fn all_queues(&self) -> Vec<Arc<LiveQueue>> {
        let vhosts: Vec<Arc<Vhost>> = self.vhosts.read().values().cloned().collect();
        let queues = |vhost: &Arc<Vhost>| -> Vec<Arc<LiveQueue>> {
            vhost.state.read().queues.values().cloned().collect()
        };
        let mut queues: Vec<_> = vhosts.iter().flat_map(queues).collect();
        queues.sort_by_key(|queue| queue.id);
        queues
    }
}
