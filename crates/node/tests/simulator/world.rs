//! The world of one history: the disk, the clock, the node, the clients, and the model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use node::clock::Clock;
use node::{Limits, Node, Options, Session, StoreOptions};
use segment_log::{Disk, FaultyDisk};

use crate::client::{Client, Promise, Unconfirmed};
use crate::model::{Cause, Model, State};
use crate::random::Random;
use crate::topology::{
    EXCHANGES, EXCLUSIVE, Kind, Name, PLAIN, QUEUES, QueueState, REPLIES, exchange_options,
};
use crate::wire::Recorder;

/// The time at which every history begins.
const START_MS: u64 = 1_000_000;

/// The clock of a simulated node.
#[derive(Default)]
pub(crate) struct VirtualClock(AtomicU64);

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl VirtualClock {
    pub(crate) fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

/// What happened, for whoever has to read about a failure.
pub(crate) type Story = Arc<Mutex<String>>;

/// See the module's documentation.
pub(crate) struct World {
    pub random: Random,
    story: Story,
    pub disk: FaultyDisk,
    pub clock: Arc<VirtualClock>,
    pub options: Options,
    pub node: Option<Arc<Node>>,
    pub clients: Vec<Client>,
    /// A session that only looks.
    pub monitor: Option<Session>,
    pub model: Model,
    /// The kind of each shared queue whenever it exists.
    pub kinds: BTreeMap<Name, Kind>,
    /// Commits and rounds of maintenance since the beginning.
    pub commit_count: u64,
    pub is_poisoned: bool,
    /// Whether a fault that may poison the store was injected, or was there when it was opened.
    pub is_faulty: bool,
    pub is_capacity_limited: bool,
    /// The queue of the current `basic.get`, and whether that is without acks.
    pub getting: Option<(Name, bool)>,
    pub next_id: u64,
    /// Whether confirms that come too early are noticed at once, or only by what a crash loses.
    pub checks_due: bool,
}

/// Options for a node on a disk with segments of this size.
pub(crate) fn options(clock: Arc<VirtualClock>, segment_bytes: u64, cache_bytes: u64) -> Options {
    Options {
        store: StoreOptions {
            segment_bytes_max: segment_bytes,
            body_cache_bytes: cache_bytes,
            disk_free_bytes_min: 0,
            relaxed: false,
            ..StoreOptions::default()
        },
        limits: Limits { memory_bytes_max: u64::MAX, ..Limits::default() },
        clock,
        ..Options::default()
    }
}

/// The disk of a node that was opened once: hashing the guest's password takes time.
static NEW_STORE: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let disk = FaultyDisk::new(0);
    let clock = Arc::new(VirtualClock::default());
    let node = Node::open_on(disk.clone(), options(clock, 4096, 0)).expect("an empty disk");
    let sink = Box::new(Recorder::default());
    let mut session = node.open_session("/", "guest", sink).expect("guest may");
    session.declare_queue(REPLIES, &PLAIN.options(false)).expect("a new name");
    drop(session);
    node.commit().expect("a disk without faults");
    node.maintain();
    drop(node);
    image(&disk)
});

/// The contents of a disk.
pub(crate) fn image(disk: &FaultyDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().expect("the disk is up");
    let contents = |name: String| {
        let contents = disk.contents(&name).expect("listed");
        (name, contents)
    };
    names.into_iter().map(contents).collect()
}

/// A disk with these contents.
pub(crate) fn disk_with(seed: u64, image: &[(String, Vec<u8>)]) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    image.iter().for_each(|(name, contents)| disk.put(name, contents));
    disk
}

