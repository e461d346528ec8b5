//! What this crate needs from a broker: two traits, and the values that they exchange.
//!
//! [`Messages`] is about messages and their outcomes: the calls of `/v1` for them, the feed and the
//! webhooks use nothing else. [`Broker`] is about users and the state of the server. `over_node`
//! implements both over `node`; other brokers may implement them, too.
//!
//! *Invariants:* how a broker stores its messages (positions in a log, numbers of queues) does not
//! appear here: a [`Cursor`] is text, and when a client hands it back, the port that wrote it reads
//! it. What a caller may see is decided above this, by module `view`; a port answers all it knows.

mod broker;
mod error;
mod event;
mod messages;
mod outgoing;

use std::sync::Arc;

pub use self::broker::{Broker, LoginRefused, Source, User};
pub use self::error::{CursorError, MessagesError};
pub use self::event::{BStr, BString, ByteSlice};
pub use self::event::{
    Cursor, MessageEvent, NAMELESS_QUEUE, OutcomeEvent, OutcomePage, OutcomeQuery,
};
pub(crate) use self::event::{Entry, Event, IdHash, Place, Publication, QueueStory, Timeline};
pub use self::event::{Outcome, Published, PublishedQueue, Settled, Stage, What, Worker};
pub use self::messages::{Access, Changed, Freshness, Messages};
pub use self::outgoing::{Outgoing, Placed, Receipt};

/// A broker, as this crate sees it. Cloning is cheap.
#[derive(Clone)]
pub struct Ports {
    /// The broker's messages and their outcomes.
    pub messages: Arc<dyn Messages>,
    /// The broker's users and its state.
    pub broker: Arc<dyn Broker>,
}
