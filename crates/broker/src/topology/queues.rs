//! Declaring, finding and deleting queues.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqp::FieldValue;

use super::definitions::{Declared, QueueDeclaration, QueueDefinition, RemovedQueue};
use super::rules::{check_name, check_not_of_broker};
use super::state::{QueueEntry, Topology};
use crate::arguments::{self, QueueArguments, QueueProperties, QueueType};
use crate::{BrokerError, QueueId};

impl Topology {
    /// `queue.declare`: creates the queue, or finds it with the same properties and arguments.
    ///
    /// # Errors
    ///
    /// `ACCESS_REFUSED` for a reserved name, `RESOURCE_LOCKED` if the queue is another
    /// connection's or exclusive where it should not be, `PRECONDITION_FAILED` if it exists with
    /// other properties or arguments, or if an argument is wrong.
    pub fn declare_queue(
        &mut self,
        declaration: QueueDeclaration<'_>,
    ) -> Result<Declared<&QueueDefinition>, BrokerError> {
        let name = declaration.name;
        if declaration.server_named {
            check_server_named(&declaration)?;
        } else {
            check_name("queue", name)?;
        }
        let (place, created) = match self.queues.find(name) {
            Some(place) => (place, false),
            None => (self.create_queue(&declaration)?, true),
        };
        let current = &self.queues.get(place).expect("found or added just now").definition;
        if !created {
            self.check_equivalent(current, &declaration)?;
        }
        Ok(Declared::new(current, created))
    }

    /// The queue, if this connection may use it: for passive declarations, and before anything else
    /// that is done to a queue.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`, or `RESOURCE_LOCKED` if it is another connection's exclusive queue.
    pub fn queue(&self, name: &str, connection: u64) -> Result<&QueueDefinition, BrokerError> {
        let definition = self.queue_named(name).ok_or_else(|| self.no_queue(name))?;
        match definition.exclusive_owner {
            Some(owner) if owner != connection => Err(self.queue_locked(name)),
            _ => Ok(definition),
        }
    }

    /// The queue of that name, whichever connection owns it.
    pub fn queue_named(&self, name: &str) -> Option<&QueueDefinition> {
        Some(&self.queues.get(self.queues.find(name)?)?.definition)
    }

    /// The queue with that id.
    pub fn queue_by_id(&self, id: QueueId) -> Option<&QueueDefinition> {
        Some(&self.queues.get(*self.queue_places.get(&id)?)?.definition)
    }

    /// The exclusive queues of a connection, which are deleted with it.
    pub fn exclusive_queues(&self, connection: u64) -> impl Iterator<Item = &QueueDefinition> {
        let places = self.owned.get(&connection).into_iter().flatten();
        places.filter_map(|&place| Some(&self.queues.get(place)?.definition))
    }