impl World {
    pub(crate) fn new(seed: u64, story: Story) -> Self {
        let mut random = Random::new(seed);
        let clock = Arc::new(VirtualClock::default());
        clock.set(START_MS);
        let segment_bytes = random.pick(&[1024, 2048, 4096, 8192]);
        let cache_bytes = random.pick(&[0, 0, 2000, 1 << 20, 1 << 20]);
        let kinds = QUEUES.into_iter().map(|name| (name, Kind::random(&mut random, name)));
        let kinds = kinds.chain([(REPLIES, PLAIN)]).collect();
        let mut world = Self {
            kinds,
            random,
            story,
            disk: disk_with(seed, &NEW_STORE),
            options: options(Arc::clone(&clock), segment_bytes, cache_bytes),
            clock,
            node: None,
            clients: Vec::new(),
            monitor: None,
            model: Model { now_ms: START_MS, ..Model::default() },
            commit_count: 0,
            is_poisoned: false,
            is_faulty: false,
            is_capacity_limited: false,
            getting: None,
            next_id: 1,
            checks_due: std::env::var_os("SIM_NO_DUE").is_none(),
        };
        world.model.kinds = world.kinds.clone();
        let replies = QueueState {
            kind: PLAIN,
            owner: None,
            is_stored: true,
            emptied_at_step: 0,
            last_used_ms: START_MS,
            consumers: Vec::new(),
        };
        world.model.topology.queues.insert(REPLIES, replies);
        world.note(|| format!("segments of {segment_bytes} bytes, {cache_bytes} bytes of cache"));
        for (name, kind) in &world.kinds {
            world.note(|| format!("{name} is {kind:?}"));
        }
        world.open().expect("a disk without faults");
        world.declare_exchanges();
        for _ in 0..6 {
            world.declare_queue();
            world.bind();
        }
        world
    }

