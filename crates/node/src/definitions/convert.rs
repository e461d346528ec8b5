//! Converts between the topology's definitions and their stored form.
//!
//! What cannot be read back (an unknown kind, invalid arguments) is `None`.

use amqp::FieldTable;
use broker::QueueId;
use broker::arguments::{QueueArguments, QueueProperties};
use broker::exchange::{ExchangeDefinition, ExchangeKind};
use broker::topology::{BindingDefinition, Destination, QueueDefinition};

use super::{StoredBinding, StoredExchange, StoredQueue};

pub(crate) fn stored_queue(definition: &QueueDefinition) -> StoredQueue {
    StoredQueue {
        id: definition.id.0,
        name: definition.name.to_string(),
        durable: definition.durable,
        auto_delete: definition.auto_delete,
        exclusive: definition.exclusive_owner.is_some(),
        arguments: encoded(&definition.arguments),
    }
}

pub(crate) fn stored_exchange(definition: &ExchangeDefinition) -> StoredExchange {
    StoredExchange {
        name: definition.name.to_string(),
        kind: definition.kind.name().to_owned(),
        durable: definition.durable,
        auto_delete: definition.auto_delete,
        internal: definition.internal,
        arguments: encoded(&definition.arguments),
    }
}

pub(crate) fn stored_binding(definition: &BindingDefinition) -> StoredBinding {
    StoredBinding {
        source: definition.source.to_string(),
        destination: definition.destination.name().to_string(),
        destination_is_queue: matches!(definition.destination, Destination::Queue(_)),
        routing_key: definition.routing_key.to_string(),
        arguments: encoded(&definition.arguments),
    }
}

pub(crate) fn exchange(stored: &StoredExchange) -> Option<ExchangeDefinition> {
    let kind = ExchangeKind::parse(&stored.kind).ok()?;
    let arguments = FieldTable::decode(&stored.arguments).ok()?;
    let StoredExchange { durable, auto_delete, internal, .. } = *stored;
    let definition = ExchangeDefinition::new(stored.name.as_str(), kind, arguments);
    Some(ExchangeDefinition { durable, auto_delete, internal, ..definition })
}

pub(crate) fn queue(stored: &StoredQueue) -> Option<QueueDefinition> {
    let arguments = FieldTable::decode(&stored.arguments).ok()?;
    let properties = QueueProperties {
        durable: stored.durable,
        exclusive: false,
        auto_delete: stored.auto_delete,
    };
    let settings = QueueArguments::parse(&arguments, properties, &stored.name).ok()?;
    Some(QueueDefinition {
        id: QueueId(stored.id),
        name: stored.name.as_str().into(),
        durable: stored.durable,
        exclusive_owner: None,
        auto_delete: stored.auto_delete,
        arguments,
        settings,
    })
}

pub(crate) fn binding(stored: &StoredBinding) -> Option<BindingDefinition> {
    let destination = match stored.destination_is_queue {
        true => Destination::queue(&stored.destination),
        false => Destination::exchange(&stored.destination),
    };
    Some(BindingDefinition {
        source: stored.source.as_str().into(),
        destination,
        routing_key: stored.routing_key.as_str().into(),
        arguments: FieldTable::decode(&stored.arguments).ok()?,
        durable: true,
    })
}

/// A field table without its length prefix.
fn encoded(table: &FieldTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.encode_with_length(&mut bytes);
    bytes.split_off(4)
}
