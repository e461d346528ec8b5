//! The state of a session, which its verbs change, and what all of them ask.
//!
//! *Invariant:* a channel is in `channels` and in the outbox, or in neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::BrokerError;

use super::channel::Channel;
use super::failed::Failed;
use super::publishes::{Placed, PublishBatch};
use super::routes::RouteCache;
use super::settles::{PendingSettle, SettleBatch};
use crate::auth::{Access, AccessTable};
use crate::engine::Engine;
use crate::registry::{Outbox, Unsettled, Vhost, VhostState};
use crate::sink::Sink;
use crate::store::Waiter;

/// See the module's documentation.
pub struct Session {
    pub(super) engine: Arc<Engine>,
    pub(super) access: Arc<AccessTable>,
    pub(super) vhost: Arc<Vhost>,
    pub(super) user: String,
    pub(super) outbox: Arc<Outbox>,
    /// The same as `outbox`, in the form that the store knows.
    pub(super) waiter: Arc<dyn Waiter>,
    /// Sorted, so that the same commands always do the same.
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) routes: RouteCache,
    pub(super) publishes: PublishBatch,
    pub(super) placed: Placed,
    pub(super) settles: Vec<PendingSettle>,
    pub(super) failed: Failed,
    /// Memory for [`Session::flush`].
    pub(super) settle_batch: SettleBatch,
    pub(super) taken: Vec<Unsettled>,
    pub(super) barrier: u64,
    pub(super) has_published: bool,
    /// Memory used by what this client has begun and not finished, bytes.
    pub(super) unfinished_bytes: u64,
    /// The part of it used by messages whose bodies are still arriving.
    pub(super) under_way_bytes: u64,
    pub(super) notifies_cancel: bool,
    /// What its workers are called: this name and the tag of the consumer.
    pub(super) name: String,
    /// The epoch in which the user was last found to have the permissions that outcome messages
    /// need.
    pub(super) may_be_notified_at: Option<u64>,
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
            settle_batch: SettleBatch::default(),
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

    pub(super) fn check(&self, access: Access, kind: &str, name: &str) -> Result<(), BrokerError> {
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
}