    /// Deletes a queue with its bindings; `None` if there is none of that name. The caller must
    /// check whether it may be deleted ([`queue`](Self::queue), unused, empty).
    pub fn delete_queue(&mut self, name: &str) -> Option<RemovedQueue> {
        let place = self.queues.find(name)?;
        let incoming = std::mem::take(&mut self.queues.get_mut(place)?.incoming);
        let removal = self.remove_bindings(incoming);
        let definition = self.queues.remove(name)?.definition;
        self.queue_places.remove(&definition.id);
        if let Some(owner) = definition.exclusive_owner
            && let Some(owned) = self.owned.get_mut(&owner)
        {
            owned.remove(&place);
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
        self.changed();
        Some(RemovedQueue { definition, removal })
    }

    /// Restores a queue from storage; its arguments were checked when it was declared.
    ///
    /// # Errors
    ///
    /// `PRECONDITION_FAILED` if the name or the id is taken.
    pub fn restore_queue(&mut self, definition: QueueDefinition) -> Result<(), BrokerError> {
        let taken_id = self.queue_places.contains_key(&definition.id);
        if taken_id || self.queues.find(&definition.name).is_some() {
            let subject = self.queue_subject(&definition.name);
            return Err(BrokerError::precondition_failed(format!("{subject} is there already")));
        }
        self.add_queue(definition);
        Ok(())
    }

    fn create_queue(&mut self, declaration: &QueueDeclaration<'_>) -> Result<u32, BrokerError> {
        let &QueueDeclaration { id, name, exclusive, auto_delete, connection, .. } = declaration;
        let subject = self.queue_subject(name);
        if let Some(wrong) = declaration.arguments.get(DEAD_LETTER_EXCHANGE)
            && !matches!(wrong, FieldValue::LongString(_))
        {
            return Err(invalid_type(wrong, DEAD_LETTER_EXCHANGE, &subject));
        }
        let dead_letter_exchange = declaration.arguments.get(DEAD_LETTER_EXCHANGE);
        if let Some(exchange) = dead_letter_exchange.and_then(FieldValue::as_str) {
            check_not_of_broker(exchange)?;
        }
        let durable = declaration.durable && !exclusive;
        let properties = QueueProperties { durable, exclusive, auto_delete };
        let settings = QueueArguments::parse(&declaration.arguments, properties, &subject)?;
        Ok(self.add_queue(QueueDefinition {
            id,
            name: name.into(),
            durable,
            exclusive_owner: exclusive.then_some(connection),
            auto_delete,
            arguments: declaration.arguments.clone(),
            settings,
        }))
    }

    fn add_queue(&mut self, definition: QueueDefinition) -> u32 {
        let (id, owner) = (definition.id, definition.exclusive_owner);
        let name = Arc::clone(&definition.name);
        let place = self.queues.insert(name, QueueEntry { definition, incoming: BTreeSet::new() });
        let taken = self.queue_places.insert(id, place);
        debug_assert!(taken.is_none(), "ids are never used again");
        if let Some(owner) = owner {
            self.owned.entry(owner).or_default().insert(place);
        }
        self.changed();
        place
    }

    fn check_equivalent(
        &self,
        current: &QueueDefinition,
        declaration: &QueueDeclaration<'_>,
    ) -> Result<(), BrokerError> {
        let subject = &self.queue_subject(&current.name);
        let owner = declaration.exclusive.then_some(declaration.connection);
        if current.exclusive_owner != owner {
            return Err(self.queue_locked(&current.name));
        }
        let durable = declaration.durable && !declaration.exclusive;
        arguments::compare_field("durable", current.durable, durable, subject)?;
        let auto_delete = declaration.auto_delete;
        arguments::compare_field("auto_delete", current.auto_delete, auto_delete, subject)?;
        let queue_type = current.settings.queue_type;
        arguments::assert_equivalent(
            queue_type,
            &current.arguments,
            &declaration.arguments,
            subject,
        )
    }

    fn queue_locked(&self, name: &str) -> BrokerError {
        BrokerError::resource_locked(format!(
            "cannot obtain exclusive access to locked {}. It could be originally declared on \
             another connection or the exclusive property value does not match that of the \
             original declaration.",
            self.queue_subject(name)
        ))
    }
}

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// A quorum queue's name must be chosen by the client.
fn check_server_named(declaration: &QueueDeclaration<'_>) -> Result<(), BrokerError> {
    let queue_type = declaration.arguments.get("x-queue-type").and_then(FieldValue::as_str);
    if queue_type == Some(QueueType::Quorum.name()) {
        return Err(BrokerError::precondition_failed(
            "Cannot declare a server-named queue for type rabbit_quorum_queue",
        ));
    }
    Ok(())
}

/// The error for an argument that should name an exchange and is not text.
pub(super) fn invalid_type(value: &FieldValue, key: &str, subject: &str) -> BrokerError {
    let kind = arguments::kind_name(value);
    BrokerError::precondition_failed(format!("invalid type '{kind}' for arg '{key}' in {subject}"))
}
