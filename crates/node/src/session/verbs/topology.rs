//! Declaring, binding, deleting and purging.

use std::sync::Arc;

use amqp::FieldTable;
use broker::exchange::ExchangeKind;
use broker::queue::Depth;
use broker::topology::{
    Declared, Destination, ExchangeDeclaration, QueueDeclaration, Removal, Topology,
};
use broker::{BrokerError, QueueId};

use crate::auth::Access;
use crate::definitions::{Change, convert};
use crate::names::REPLY_TO;
use crate::registry::{ConsumerEndpoint, LiveQueue};
use crate::session::state::Session;

/// What `queue.declare` asks for.
#[derive(Debug, Clone, Default)]
pub struct DeclareQueue {
    /// Only check whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this connection and is deleted with it.
    pub exclusive: bool,
    /// Is deleted with its last consumer.
    pub auto_delete: bool,
    /// `x-` arguments.
    pub arguments: FieldTable,
}

/// What `queue.declare` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Its name; chosen by the server if none was given.
    pub name: String,
    /// The number of ready messages.
    pub message_count: u32,
    /// The number of consumers.
    pub consumer_count: u32,
}

/// What `queue.delete` answers. The session's own consumers of the queue are told when this is dropped:
/// a client expects the answer first.
#[derive(Default)]
pub struct QueueDeleted {
    /// The number of ready messages it had.
    pub message_count: u32,
    consumers: Vec<ConsumerEndpoint>,
}

impl Drop for QueueDeleted {
    fn drop(&mut self) {
        self.consumers.iter().for_each(|consumer| consumer.tell_cancelled());
    }
}

/// What `exchange.declare` asks for.
#[derive(Debug, Clone, Default)]
pub struct DeclareExchange {
    /// Only check whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted with its last binding.
    pub auto_delete: bool,
    /// Only other exchanges may publish to it.
    pub internal: bool,
    /// `alternate-exchange`.
    pub arguments: FieldTable,
}

impl Session {
    /// `queue.declare`.
    ///
    /// # Errors
    /// `NOT_FOUND` (passive), `ACCESS_REFUSED`, `RESOURCE_LOCKED`, `PRECONDITION_FAILED`.
    pub fn declare_queue(
        &mut self,
        name: &str,
        options: &DeclareQueue,
    ) -> Result<QueueDeclared, BrokerError> {
        self.carry_out();
        // Clients probe for direct reply-to by declaring its pseudo queue, passively or not.
        if name == REPLY_TO || (name.starts_with(REPLY_TO) && self.has_reply_consumer(name)) {
            let name = name.to_owned();
            return Ok(QueueDeclared { name, message_count: 0, consumer_count: 1 });
        }
        if options.passive {
            let live = self.live_queue(name)?;
            return self.declared(&live);
        }
        let server_named = name.is_empty();
        let name = match server_named {
            true => {
                let (connection, serial) =
                    (self.outbox.connection, self.engine.registry.connections.next_serial());
                let token = crate::auth::random_token()
                    .unwrap_or_else(|_| format!("{connection:x}-{serial:x}"));
                format!("amq.gen-{token}")
            }
            false => name.to_owned(),
        };
        self.check(Access::Configure, "queue", &name)?;
        self.check_dead_letter_access(&name, options)?;
        let declaration = QueueDeclaration {
            id: self.queue_id_for(&name)?,
            name: &name,
            server_named,
            durable: options.durable,
            exclusive: options.exclusive,
            auto_delete: options.auto_delete,
            arguments: options.arguments.clone(),
            connection: self.outbox.connection,
        };
        let now_ms = self.engine.now_ms();
        let live = {
            let vhost = Arc::clone(&self.vhost);
            let mut state = vhost.state.write();
            self.check_not_deleted(&state)?;
            let state = &mut *state;
            match state.topology.declare_queue(declaration)? {
                Declared::Existing(definition) => state.queues.get(&definition.id).cloned(),
                Declared::Created(definition) => {
                    let live = LiveQueue::new(definition, &vhost, now_ms);
                    let live = Arc::new(match options.exclusive {
                        true => live.seen_by(self.reader()),
                        false => live,
                    });
                    if live.durable {
                        let queue = convert::stored_queue(definition);
                        self.append_change(Change::QueuePut {
                            vhost: vhost.name.to_string(),
                            queue,
                        });
                    }
                    state.queues.insert(live.id, Arc::clone(&live));
                    vhost.changed();
                    Some(live)
                }
            }
        };
        match live {
            Some(live) => self.declared(&live),
            None => Err(self.vhost.state.read().topology.no_queue(&name)),
        }
    }

