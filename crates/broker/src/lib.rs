//! The pure core of the broker: what exchanges, bindings, queues and consumers do.
//!
//! Plain structs with `&mut self` methods. A call takes a command and the time, changes state, and
//! appends the consequences ([`queue::Effects`], [`queue::Outgoing`]) to the caller's buffers.
//! **Never here:** IO, a clock, a lock, async, a thread, a log line. So the same code runs in the
//! real `node` and in a seeded simulator with a virtual clock.
//!
//! - [`topology`]: the exchanges, queues and bindings of one virtual host, and routing over them.
//! - [`queue`]: one queue: its messages, consumers, limits, expiry, retries, settlement.
//! - [`message`]: a message as it is kept and passed on, one allocation each.
//! - [`tracking`]: what travels with a message whose outcome somebody may ask for.
//! - [`verdict`]: what becomes of such a message, and who is told.
//! - [`dead_letter`]: what a message becomes when it leaves a queue for a dead-letter exchange.
//!
//! *Invariant:* every message routed to a queue is ready, unsettled, delayed (it waits for its next
//! attempt) or gone, and it goes exactly once, with one [`outcome::Reason`].

pub mod arguments;
pub mod dead_letter;
mod error;
pub mod exchange;
pub mod headers_match;
pub mod message;
mod position;
pub mod queue;
mod queue_id;
pub mod topic;
pub mod topology;
pub mod tracking;
pub mod verdict;

pub use error::BrokerError;
pub use message::Message;
pub use position::Position;
pub use queue_id::QueueId;
pub use tracking::Tracking;
