//! A session: what one connection does in one virtual host, as one user.
//!
//! The owner (a connection's task, an embedding program) calls methods with channel numbers, which
//! return what they answer; what happens by itself goes to its [`Sink`](crate::Sink), through its
//! [`Outbox`](crate::Outbox). Publishes and settlements are gathered and take effect with
//! [`Session::flush`], a batch at a time; every other method has them take effect first.
//! What is wrong with them is told once (module `failed`). A method whose effect must be durable
//! before it is answered leaves a [`Session::barrier`].
//!
//! Never here: sockets, frames, AMQP's methods, async. Errors are
//! [`BrokerError`](crate::BrokerError)s: AMQP's reply code and text.
//!
//! Data and verbs are apart: [`state`] has the session, the modules beside it what it is made of,
//! [`verbs`] what its owner may call.

mod channel;
mod confirms;
mod credit;
mod failed;
mod headers;
mod publishes;
mod reports;
mod routes;
mod settles;
mod state;
mod traffic;
mod transaction;
mod verbs;
mod worker_name;

pub use failed::ChannelError;
pub use publishes::{Placed, Publish};
pub use state::Session;
pub use traffic::Traffic;
pub use verbs::{Consume, Consuming, DeclareExchange, DeclareQueue, QueueDeclared, QueueDeleted};
