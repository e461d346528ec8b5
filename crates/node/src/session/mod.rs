//! A session: what one connection does in one virtual host, as one user.
//!
//! The owner (a connection's task, an embedding program) calls methods with channel numbers, which
//! return their answers; events that happen by themselves go to its [`Sink`], through its
//! [`Outbox`]. Publishes and settlements are gathered and take effect with [`Session::flush`], a
//! batch at a time; every other method first makes them take effect. Each of their errors is
//! reported once (module `failed`). A method whose effect must be durable before it is answered
//! leaves a [`Session::barrier`].
//!
//! Never here: sockets, frames, AMQP's methods, async. Errors are [`BrokerError`]s, with AMQP's
//! reply code and text.

mod channel;
mod confirms;
mod consume;
mod failed;
mod headers;
mod publish;
mod reports;
mod routes;
mod settle;
mod topology;
mod tracking;
mod transactions;
mod unfinished;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use amqp::ReplyCode;
use broker::BrokerError;

use crate::auth::{Access, AccessTable};
use crate::engine::Engine;
use crate::registry::{ChannelOutbox, Outbox, Unsettled, Vhost, VhostState};
use crate::sink::Sink;
use crate::store::Waiter;
use channel::Channel;
use failed::Failed;
use publish::PublishBatch;
use routes::RouteCache;
use settle::{PendingSettle, Resolved};

pub use consume::{Consume, Consuming};
pub use failed::ChannelError;
pub use publish::{Placed, Publish};
pub use topology::{DeclareExchange, DeclareQueue, QueueDeclared};

/// See the module's documentation.
pub struct Session {
    engine: Arc<Engine>,
    access: Arc<AccessTable>,
    vhost: Arc<Vhost>,
    user: String,
    outbox: Arc<Outbox>,
    /// The same as `outbox`, in the form that the store knows.
    waiter: Arc<dyn Waiter>,
    /// Sorted, so that the same commands always do the same.
    channels: BTreeMap<u16, Channel>,
    routes: RouteCache,
    publishes: PublishBatch,
    placed: Placed,
    settles: Vec<PendingSettle>,
    failed: Failed,
    /// Memory for [`Session::flush`].
    resolved: Vec<Resolved>,
    taken: Vec<Unsettled>,
    barrier: u64,
    has_published: bool,
    /// Memory used by what this client has begun and not finished, bytes.
    unfinished_bytes: u64,
    /// The part of it used by messages whose bodies are still arriving.
    under_way_bytes: u64,
    notifies_cancel: bool,
    /// What its workers are called: this name and the tag of the consumer.
    name: String,
    /// The epoch in which the user was last found to have the permissions that outcome messages
    /// need.
    may_be_notified_at: Option<u64>,
}

impl Session {
    /// As [`Node::open_session`](crate::Node::open_session), for (virtual host, user).
    pub(crate) fn open(
        engine: &Arc<Engine>,
        access: &Arc<AccessTable>,
        (vhost, user): (&str, &str),
        sink: Box<dyn Sink>,
    ) -> Result<Self, BrokerError> {
        let found = engine
            .registry
            .vhost(vhost)
            .ok_or_else(|| BrokerError::not_allowed(format!("vhost {vhost} not found")))?;
        if !access.may_open(vhost, user) {
            let text = format!("access to vhost '{vhost}' refused for user '{user}'");
            return Err(BrokerError::not_allowed(text));
        }
        let connections = &engine.registry.connections;
        let outbox = Arc::new(Outbox::new(connections.next_number(), sink));
        connections.add(&outbox);
        Ok(Self {
            engine: Arc::clone(engine),
            access: Arc::clone(access),
            vhost: found,
            user: user.to_owned(),
            waiter: Arc::clone(&outbox) as Arc<dyn Waiter>,
            outbox,
            channels: BTreeMap::new(),
            routes: RouteCache::default(),
            publishes: PublishBatch::default(),
            placed: Placed::default(),
            settles: Vec::new(),
            failed: Failed::default(),
            resolved: Vec::new(),
            taken: Vec::new(),
            barrier: 0,
            has_published: false,
            unfinished_bytes: 0,
            under_way_bytes: 0,
            notifies_cancel: true,
            name: user.to_owned(),
            may_be_notified_at: None,
        })
    }

