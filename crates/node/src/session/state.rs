//! The state of a session, which its verbs change, and what all of them ask.
//!
//! *Invariant:* a channel is in `channels` and in the outbox, or in neither.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use broker::BrokerError;

use super::channel::Channel;
use super::credit::Credit;
use super::failed::Failed;
use super::publishes::{Placed, PublishBatch};
use super::routes::RouteCache;
use super::settles::{PendingSettle, SettleBatch};
use super::traffic::TrafficNotes;
use super::worker_name::WorkerName;
use crate::auth::{Access, AccessTable, Identity};
use crate::engine::Engine;
use crate::registry::{Outbox, Owner, Seat, Unsettled, UserUse, Vhost, VhostState};
use crate::sink::Sink;
use crate::store::Waiter;

/// See the module's documentation.
pub struct Session {
    pub(super) engine: Arc<Engine>,
    pub(super) access: Arc<AccessTable>,
    pub(super) vhost: Arc<Vhost>,
    pub(super) user: Arc<str>,
    pub(super) outbox: Arc<Outbox>,
    /// The same as `outbox`, in the form that the store knows.
    pub(super) waiter: Arc<dyn Waiter>,
    /// Sorted, so that the same commands always do the same.
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) routes: RouteCache,
    pub(super) publishes: PublishBatch,
    pub(super) placed: Placed,
    pub(super) traffic: TrafficNotes,
    pub(super) credit: Credit,
    pub(super) settles: Vec<PendingSettle>,
    /// Questions that are not answered yet.
    pub(super) questions: Arc<AtomicUsize>,
    pub(super) failed: Failed,
    /// Memory for [`Session::flush`].
    pub(super) settle_batch: SettleBatch,
    pub(super) taken: Vec<Unsettled>,
    pub(super) barrier: u64,
    /// Something has been settled since the last reply that waited for it.
    pub(super) has_settled: bool,
    pub(super) has_published: bool,
    /// Memory used by what this client has begun and not finished, bytes.
    pub(super) unfinished_bytes: u64,
    /// The part of it used by messages whose bodies are still arriving.
    pub(super) under_way_bytes: u64,
    pub(super) notifies_cancel: bool,
    /// What its user takes of what all share.
    pub(super) user_use: Arc<UserUse>,
    /// Its place among the user's connections, until it is closed.
    pub(super) seat: Option<Seat>,
    pub(super) worker: WorkerName,
    /// Whether confirms are sent once the store has the message, whatever it or its queue asks.
    pub(super) confirms_when_stored: bool,
    /// Whether queues look for duplicates of its messages; if `None`, the messages say.
    pub(super) deduplicates: Option<bool>,
    /// Whether the user has the permission that outcome messages need, and as of which epoch.
    pub(super) may_be_notified_at: Option<(u64, bool)>,
}

