//! The ledger: what became of each message.
//!
//! It is a view over the message log: whoever follows that log appends an [`Event`] for everything
//! that happens to a tracked message, and now and then flushes ([`Ledger::flush`]), naming the
//! position of the message log up to which it has seen everything. After a crash the follower goes
//! on from [`Ledger::applied`]; what was appended since is appended again, the same.
//!
//! Three questions are answered: all events of one message ([`Ledger::events`]), outcomes in the
//! order of the message log by filter and cursor ([`Ledger::outcomes`]), and whether a queue has
//! seen a message id within its window ([`Ledger::first_seen`]).

mod device;
mod directory;
mod error;
mod event;
mod flush;
mod id;
mod ledger;
mod lookup;
mod manifest;
mod outcomes;
mod page;
mod pages;
mod prefixed;
mod query;
mod recovery;
mod retention;
mod salvage;
mod timeline;
mod upkeep;

pub use broker::Outcome;
pub use error::LedgerError;
pub use event::{Cursor, Event, Published, PublishedQueue, Settled, What};
pub use id::{IdHash, dedup_key};
pub use ledger::{Ledger, Options};
pub use prefixed::Prefixed;
pub use query::{OutcomeQuery, OutcomesPage};
pub use timeline::{Entry, Publication, QueueStory, State, Timeline};

#[cfg(test)]
mod tests;
