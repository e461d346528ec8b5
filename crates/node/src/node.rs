//! The node: opens a store, owns its threads, and is what programs and servers work with.
//!
//! It is put together from the `engine` (messages), accounts (who may do what), the ledger writer
//! and maintenance. Its threads are the committer (module `store`), the ledger writer and
//! maintenance. A simulator opens a node without threads and calls [`Node::commit`] and
//! [`Node::maintain`] itself.
//!
//! Locks: the whole list is in ARCHITECTURE.md.

use std::sync::Arc;
use std::thread::JoinHandle;

use broker::BrokerError;
use ledger::{Ledger, Prefixed};
use segment_log::{Disk, MemoryDisk, RealDisk};

use crate::NodeError;
use crate::auth::{Accounts, Identity};
use crate::definitions::DefinitionStore;
use crate::engine::Engine;
use crate::ledger_writer::LedgerWriter;
use crate::locks::{Mutex, Rank};
use crate::maintenance::Maintenance;
use crate::one_at_a_time::OneAtATime;
use crate::options::Options;
use crate::queries::Queries;
use crate::registry::Registry;
use crate::session::Session;
use crate::sink::Sink;
use crate::startup::{self, RecoverySummary};
use crate::store::Commit;
use crate::store::recovery::{Recovered, recover};

pub use crate::names::DEFAULT_VHOST;

/// A running broker. See the module's documentation.
pub struct Node {
    pub(crate) engine: Arc<Engine>,
    pub(crate) accounts: Accounts,
    pub(crate) writer: Arc<LedgerWriter>,
    maintenance: Arc<Maintenance>,
    /// Who works on a message by its id.
    pub(crate) by_id_turns: OneAtATime<u128>,
    recovered: RecoverySummary,
    threads: Mutex<Option<Threads>>,
    /// Held open for its lock, until the node is closed.
    lock: Mutex<Option<std::fs::File>>,
}

struct Threads {
    committer: JoinHandle<()>,
    ledger_writer: JoinHandle<()>,
    maintenance: JoinHandle<()>,
}

impl Node {
    /// Opens the store in a directory and starts the node's threads.
    ///
    /// # Errors
    /// [`NodeError::StoreInUse`], and errors of the disk.
    pub fn open(options: Options) -> Result<Arc<Self>, NodeError> {
        let lock = startup::lock_directory(&options.data)?;
        let log_directory = options.data.join("log");
        let disk = RealDisk::new(&log_directory)
            .map_err(NodeError::disk(format!("open {}", log_directory.display())))?;
        // Before anything is written: on a full disk this makes the room that a start needs.
        startup::free_reserve_if_full(&disk, &options.store);
        let definitions = DefinitionStore::open_file(options.data.join("definitions.redb"))?;
        let directory = options.data.join("ledger");
        let ledger_disk = RealDisk::new(&directory)
            .map_err(NodeError::disk(format!("open {}", directory.display())))?;
        let ledger = Ledger::open(ledger_disk, options.ledger.clone())?;
        let node = Self::build(disk, definitions, ledger, options, Some(lock))?;
        node.start_threads()?;
        Ok(node)
    }

    /// Opens a node on any disk, without threads: the caller also calls [`Node::commit`] and
    /// [`Node::maintain`], and provides the clock. For simulators.
    pub fn open_on<D: Disk + Clone>(disk: D, options: Options) -> Result<Arc<Self>, NodeError> {
        let definitions = DefinitionStore::open_on_disk(&disk, "definitions.redb")?;
        let ledger_disk = Prefixed::new(disk.clone(), "ledger-");
        let ledger = Ledger::open(ledger_disk, options.ledger.clone())?;
        Self::build(disk, definitions, ledger, options, None)
    }

    /// Opens an empty node whose store is in memory, and starts its threads: what is in it is gone with
    /// the process.
    ///
    /// # Errors
    /// Those of starting threads.
    pub fn open_in_memory(options: Options) -> Result<Arc<Self>, NodeError> {
        Self::open_in_memory_on(MemoryDisk::new(), options)
    }

