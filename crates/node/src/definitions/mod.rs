//! The durable definitions: virtual hosts, users, permissions, exchanges, queues and bindings.
//!
//! Owns what they are ([`Definitions`]), how one of them changes ([`Change`]) and where they are
//! kept ([`DefinitionStore`], a redb file). A change becomes durable as a record in the message
//! log; the store follows in batches and may lag, and [`DefinitionStore::applied_position`] says
//! from which log position on the changes have to be applied again.
//!
//! Never judges whether a change is allowed, holds the living topology, or writes the log.
//!
//! Invariants:
//! - **Applying changes to [`Definitions`] in memory and applying them to the store and loading it
//!   give the same result**, whatever the changes are.
//! - **A change and the applied position become durable in one transaction.**
//! - Queue ids are never used twice: `next_queue_id` only grows.

mod change;
pub(crate) mod convert;
mod disk_backend;
mod error;
mod hex_bytes;
mod model;
mod state;
mod store;
mod tables;
mod watched;

pub use change::Change;
pub use error::DefinitionError;
pub use model::{Permissions, StoredBinding, StoredExchange, StoredQueue, User};
pub use state::Definitions;
pub use store::DefinitionStore;

#[cfg(test)]
mod tests;
