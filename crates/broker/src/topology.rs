//! The exchanges, queues and bindings of one virtual host, and routing over them.
//!
//! Owns every definition, the rules of declaring, binding and deleting, and RabbitMQ's error texts
//! when they are broken. It holds no message, checks no permission, and generates neither names nor
//! ids: the caller supplies them.
//!
//! *Invariants:*
//! - Both ends of every binding exist and know it, and it is in its source's routes exactly once.
//! - No two bindings have the same source, destination, routing key and arguments.
//! - The default exchange has no bindings: it routes to the queue the routing key names.
//! - [`epoch`](Topology::epoch) changes with everything that may change a route.
//!
//! Declaring, binding and deleting cost the same however many queues there are.

mod bindings;
mod bound;
mod definitions;
mod exchanges;
mod queues;
mod registry;
mod routing;
mod rules;
mod state;

pub use definitions::{
    BindingDefinition, Declared, Destination, ExchangeDeclaration, QueueDeclaration,
    QueueDefinition, Removal, RemovedQueue,
};
pub use state::Topology;

#[cfg(test)]
mod tests;