    /// The same on a disk in memory that may have been used before.
    ///
    /// # Errors
    /// Those of starting threads, and of a store that is damaged.
    pub fn open_in_memory_on(disk: MemoryDisk, options: Options) -> Result<Arc<Self>, NodeError> {
        let node = Self::open_on(disk, options)?;
        node.start_threads()?;
        Ok(node)
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
        let accounts = Accounts::new(&definitions, options.loopback_users)?;
        let registry = Registry::new(definitions.next_queue_id, gone_queues);
        let body_cache_bytes = options.store.body_cache_bytes;
        let engine =
            Engine::new(store, ledger, registry, options.clock, options.limits, body_cache_bytes);
        startup::restore(&engine, &definitions, queues);
        // Maintenance looks a moment after the start; by then a fast publisher has filled a small disk.
        engine.store.look_at_disk();
        let node = Arc::new(Self {
            writer: Arc::new(LedgerWriter::new(&engine, ledger_applied)),
            maintenance: Arc::new(Maintenance::new(&engine)),
            engine,
            accounts,
            by_id_turns: OneAtATime::default(),
            recovered: summary,
            threads: Mutex::default(),
            lock: Mutex::new(Rank::Leaf, lock),
        });
        if definitions.vhosts.is_empty() && definitions.users.is_empty() {
            node.add_defaults()?;
        }
        node.writer.catch_up()?;
        node.engine.tell_orphans(orphans)?;
        Ok(node)
    }

    fn start_threads(&self) -> Result<(), NodeError> {
        self.engine.store.expect_committer();
        let (engine, writer) = (Arc::clone(&self.engine), Arc::clone(&self.writer));
        let maintenance = Arc::clone(&self.maintenance);
        let threads = Threads {
            committer: spawn("wilco-committer", move || engine.store.run_committer())?,
            ledger_writer: spawn("wilco-ledger", move || writer.run())?,
            maintenance: spawn("wilco-maintenance", move || maintenance.run())?,
        };
        *self.threads.lock() = Some(threads);
        Ok(())
    }

