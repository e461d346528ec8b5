//! What an exchange is: its kind, its definition, and the routes its bindings make.
//!
//! Owns the four kinds and how each finds destinations for a routing key and headers. It knows no
//! other exchange: [`crate::topology`] follows exchange-to-exchange bindings and alternate
//! exchanges.

mod definition;
mod routes;

pub(crate) use definition::ALTERNATE_EXCHANGE;
pub use definition::{ExchangeDefinition, ExchangeKind};
pub(crate) use routes::{RouteTarget, Routes};
