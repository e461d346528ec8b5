//! The living broker: what the pure core of `broker` and the log of `segment-log` become when there
//! are threads, a clock and a disk.
//!
//! A [`Node`] opens a store and owns it. Whoever talks to it opens a [`Session`] per connection:
//! the AMQP server does, and a program that embeds the broker does through [`embedded`]. No socket,
//! no frame, no async here: a session is called, and what others have for it waits in its
//! [`Outbox`], which wakes a [`std::task::Waker`].
//!
//! See [`node`](mod@node) for threads and locks, module `store` for what durable means.

mod admin;
pub mod auth;
pub mod clock;
mod consumer;
pub mod definitions;
mod deletion;
mod effects;
pub mod embedded;
mod error;
mod follower;
mod handover;
mod live_queue;
mod lookup;
mod memory;
pub mod node;
mod options;
mod outbox;
mod outcomes;
mod rewrite;
mod session;
mod sink;
mod startup;
mod store;
mod stored;
mod timers;
mod turns;
mod unsettled;
mod vhost;

pub use amqp::Properties;
pub use broker::queue::Settlement;
pub use broker::topology::Destination;
pub use broker::{BrokerError, Message};
pub use error::NodeError;
pub use lookup::ByIdError;
pub use node::{Node, RecoverySummary};
pub use options::{Heap, HeapUsage, Limits, Options, StoreOptions};
pub use outbox::Outbox;
pub use session::{
    ChannelError, ConsumeOptions, Consuming, ExchangeOptions, Placed, Publish, QueueDeclared,
    QueueOptions, Session,
};
pub use sink::{Delivered, Got, Returned, Sink};