    /// The largest body a message may have, bytes.
    pub fn message_bytes_max(&self) -> u64 {
        self.engine.limits.message_bytes_max
    }

    /// Where things for this session arrive.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Sets whether the client understands `basic.cancel` from the server. By default it does.
    pub fn set_notifies_cancel(&mut self, notifies: bool) {
        self.notifies_cancel = notifies;
    }

    /// Sets the name of this client as a worker of messages. By default it is the user's name.
    pub fn set_name(&mut self, name: &str) {
        self.name = name[..name.floor_char_boundary(128)].to_owned();
    }

    /// Number of open channels.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Whether a channel is open.
    pub fn has_channel(&self, number: u16) -> bool {
        self.channels.contains_key(&number)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when it is open already.
    pub fn open_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        if self.has_channel(number) {
            return Err(BrokerError::channel_error("second 'channel.open' seen"));
        }
        let serial = self.engine.registry.connections.next_serial();
        self.channels.insert(number, Channel::new(serial));
        let opened = ChannelOutbox { serial, ..ChannelOutbox::default() };
        self.outbox.lock().channels.insert(number, opened);
        Ok(())
    }

    /// Closes a channel: its consumers are cancelled, and its unsettled messages go back to their
    /// queues.
    ///
    /// # Errors
    /// The errors on it that have not been reported yet. It is closed all the same.
    pub fn close_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        self.carry_out();
        let told = self.failed.tell(number);
        let Some(mut channel) = self.channels.remove(&number) else { return told };
        channel.reports.values().for_each(|report| self.forget_report(report));
        // All of them at once, so that messages one gives back are not assigned to the next, over
        // and over.
        channel.cancel_consumers();
        let left = self.outbox.lock().channels.remove(&number);
        // What an uncommitted transaction was to settle goes back, too.
        let gathered = channel.transaction.take().unwrap_or_default();
        self.give_back_memory(gathered.bytes);
        self.drop_consumers(channel);
        if let Some(left) = left {
            self.requeue_all(left, gathered.settles);
        }
        told
    }

    /// Closes everything; exclusive queues are deleted. Returns errors that have not been reported
    /// yet.
    pub fn close(&mut self) -> Vec<ChannelError> {
        // First of all, so that what one channel gives back does not go to another.
        self.channels.values().for_each(Channel::cancel_consumers);
        let errors = self.flush();
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            // Nothing has been gathered since.
            let told = self.close_channel(number);
            debug_assert!(told.is_ok(), "{told:?}");
        }
        self.give_back_unfinished(self.unfinished_bytes);
        self.engine.registry.connections.remove(&self.outbox);
        self.delete_exclusive_queues();
        errors
    }

    /// The position up to which the store must be durable before the current reply may go out.
    /// Returns it once.
    pub fn barrier(&mut self) -> Option<u64> {
        let barrier = std::mem::take(&mut self.barrier);
        (barrier > self.engine.store.durable()).then_some(barrier)
    }

    /// Has the outbox woken when `position` is durable. `Ok(true)`: it is durable already.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the store has failed, so that it never will be.
    pub fn is_durable(&self, position: u64) -> Result<bool, BrokerError> {
        let reached = self.engine.store.wait_for(position, &self.waiter);
        if reached && self.engine.store.durable() < position {
            return Err(store_failed());
        }
        Ok(reached)
    }

    /// Checks that the store still makes things durable.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when it has failed.
    pub(crate) fn check_store(&self) -> Result<(), BrokerError> {
        if self.engine.store.is_poisoned() { Err(store_failed()) } else { Ok(()) }
    }

    /// Whether everything that this session appended is durable; if not, the outbox is woken when
    /// it is.
    ///
    /// # Errors
    /// As [`Session::is_durable`].
    pub fn is_settled_in_store(&self) -> Result<bool, BrokerError> {
        let ((), end) = self.engine.store.append(None, |_| ());
        self.is_durable(end)
    }

    /// Whether publishing on this session is held: it publishes, and the node is short of disk or
    /// memory. This is what to tell its client; [`Session::poll_ready`] says whether to take in
    /// more.
    pub fn is_held(&self) -> bool {
        self.has_published && self.engine.holds_publishers()
    }

    /// From now on this session counts as one that publishes.
    pub(crate) fn will_publish(&mut self) {
        self.has_published = true;
    }

    /// Whether [`Session::poll_ready`] would be ready.
    pub fn is_ready(&self) -> bool {
        !self.must_pause() && self.engine.store.has_room()
    }

    /// It publishes, or has an incomplete message, while publishers are held.
    fn must_pause(&self) -> bool {
        (self.has_published || self.under_way_bytes > 0) && self.engine.holds_publishers()
    }

    /// Ready when this session may take in more: publishers are not held, or it neither publishes
    /// nor has an incomplete message; and not too much waits to be written. Otherwise the task is
    /// woken when it is worth asking again.
    ///
    /// Whoever feeds a session must ask this first, or its messages pile up in memory.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.outbox.register(cx.waker());
        // A change before the waker was registered did not wake this task.
        if self.must_pause() {
            return Poll::Pending;
        }
        if self.engine.store.has_room() {
            return Poll::Ready(());
        }
        self.engine.store.append(Some(&self.waiter), |_| ());
        Poll::Pending
    }

    /// Must be called when the outbox has been written: consumers that waited for room may go on.
    pub fn after_write(&mut self, written_bytes: usize) {
        self.outbox.written(written_bytes);
        if self.outbox.take_stalled() {
            self.give_room();
        }
        if self.outbox.take_has_prefetch_left() {
            self.give_prefetch(None);
        }
    }

    fn channel(&mut self, number: u16) -> Result<&mut Channel, BrokerError> {
        self.channels
            .get_mut(&number)
            .ok_or_else(|| BrokerError::channel_error("expected 'channel.open'"))
    }

    /// Must be checked under the topology's write lock before anything in it is changed or logged.
    fn check_not_deleted(&self, state: &VhostState) -> Result<(), BrokerError> {
        if state.is_deleted { Err(self.vhost_deleted()) } else { Ok(()) }
    }

    fn vhost_deleted(&self) -> BrokerError {
        let name = &self.vhost.name;
        BrokerError::connection_forced(format!("the virtual host '{name}' is deleted"))
    }

    fn check(&self, access: Access, kind: &str, name: &str) -> Result<(), BrokerError> {
        self.check_not_deleted(&self.vhost.state.read())?;
        if self.access.allow(&self.vhost.name, &self.user, access, name) {
            return Ok(());
        }
        let (access, vhost, user) = (access.name(), &self.vhost.name, &self.user);
        let shown = if name.is_empty() { "amq.default" } else { name };
        Err(BrokerError::access_refused(format!(
            "{access} access to {kind} '{shown}' in vhost '{vhost}' refused for user '{user}'"
        )))
    }

    /// Notes that the next reply must wait for this position.
    fn wait_until_durable(&mut self, position: u64) {
        self.barrier = self.barrier.max(position);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (channel, error) in self.close() {
            tracing::debug!(channel, "nobody is left to be told: {error}");
        }
    }
}

fn store_failed() -> BrokerError {
    BrokerError::internal_error(
        "the store failed and confirms nothing more; the server must be restarted",
    )
}

/// `basic.return`'s code and text for a message that reached no queue.
const NO_ROUTE: (ReplyCode, &str) = (ReplyCode::NoRoute, "NO_ROUTE");
