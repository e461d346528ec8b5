//! One queue: commands come in, change its state, and append their consequences to the caller's
//! buffers.
//!
//! Order of calls for whoever drives it, all under the queue's lock: any number of commands
//! ([`Queue::publish`], [`Queue::settle`], [`Queue::add_consumer`], ...), then [`Queue::assign`],
//! then [`Queue::take_outgoing`]. After unlocking: dispatch the deliveries, process the
//! [`Effects`]. Then lock again and repeat `assign` and `take_outgoing` until nothing is left; only
//! one driver at a time may hold the dispatch ([`Queue::begin_dispatch`]), so that each consumer
//! gets its messages in order.
//!
//! *Never here:* the log, other queues, exchanges. Dead-lettering is an effect.

mod command;
mod compaction;
mod consumers;
mod consuming;
mod deadlines;
mod delays;
mod dispatch;
mod drain;
mod effects;
mod expiry;
mod index;
mod limits;
mod messages;
mod moves;
mod priority_levels;
mod retry;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Depth, Incoming, Published, Restored, Settlement};
pub use compaction::EntryRef;
pub use consumers::{ConsumerKey, ConsumerSettings, Endpoint};
pub use effects::{Attempt, Delivery, DeliveryId, Effects, Noted, Outgoing, Removed};
pub use expiry::Tick;
pub use retry::Retry;
pub use settings::{DeadLetterAddress, Settings};
pub use state::Queue;