    /// Adds a line to the story.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let mut story = self.story.lock().expect("a thread of its own");
        let _ = writeln!(story, "{:>4} {}", self.model.step, line());
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(self.node.as_ref().expect("the node is open"))
    }

    /// Opens the node on the disk in its current state.
    pub(crate) fn open(&mut self) -> Result<(), node::NodeError> {
        let node = Node::open_on(self.disk.clone(), self.options.clone())?;
        let sink = Box::new(Recorder::default());
        self.monitor = Some(node.open_session("/", "guest", sink).expect("guest may"));
        self.node = Some(node);
        Ok(())
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether everything appended is durable; the store may have failed.
    pub(crate) fn is_settled(&mut self) -> bool {
        match self.monitor.as_ref().expect("open").is_settled_in_store() {
            Ok(settled) => settled,
            Err(_) => {
                self.look_for_poison();
                false
            }
        }
    }

    /// A failed store tells everybody who waits for it.
    fn look_for_poison(&mut self) {
        if self.monitor.as_ref().expect("open").is_durable(u64::MAX).is_err() {
            assert!(self.is_faulty, "the store failed without a fault");
            self.is_poisoned = true;
        }
    }

    /// Makes the node write and sync.
    pub(crate) fn commit(&mut self) {
        self.commit_count += 1;
        let result = self.node().commit();
        self.note(|| format!("commit: {result:?}"));
        match result {
            Ok(true) => {}
            Ok(false) => assert!(self.is_capacity_limited, "a full disk without a limit"),
            Err(error) => {
                assert!(self.is_faulty, "the store failed without a fault: {error}");
                self.look_for_poison();
                assert!(self.is_poisoned, "the store failed and lets its users wait for ever");
            }
        }
        self.after_sync();
    }

    /// Makes a round of maintenance.
    pub(crate) fn maintain(&mut self) {
        self.commit_count += 1;
        self.note(|| "keep".to_owned());
        self.return_overdue();
        self.node().maintain();
        self.look_for_expired_queues();
        self.absorb();
        self.after_sync();
    }

    /// Tells the model and the clients what is durable now.
    fn after_sync(&mut self) {
        self.look_for_poison();
        let is_settled = self.is_settled();
        if is_settled {
            self.model.store_all();
        }
        for index in 0..self.clients.len() {
            self.clients[index].session.release_confirms();
        }
        self.absorb();
        self.poll_replies();
        if is_settled && !self.is_poisoned {
            let channels = self.clients.iter().flat_map(|client| client.channels.values());
            for confirms in channels.filter_map(|channel| channel.confirms.as_ref()) {
                let is_due = |one: &&Unconfirmed| {
                    one.held_until_ms.is_none()
                        || one.message.is_some_and(|m| self.model.is_settled(m))
                };
                let waiting: Vec<_> = confirms.waiting.values().filter(is_due).collect();
                assert!(waiting.is_empty(), "all is stored and not confirmed: {waiting:?}");
            }
        }
        if self.disk.list().is_err() {
            self.crash();
        }
    }

    /// Checks which replies are due.
    fn poll_replies(&mut self) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let mut due = Vec::new();
            let mut waiting = std::mem::take(&mut client.waiting);
            waiting.retain(|(position, promise)| match client.session.is_durable(*position) {
                Ok(true) => {
                    due.push(promise.clone());
                    false
                }
                Ok(false) => true,
                Err(_) => {
                    assert!(self.is_poisoned, "the store failed without a fault");
                    true
                }
            });
            client.waiting = waiting;
            due.into_iter().for_each(|promise| self.keep_promise(promise));
        }
    }

    /// Something durable was asked for: its reply is due now or later.
    pub(crate) fn promise(&mut self, index: usize, promise: Promise) {
        match self.clients[index].session.barrier() {
            Some(position) => self.clients[index].waiting.push((position, promise)),
            None => self.keep_promise(promise),
        }
    }

    fn keep_promise(&mut self, promise: Promise) {
        let topology = &mut self.model.topology;
        match promise {
            Promise::QueueDeclared(name) => {
                if let Some(queue) = topology.queues.get_mut(name) {
                    queue.is_stored = queue.is_durable();
                }
            }
            Promise::QueueDeleted(name) => {
                topology.doubtful_queues.remove(name);
            }
            Promise::Removed(keys) => {
                for key in keys {
                    let state = self.model.items.get_mut(&key).map(|item| &mut item.state);
                    if let Some(State::Gone { cause: Cause::Removed, is_stored }) = state {
                        *is_stored = true;
                    }
                }
            }
            Promise::ExchangeDeclared(name) => {
                if let Some(stored) = topology.exchanges.get_mut(name) {
                    *stored = crate::topology::is_durable_exchange(name);
                }
            }
            Promise::ExchangeDeleted(name) => {
                topology.doubtful_exchanges.remove(name);
            }
            Promise::Bound(binding) => {
                let is_durable = crate::topology::is_durable_exchange(binding.0)
                    && topology.queues.get(binding.1).is_some_and(|queue| queue.is_durable());
                if let Some(stored) = topology.bindings.get_mut(&binding) {
                    *stored = is_durable;
                }
            }
            Promise::Unbound(binding) => {
                topology.doubtful_bindings.remove(&binding);
            }
            Promise::Committed(group) => self.promise_group(group),
        }
    }

    fn promise_group(&mut self, group: usize) {
        let Some(group) = self.model.groups.get_mut(group) else { return };
        group.is_stored = true;
        let (published, settled) = (group.published.clone(), group.settled.clone());
        for key in published {
            let is_durable = self.model.is_durable(&key);
            if let Some(item) = self.model.items.get_mut(&key) {
                item.is_stored |= is_durable && !item.is_doubtful();
            }
        }
        for (key, _) in settled {
            if let Some(item) = self.model.items.get_mut(&key)
                && let State::Gone { is_stored, .. } = &mut item.state
            {
                *is_stored = true;
            }
        }
    }

    pub(crate) fn declare_exchanges(&mut self) {
        let index = self.connect();
        for (name, kind, durable) in EXCHANGES {
            let session = &mut self.clients[index].session;
            session.declare_exchange(name, kind, &exchange_options(durable)).expect("a new name");
            self.model.topology.exchanges.insert(name, false);
            self.promise(index, Promise::ExchangeDeclared(name));
        }
    }

    /// Opens a connection.
    pub(crate) fn connect(&mut self) -> usize {
        let sink = Box::new(Recorder::default());
        let session = self.node().open_session("/", "guest", sink).expect("guest may");
        let id = self.id();
        self.note(|| format!("c{id} connects"));
        let is_free = |name: &&Name| self.clients.iter().all(|client| client.own_queue != **name);
        let own_queue = EXCLUSIVE.iter().find(is_free).expect("one per client");
        self.clients.push(Client {
            id,
            own_queue,
            session,
            channels: Default::default(),
            waiting: Vec::new(),
            returns: Default::default(),
            cancels: Vec::new(),
        });
        self.clients.len() - 1
    }
}
