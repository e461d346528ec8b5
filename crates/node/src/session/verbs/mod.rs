//! What the owner of a session may call, by kind.

mod channels;
mod confirms;
mod consume;
mod flush;
mod publish;
mod queries;
mod readiness;
mod reports;
mod routing;
mod settle;
mod topology;
mod tracking;
mod transactions;
mod unfinished;

pub use consume::{Consume, Consuming};
pub use topology::{DeclareExchange, DeclareQueue, QueueDeclared, QueueDeleted};