    /// `queue.delete`. A queue that does not exist is not an error.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`, `RESOURCE_LOCKED`, `PRECONDITION_FAILED` when in use or not empty.
    pub fn delete_queue(
        &mut self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<QueueDeleted, BrokerError> {
        self.carry_out();
        self.check(Access::Configure, "queue", name)?;
        if self.vhost.state.read().topology.queue_named(name).is_none() {
            return Ok(QueueDeleted::default());
        }
        let live = self.live_queue(name)?;
        let mut depth = Depth::default();
        let deleted = self.engine.delete_live_queue_if(&live, |core| {
            depth = core.depth();
            let waiting_count = depth.ready_count + depth.delayed_count;
            !(if_unused && depth.consumer_count > 0 || if_empty && waiting_count > 0)
        });
        let Some(deleted) = deleted else {
            let state = self.vhost.state.read();
            let is_empty = depth.ready_count + depth.delayed_count == 0;
            return match (if_unused && depth.consumer_count > 0, !is_empty) {
                (true, _) => Err(state.topology.queue_in_use(name)),
                (false, true) => Err(state.topology.queue_not_empty(name)),
                // Somebody else was faster.
                (false, false) => Ok(QueueDeleted::default()),
            };
        };
        self.wait_until_durable(deleted.end);
        let is_own = |consumer: &ConsumerEndpoint| Arc::ptr_eq(&consumer.outbox, &self.outbox);
        let (own, others): (Vec<_>, Vec<_>) = deleted.consumers.into_iter().partition(is_own);
        others.iter().for_each(|consumer| consumer.tell_cancelled());
        Ok(QueueDeleted { message_count: clamped(deleted.ready_count), consumers: own })
    }

    /// `queue.purge`; returns the number of messages removed.
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED`, `RESOURCE_LOCKED`.
    pub fn purge_queue(&mut self, name: &str) -> Result<u32, BrokerError> {
        self.carry_out();
        self.check(Access::Read, "queue", name)?;
        let live = self.live_queue(name)?;
        let now_ms = self.engine.now_ms();
        let purged = self.engine.with_queue(&live, now_ms, |core, effects| core.purge(effects));
        if live.durable {
            let ((), end) = self.engine.store.append(Some(&self.waiter), |_| ());
            self.wait_until_durable(end);
        }
        Ok(clamped(purged.unwrap_or(0)))
    }

    /// `exchange.declare`.
    ///
    /// # Errors
    /// `COMMAND_INVALID` for an unknown type, `NOT_FOUND` (passive), `ACCESS_REFUSED`,
    /// `PRECONDITION_FAILED`.
    pub fn declare_exchange(
        &mut self,
        name: &str,
        kind: &str,
        options: &DeclareExchange,
    ) -> Result<(), BrokerError> {
        self.carry_out();
        if options.passive {
            self.vhost.state.read().topology.declare_exchange_passive(name)?;
            return Ok(());
        }
        let kind = ExchangeKind::parse(kind)?;
        self.check(Access::Configure, "exchange", name)?;
        if let Some(alternate) =
            options.arguments.get("alternate-exchange").and_then(|v| v.as_str())
        {
            self.check(Access::Read, "exchange", name)?;
            self.check(Access::Write, "exchange", alternate)?;
        }
        let declaration = ExchangeDeclaration {
            name,
            kind,
            durable: options.durable,
            auto_delete: options.auto_delete,
            internal: options.internal,
            arguments: options.arguments.clone(),
        };
        let vhost = Arc::clone(&self.vhost);
        let mut state = vhost.state.write();
        self.check_not_deleted(&state)?;
        if let Declared::Created(definition) = state.topology.declare_exchange(declaration)? {
            if definition.durable {
                let exchange = convert::stored_exchange(definition);
                self.append_change(Change::ExchangePut { vhost: vhost.name.to_string(), exchange });
            }
            vhost.changed();
        }
        Ok(())
    }

    /// `exchange.delete`. An exchange that does not exist is not an error.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`, `PRECONDITION_FAILED` when in use.
    pub fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<(), BrokerError> {
        self.carry_out();
        self.check(Access::Configure, "exchange", name)?;
        self.remove_from(|topology| topology.delete_exchange(name, if_unused))
    }

    /// `queue.bind` and `exchange.bind`.
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED`, `RESOURCE_LOCKED`, `PRECONDITION_FAILED`.
    pub fn bind(
        &mut self,
        source: &str,
        destination: &Destination,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), BrokerError> {
        self.carry_out();
        self.check_bind(source, destination)?;
        let vhost = Arc::clone(&self.vhost);
        let connection = self.outbox.connection;
        let mut state = vhost.state.write();
        self.check_not_deleted(&state)?;
        let bound = state.topology.bind(source, destination, routing_key, arguments, connection)?;
        if let Declared::Created(definition) = bound {
            if definition.is_durable() {
                let binding = convert::stored_binding(definition);
                self.append_change(Change::BindingPut { vhost: vhost.name.to_string(), binding });
            }
            vhost.changed();
        }
        Ok(())
    }

    /// `queue.unbind` and `exchange.unbind`. A binding that does not exist is not an error.
    ///
    /// # Errors
    /// As [`Session::bind`].
    pub fn unbind(
        &mut self,
        source: &str,
        destination: &Destination,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), BrokerError> {
        self.carry_out();
        self.check_bind(source, destination)?;
        let connection = self.outbox.connection;
        self.remove_from(|topology| {
            topology.unbind(source, destination, routing_key, arguments, connection)
        })
    }

    /// Takes something out of the topology and logs that while it is locked; the reply waits for it.
    fn remove_from(
        &mut self,
        remove: impl FnOnce(&mut Topology) -> Result<Removal, BrokerError>,
    ) -> Result<(), BrokerError> {
        let vhost = Arc::clone(&self.vhost);
        let mut state = vhost.state.write();
        self.check_not_deleted(&state)?;
        let removal = remove(&mut state.topology)?;
        let end = self.engine.append_removal(&vhost, &removal);
        vhost.changed();
        drop(state);
        self.wait_until_durable(end);
        Ok(())
    }

    /// The id of an existing queue, or a new one.
    fn queue_id_for(&self, name: &str) -> Result<QueueId, BrokerError> {
        if let Some(there) = self.vhost.state.read().topology.queue_named(name) {
            return Ok(there.id);
        }
        let store = &self.engine.store;
        self.engine.registry.queue_ids.draw(|end| {
            store.append(None, |appender| appender.change(Change::QueueIdsReserved { end }));
        })
    }

    /// The queue with this name, if this connection may use it.
    pub(super) fn live_queue(&self, name: &str) -> Result<Arc<LiveQueue>, BrokerError> {
        let state = self.vhost.state.read();
        let id = state.topology.queue(name, self.outbox.connection)?.id;
        state.queues.get(&id).cloned().ok_or_else(|| state.topology.no_queue(name))
    }

    /// Deletes the exclusive queues of this connection.
    pub(super) fn delete_exclusive_queues(&self) {
        let state = self.vhost.state.read();
        let mine = state.topology.exclusive_queues(self.outbox.connection);
        let mine: Vec<_> = mine.filter_map(|queue| state.queues.get(&queue.id).cloned()).collect();
        drop(state);
        mine.iter().for_each(|queue| {
            self.engine.delete_live_queue(queue);
        });
    }

    fn declared(&mut self, live: &Arc<LiveQueue>) -> Result<QueueDeclared, BrokerError> {
        let now_ms = self.engine.now_ms();
        let depth = self.engine.with_queue(live, now_ms, |core, _| {
            core.touch(now_ms);
            core.depth()
        });
        let depth = depth.unwrap_or_default();
        Ok(QueueDeclared {
            name: live.name.to_string(),
            message_count: clamped(depth.ready_count),
            consumer_count: depth.consumer_count,
        })
    }

    /// Whether this user may read a queue, by name; an unroutable message is in none, and was published
    /// to an exchange.
    fn reader(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let (access, owner) = (Arc::clone(&self.access), self.outbox.owner.clone());
        move |queue| access.allow(&owner.vhost, &owner.user, Access::Read, queue)
    }

    /// A user who may not read a queue, or not write to an exchange, must not reach it by
    /// dead-lettering.
    fn check_dead_letter_access(
        &self,
        name: &str,
        options: &DeclareQueue,
    ) -> Result<(), BrokerError> {
        let exchange = options.arguments.get("x-dead-letter-exchange").and_then(|v| v.as_str());
        let Some(exchange) = exchange else { return Ok(()) };
        self.check(Access::Read, "queue", name)?;
        self.check(Access::Write, "exchange", exchange)
    }

    fn check_bind(&self, source: &str, destination: &Destination) -> Result<(), BrokerError> {
        let kind = match destination {
            Destination::Queue(_) => "queue",
            Destination::Exchange(_) => "exchange",
        };
        if destination.name().is_empty() || source.is_empty() {
            // The topology refuses the default exchange with a text of its own.
            return Ok(());
        }
        self.check(Access::Write, kind, destination.name())?;
        self.check(Access::Read, "exchange", source)
    }

    /// Logs a change of the definitions; the reply waits for it.
    fn append_change(&mut self, change: Change) {
        let waiter = Arc::clone(&self.waiter);
        let ((), end) = self.engine.store.append(Some(&waiter), |appender| appender.change(change));
        self.wait_until_durable(end);
    }
}

fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
