//! Put work into a queue, and know what became of it.
//!
//! A producer sends a message; a worker takes it and works on it; the producer is told: processed, with a
//! result; failed, and why; expired, late, dropped. If it hears nothing in time it sends the message
//! again, and the id keeps it from being processed twice.
//!
//! ```no_run
//! use std::time::Duration;
//! use serde::{Deserialize, Serialize};
//! use wilco::{Failure, Outcome, Queue, Wilco};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { item: String }
//! #[derive(Serialize, Deserialize)]
//! struct Reserved { left: u32 }
//!
//! const STOCK: Queue<Order, Reserved> = Queue::new("stock");   // what goes in, what comes back
//!
//! async fn reserve(order: Order) -> Result<Reserved, Failure> {
//!     match order.item.as_str() {
//!         "cup" => Ok(Reserved { left: 6 }),
//!         _ => Err(Failure::permanent("sold out")),
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), wilco::Error> {
//!     let wilco = Wilco::connect("amqp://guest:guest@localhost").await?;
//!     let worker = wilco.worker().handle(STOCK, reserve).concurrency(16);
//!     let working = tokio::spawn(worker.until(wilco::signals()));
//!
//!     let stock = wilco.producer(STOCK).deadline(Duration::from_secs(30)).build().await?;
//!     let order = Order { item: "cup".to_owned() };
//!     let receipt = stock.send(&order).id("order-7").await?;      // it is on the broker's disk now
//!     match receipt.outcome().await? {
//!         Outcome::Processed(done) => println!("{} left", done.result()?.left),
//!         Outcome::Failed(why) => println!("refund: {}", why.error),
//!         Outcome::DeadlineMissed(_) => receipt.send_again().await?,  // never processed twice
//!         other => println!("{other}"),
//!     }
//! #   drop(working);
//!     Ok(())
//! }
//! ```
//!
//! - [`Queue`] names a queue and the types of both sides; [`Codec`] says how values are written. What is
//!   sent to a [`Topic`] goes into each of its queues, and has an outcome in each.
//! - [`Producer::send`] returns a [`Receipt`] once the message is on disk; [`Receipt::outcome`] tells
//!   what became of it, as a value: [`Outcome`]. An [`Error`] there only means that it is not known now.
//!   [`Receipt::progress`] tells how far a worker has got that says so ([`Context::progress`]).
//! - [`Wilco::attach`] finds a message by its id, in any process at any time.
//! - A worker's handler is a plain async function ([`Handler`]). Any error, by `?`, is tried again;
//!   [`Failure`] says more. [`WorkerBuilder::layer`] takes middleware made for tower.
//! - An `Outbox` (feature `sql`) makes messages part of a database's transaction, and keeps each until it is
//!   known what became of it.
//! - Everything that waits is bounded, and says what to do when it has waited for too long.
//! - When the connection is lost, it is made again, and what was under way goes on.
//! - The same program runs on a wilco server; on RabbitMQ, Kafka (feature `kafka`) and ActiveMQ (feature
//!   `activemq`), on one node or a cluster, where this library makes the outcomes; and without a server, for
//!   one process or for tests: `embedded:PATH` and `memory:` instead of the URL, with the feature `embedded`.
//!   What an engine cannot do is a [`Capability`] that it lacks.
//! - `testing` (feature `embedded`) has a broker for tests, with a clock that is moved by hand.
//! - `amqps://`, `kafkas://` and `activemqs://` are the same over TLS, with the feature `tls`: see
//!   [`Wilco::connect`].
//! - What one message is has an id that is used for nothing else in its queue: a second one with the same
//!   id is taken for the first, sent again. How far that reaches, over several workers and restarts, says
//!   [`Capability::SharedIds`].
//!
//! | feature | |
//! |---|---|
//! | `activemq` | `activemq://`: Artemis and Classic, over AMQP 1.0 |
//! | `embedded` | a broker in the process: `embedded:PATH`, `memory:`, and the one for tests |
//! | `kafka` | `kafka://`: share groups, or classic ones |
//! | `sql` | a ledger for engines that keep none, and the outbox: SQLite, PostgreSQL |
//! | `tls` | `amqps://`, `kafkas://`, `activemqs://` |

mod attached;
mod awaited;
mod capability;
mod clock;
mod codec;
mod connection;
mod error;
mod ledger;
#[cfg(feature = "sql")]
mod outbox;
mod outcome;
mod producer;
mod progress;
mod queue;
mod signals;
#[cfg(feature = "sql")]
mod sql;
mod story;
mod target;
#[cfg(feature = "embedded")]
pub mod testing;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod transport;
mod url;
mod watch;
mod wilco;
mod window;
mod worker;

pub use attached::{Attached, MessageState};
pub use bytes::Bytes;
pub use capability::Capability;
pub use codec::{Codec, CodecError, Decode, Encode, Json, Raw};
pub use error::{Error, ErrorKind};
#[cfg(feature = "sql")]
pub use outbox::{
    Entering, Outbox, OutboxState, OutboxTransaction, Pending, Relay, RelayReport, Told, Within,
};
pub use outcome::{Details, Failed, Outcome, Processed};
pub use producer::{Producer, ProducerBuilder, ProgressStream, Receipt, Sending};
pub use progress::Progress;
pub use queue::{Queue, SendTo, Topic};
pub use signals::signals;
pub use story::{InQueue, Stage, Story};
pub use watch::Watch;
pub use wilco::Wilco;
pub use worker::{
    Backoff, Context, Extract, Failure, Handler, Handling, Job, Report, RunningWorker, State,
    WorkerBuilder,
};
