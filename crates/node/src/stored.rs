//! Definitions on their way into the store.

use amqp::FieldTable;
use broker::exchange::ExchangeDefinition;
use broker::topology::{BindingDefinition, Destination, QueueDefinition};

use crate::definitions::{StoredBinding, StoredExchange, StoredQueue};

pub(crate) fn queue(definition: &QueueDefinition) -> StoredQueue {
    StoredQueue {
        id: definition.id.0,
        name: definition.name.to_string(),
        durable: definition.durable,
        auto_delete: definition.auto_delete,
        exclusive: definition.exclusive_owner.is_some(),
        arguments: encoded(&definition.arguments),
    }
}

pub(crate) fn exchange(definition: &ExchangeDefinition) -> StoredExchange {
    StoredExchange {
        name: definition.name.to_string(),
        kind: definition.kind.name().to_owned(),
        durable: definition.durable,
        auto_delete: definition.auto_delete,
        internal: definition.internal,
        arguments: encoded(&definition.arguments),
    }
}

pub(crate) fn binding(definition: &BindingDefinition) -> StoredBinding {
    StoredBinding {
        source: definition.source.to_string(),
        destination: definition.destination.name().to_string(),
        destination_is_queue: matches!(definition.destination, Destination::Queue(_)),
        routing_key: definition.routing_key.to_string(),
        arguments: encoded(&definition.arguments),
    }
}

/// A field table without its length.
fn encoded(table: &FieldTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.encode_with_length(&mut bytes);
    bytes.split_off(4)
}
