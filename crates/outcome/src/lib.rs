//! What became of a message, described once for broker, ledger, HTTP and clients.
//!
//! An [`Outcome`] is what a producer is told became of its message in a queue. A requeue, or a
//! consumer's crash or timeout, ends an attempt; it is not an outcome.
//!
//! - The vocabulary: [`Outcome`], [`Reason`], and what a producer may ask for, [`OutcomeRequest`].
//! - What is said of a message in one queue, wherever it is said: [`Verdict`] and [`Details`].
//! - Who a worker is, and what it adds: [`Worker`], [`Report`], [`SettledBy`].
//! - [`OutcomeMessage`]: an outcome as a message, encoded and decoded.
//! - What happens to a message, as a ledger keeps it: [`Event`], [`Cursor`], [`IdHash`]; assembled
//!   into the story of one message, [`Timeline`]; queried by [`OutcomeQuery`].
//!
//! **Never here:** who is told and when, where anything is kept; IO, a clock, a lock. Within the
//! workspace every enum is matched exhaustively: a new outcome or event must be considered
//! everywhere.

mod details;
mod event;
mod id;
mod message;
mod outcome;
mod query;
mod reason;
mod report;
mod request;
mod ticket;
mod timeline;
mod verdict;
mod worker;

/// What clients write need not be UTF-8.
pub use amqp::{BStr, BString, ByteSlice};
pub use details::Details;
pub use event::{
    Cursor, CursorError, Event, NAMELESS_QUEUE, Published, PublishedQueue, Settled, What,
};
pub use id::IdHash;
pub use message::{ERROR_BYTES_MAX, OutcomeMessage, OutcomeMessageError, traceparent};
pub use outcome::Outcome;
pub use query::{OutcomeQuery, OutcomesPage};
pub use reason::Reason;
pub use report::{REPORT_BYTES_MAX, Report, SettledBy};
pub use request::{DEADLINE_MS_DEFAULT, DURATION_MS_MAX, Notify, OutcomeRequest, RequestError};
pub use ticket::Ticket;
pub use timeline::{Entry, Publication, QueueStory, Stage, Timeline};
pub use verdict::{Flags, Verdict};
pub use worker::Worker;
