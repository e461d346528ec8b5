//! HTTP: what became of messages, for people and programs without AMQP.
//!
//! [`Management::start`] serves `/v1` (module `router` has the table of paths) on a listener:
//! publish, look up, wait for an outcome, list, feed of server-sent events, cancel, retry, webhooks.
//! Users and permissions are the broker's.
//!
//! The broker is behind two traits ([`ports`]); [`over_node`] implements them. A module knows only
//! those to its left:
//!
//! ```text
//! ports ← over_node
//! ports ← caller ← view ← webhooks ← app ← v1, auth, browser, bounded_answer ← router ← queries, server
//! ```
//!
//! Never here: deciding the state of a message (`ledger` and `node` do), AMQP, threads of its own.
//!
//! *Invariants:* every error is a problem detail (RFC 9457, module `problem`); whatever waits or
//! buffers is bounded; a slow reader of a feed costs nobody else anything.

mod answer;
mod app;
mod auth;
mod bounded_answer;
mod browser;
mod caller;
mod error;
mod extract;
mod follow;
mod names;
mod options;
mod over_node;
mod pool;
pub mod ports;
mod problem;
mod queries;
mod router;
mod server;
mod stopping;
mod time;
mod under_way;
mod v1;
mod view;
mod webhooks;

pub use error::ManagementError;
pub use options::Options;
pub use over_node::over_node;
pub use queries::{Queries, Query, QueryAnswer};
pub use server::Management;
