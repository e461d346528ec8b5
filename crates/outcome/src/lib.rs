//! What became of a message: the one description that broker, ledger, HTTP and clients share.
//!
//! An [`Outcome`] is what a producer is told became of its message in a queue. A requeue, a
//! consumer's crash or its time-out are attempts, not outcomes.
//!
//! - Words: [`Outcome`], [`Reason`], and what a producer may ask for, [`OutcomeRequest`].
//! - What is said of a message in one queue, wherever that is: [`Verdict`] and [`Details`].
//! - What a worker adds: [`Report`], [`SettledBy`].
//! - [`OutcomeMessage`]: an outcome as a message, encoded and decoded.
//! - What happens to a message, as a ledger keeps it: [`Event`], [`Cursor`], [`IdHash`]; told as a
//!   story, [`Timeline`]; asked for, [`OutcomeQuery`].
//!
//! **Never here:** who is told and when, where anything is kept; IO, a clock, a lock. Within the
//! workspace every enum is matched exhaustively: a new outcome or event must be thought of
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

pub use details::Details;
pub use event::{
    Cursor, CursorError, Event, NAMELESS_QUEUE, Published, PublishedQueue, Settled, What,
};
pub use id::IdHash;
pub use message::{ERROR_BYTES_MAX, OutcomeMessage, OutcomeMessageError};
pub use outcome::Outcome;
pub use query::{OutcomeQuery, OutcomesPage};
pub use reason::Reason;
pub use report::{REPORT_BYTES_MAX, Report, SettledBy};
pub use request::{DEADLINE_MS_DEFAULT, Notify, OutcomeRequest, RequestError};
pub use ticket::Ticket;
pub use timeline::{Entry, Publication, QueueStory, Stage, Timeline};
pub use verdict::{Flags, Verdict};