impl Session {
    /// As [`Node::open_session_as`](crate::Node::open_session_as), for (virtual host, who).
    /// `connections_max` is set for a connection that counts: so many a user may have. `is_current`
    /// says whether the user still exists.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        access: &Arc<AccessTable>,
        (vhost, who): (&str, &Identity),
        sink: Box<dyn Sink>,
        connections_max: Option<usize>,
        is_current: impl FnOnce() -> bool,
    ) -> Result<Self, BrokerError> {
        let found = engine
            .registry
            .vhost(vhost)
            .ok_or_else(|| BrokerError::not_allowed(format!("vhost {vhost} not found")))?;
        let user = who.user();
        let owner = Owner {
            user: user.into(),
            incarnation: who.incarnation(),
            vhost: Arc::clone(&found.name),
        };
        let user_use = engine.registry.users.of(&owner.user);
        let sit_down = |max| {
            user_use.sit_down(max).ok_or_else(|| {
                let text = format!(
                    "connection refused for user '{user}': it has {max} already, as many as limits.connections_per_user_max allows"
                );
                BrokerError::not_allowed(text)
            })
        };
        let seat = connections_max.map(sit_down).transpose()?;
        let connections = &engine.registry.connections;
        let outbox = Arc::new(Outbox::new(
            connections.next_number(),
            owner,
            sink,
            connections.outbox_total(),
        ));
        // In this order: whoever takes something away ends all that are there by then.
        connections.add(&outbox);
        if !access.may_open(vhost, user) || !is_current() {
            connections.remove(&outbox);
            let text = format!("access to vhost '{vhost}' refused for user '{user}'");
            return Err(BrokerError::not_allowed(text));
        }
        Ok(Self {
            engine: Arc::clone(engine),
            access: Arc::clone(access),
            vhost: found,
            user: Arc::clone(&outbox.owner.user),
            waiter: Arc::clone(&outbox) as Arc<dyn Waiter>,
            worker: WorkerName::new(&outbox.owner.user),
            outbox,
            channels: BTreeMap::new(),
            routes: RouteCache::default(),
            publishes: PublishBatch::default(),
            placed: Placed::default(),
            traffic: TrafficNotes::default(),
            credit: Credit::default(),
            settles: Vec::new(),
            questions: Arc::default(),
            failed: Failed::default(),
            settle_batch: SettleBatch::default(),
            taken: Vec::new(),
            barrier: 0,
            has_settled: false,
            has_published: false,
            unfinished_bytes: 0,
            under_way_bytes: 0,
            notifies_cancel: true,
            user_use,
            seat,
            confirms_when_stored: false,
            deduplicates: None,
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

    /// Sets the client's own name, which outcomes show besides its user's. By default it is the user's.
    pub fn set_name(&mut self, name: &str) {
        self.worker.set(name);
    }

    /// From now on every confirm is sent once the store has the message, even if the message or its
    /// queue asks for one that waits for the worker (`x-confirm-on`).
    pub fn confirm_when_stored(&mut self) {
        self.confirms_when_stored = true;
    }

    /// Sets whether queues look for duplicates of what is published from now on, unless they say
    /// themselves. By default they do for messages that ask for their outcome.
    pub fn deduplicate(&mut self, looks: bool) {
        self.deduplicates = Some(looks);
    }

    /// Number of open channels.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Whether a channel is open.
    pub fn has_channel(&self, number: u16) -> bool {
        self.channels.contains_key(&number)
    }

    pub(super) fn channel(&mut self, number: u16) -> Result<&mut Channel, BrokerError> {
        self.channels
            .get_mut(&number)
            .ok_or_else(|| BrokerError::channel_error("expected 'channel.open'"))
    }

    /// Must be checked under the topology's write lock before anything in it is changed or logged.
    pub(super) fn check_not_deleted(&self, state: &VhostState) -> Result<(), BrokerError> {
        if state.is_deleted { Err(self.vhost_deleted()) } else { Ok(()) }
    }

    fn vhost_deleted(&self) -> BrokerError {
        let name = &self.vhost.name;
        BrokerError::connection_forced(format!("the virtual host '{name}' is deleted"))
    }

    /// Checks that it may go on: its user and its virtual host are still there, and the user may enter
    /// it.
    ///
    /// # Errors
    /// `CONNECTION_FORCED`.
    pub fn check_not_ended(&self) -> Result<(), BrokerError> {
        if !self.outbox.is_ended() {
            return Ok(());
        }
        self.check_not_deleted(&self.vhost.state.read())?;
        let (user, vhost) = (&self.user, &self.vhost.name);
        let text = format!("user '{user}' is deleted, or may no longer enter vhost '{vhost}'");
        Err(BrokerError::connection_forced(text))
    }

    pub(super) fn check(&self, access: Access, kind: &str, name: &str) -> Result<(), BrokerError> {
        self.check_not_deleted(&self.vhost.state.read())?;
        self.check_not_ended()?;
        if self.access.allow(&self.vhost.name, &self.user, access, name) {
            return Ok(());
        }
        let (access, vhost, user) = (access.name(), &self.vhost.name, &self.user);
        let shown = if name.is_empty() { "amq.default" } else { name };
        Err(BrokerError::access_refused(format!(
            "{access} access to {kind} '{shown}' in vhost '{vhost}' refused for user '{user}'"
        )))
    }
}
