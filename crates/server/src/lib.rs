//! AMQP 0-9-1 over TCP: listener, handshake, connections. A thin shell over `node`.
//!
//! A connection is one task and one hand-written future (module `connection`): it reads once, decodes
//! every complete frame, calls its [`node::Session`], and writes its outbox. It owns sockets,
//! framing and the order of methods; it decides nothing about messages.
//!
//! *Invariant:* whatever a client sends costs at most its own connection, with a reply code that
//! says why.

mod closing;
mod connection;
mod content;
mod dispatch;
mod farewell;
mod fault;
mod handshake;
mod hang_up;
mod heartbeat;
mod listener;
mod low_water;
mod options;
mod pacing;
mod publishing;
mod reading;
mod replies;
mod shared;
mod spare_memory;
mod stream;
mod ticker;
mod wire;

pub use listener::{Server, serve_stream};
pub use options::Options;
