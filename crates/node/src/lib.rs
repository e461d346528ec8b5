//! The living broker: what the pure core of `broker` and the log of `segment-log` become when there
//! are threads, a clock and a disk.
//!
//! A [`Node`] opens a store and owns it. Whoever talks to it opens a [`Session`] per connection:
//! the AMQP server does so, and a program that embeds the broker does through [`embedded`]. There
//! is no socket, no frame and no async here: a session is called, and what others have for it waits
//! in its [`Outbox`], which wakes a [`std::task::Waker`].
//!
//! See [`node`](mod@node) for threads and locks, module `store` for what durable means.

mod administration;
mod atomics;
pub mod auth;
mod by_id;
pub mod clock;
pub mod definitions;
pub mod embedded;
mod engine;
mod error;
#[cfg(test)]
mod interleaving;
mod ledger_writer;
mod locks;
mod maintenance;
mod memory;
mod names;
#[cfg(test)]
mod nets;
pub mod node;
mod one_at_a_time;
mod options;
mod queries;
mod registry;
mod rewrite;
mod session;
mod sink;
mod startup;
mod store;

pub use amqp::Properties;
pub use broker::queue::Settlement;
pub use broker::topology::Destination;
pub use broker::{BrokerError, Message};
pub use by_id::ByIdError;
pub use error::NodeError;
pub use names::is_reserved_target;
pub use node::Node;
pub use options::{Heap, HeapUsage, Limits, Options, StoreOptions};
pub use queries::{Queries, Question};
pub use registry::Outbox;
pub use segment_log::MemoryDisk;
pub use session::{
    ChannelError, Consume, Consuming, DeclareExchange, DeclareQueue, Placed, Publish,
    QueueDeclared, QueueDeleted, Session, Traffic,
};
pub use sink::{Delivered, Got, Returned, Sink};
pub use startup::RecoverySummary;