    /// Writes and syncs what is left, stops the threads, and lets go of the store: whoever still has a handle
    /// changes nothing in it any more, and it can be opened again. Sessions should be closed before.
    pub fn close(&self) {
        let engine = &self.engine;
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            // The committer still writes what maintenance appends, and the ledger writer follows
            // that.
            join(threads.maintenance, || engine.deadlines.close());
            join(threads.committer, || engine.store.close());
            join(threads.ledger_writer, || engine.store.committed_records.close());
        }
        if let Err(error) = engine.store.apply_definitions() {
            tracing::error!("the definitions stay in the log until the next start: {error}");
        }
        self.writer.close();
        engine.store.close_definitions();
        *self.lock.lock() = None;
    }

    /// Makes everything appended so far durable. Only for a node without threads.
    ///
    /// # Errors
    /// [`NodeError::Poisoned`], and errors of the disk. `Ok(false)`: not now, for there is no room
    /// on the disk.
    pub fn commit(&self) -> Result<bool, NodeError> {
        Ok(self.engine.store.commit()? == Commit::Done)
    }

    /// Does what is due now. Only for a node without threads.
    pub fn maintain(&self) {
        self.engine.look_at_due_queues();
        self.maintenance.round();
        self.writer.follow(true);
    }

    /// Does what is due now: for whoever moves the clock by hand, since the threads wait by the system's.
    pub fn time_has_passed(&self) {
        self.engine.look_at_due_queues();
        self.engine.expire_held_confirms();
    }

    /// Opens a session for a user for whom the caller vouches, whoever is called that now.
    ///
    /// # Errors
    /// `NOT_ALLOWED` when there is no such user or virtual host, or the user may not enter it.
    pub fn open_session(
        &self,
        vhost: &str,
        user: &str,
        sink: Box<dyn Sink>,
    ) -> Result<Session, BrokerError> {
        let unknown = || BrokerError::not_allowed(format!("there is no user '{user}'"));
        self.open_session_as(vhost, &self.identity(user).ok_or_else(unknown)?, sink)
    }

    /// Opens a session for a user that has been authenticated ([`Node::log_in`]). When the user or its
    /// virtual host is deleted, or the user may no longer enter it, the session's outbox is woken and
    /// [`Session::check_not_ended`] fails: its owner must close it.
    ///
    /// # Errors
    /// `NOT_ALLOWED` when there is no such virtual host or the user may not enter it.
    pub fn open_session_as(
        &self,
        vhost: &str,
        who: &Identity,
        sink: Box<dyn Sink>,
    ) -> Result<Session, BrokerError> {
        self.open_counted(vhost, who, sink, None)
    }

    /// The same for a client's own connection: a user may have only so many
    /// ([`Limits::connections_per_user_max`](crate::Limits::connections_per_user_max)).
    ///
    /// # Errors
    /// As [`Node::open_session_as`], and `NOT_ALLOWED` when it has that many.
    pub fn open_connection(
        &self,
        vhost: &str,
        who: &Identity,
        sink: Box<dyn Sink>,
    ) -> Result<Session, BrokerError> {
        let max = self.engine.limits.connections_per_user_max;
        self.open_counted(vhost, who, sink, Some(max))
    }

    fn open_counted(
        &self,
        vhost: &str,
        who: &Identity,
        sink: Box<dyn Sink>,
        connections_max: Option<usize>,
    ) -> Result<Session, BrokerError> {
        let (access, named) = (&self.accounts.access, (vhost, who));
        let is_current = || self.accounts.is_current(who);
        Session::open(&self.engine, access, named, sink, connections_max, is_current)
    }

    /// Has somebody answer the questions that clients publish to `amq.wilco.query`. Counts once; without
    /// it, they are told that nobody does.
    pub fn answer_queries(&self, queries: Arc<dyn Queries>) {
        let _ = self.engine.queries.set(queries);
    }

    /// What was found in the store at the start.
    pub fn recovered(&self) -> &RecoverySummary {
        &self.recovered
    }

    /// The number of messages in queues, ready and unsettled.
    pub fn message_count(&self) -> u64 {
        let queues = self.engine.registry.all_queues();
        let depths = queues.iter().map(|queue| queue.state.lock().core.depth());
        depths.map(|depth| depth.ready_count + depth.unsettled_count + depth.delayed_count).sum()
    }

    /// Whether everything that has come to pass is in the queues, and nothing on its way between them. No
    /// session may be at work meanwhile.
    pub fn is_settled_down(&self) -> bool {
        self.engine.is_settled_down()
    }

    /// Of these, how many nobody gets for now: they wait for their time, or their queue has no consumer.
    pub fn unattended_message_count(&self) -> u64 {
        let queues = self.engine.registry.all_queues();
        let counts = queues.iter().map(|queue| {
            let state = queue.state.lock();
            let depth = state.core.depth();
            let ready_count = if depth.consumer_count > 0 { 0 } else { depth.ready_count };
            depth.delayed_count + ready_count
        });
        counts.sum()
    }

    /// The number of workers' reports that were ignored because their channels did not hold the
    /// message.
    pub fn ignored_report_count(&self) -> u64 {
        self.engine.outcomes.ignored_report_count()
    }

    /// The number of segment files of the message log.
    pub fn segment_count(&self) -> usize {
        self.engine.store.segment_count()
    }

    /// Whether publishers are being held, because too little disk or memory is left.
    pub fn holds_publishers(&self) -> bool {
        self.engine.holds_publishers()
    }

    /// Wakes every connection, to look at something that concerns them all.
    pub fn wake_connections(&self) {
        self.engine.registry.connections.wake_all();
    }

    /// The largest body a message may have, bytes.
    pub fn message_bytes_max(&self) -> u64 {
        self.engine.limits.message_bytes_max
    }
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NodeError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(life).map_err(NodeError::disk("start a thread"))
}

/// Makes a thread end and waits for that.
fn join(thread: JoinHandle<()>, end: impl FnOnce()) {
    end();
    if thread.join().is_err() {
        tracing::error!("a thread of the node panicked");
    }
}
