//! HTTP: what became of messages, for people and programs without AMQP.
//!
//! [`Management::start`] serves `/v1` (module `app` has the table of paths) on a listener: publish,
//! look up, wait for an outcome, list, feed of server-sent events, cancel, retry, webhooks. Users
//! and permissions are the broker's.
//!
//! Never here: what a message's state is (`ledger`, `node`), AMQP, threads of its own.
//!
//! *Invariants:* every error is a problem detail (RFC 9457, module `problem`); whatever waits or
//! buffers is bounded; reading a feed slowly costs nobody else anything.

mod app;
mod auth;
mod error;
mod extract;
mod follow;
mod problem;
mod server;
mod stopping;
mod time;
mod under_way;
mod v1;
mod view;
mod webhooks;

pub use error::ManagementError;
pub use server::Management;

/// How to serve; every default in one place.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the store: webhooks are kept in `management.redb` there.
    pub data: std::path::PathBuf,
    /// Connections at a time.
    pub connections_max: usize,
    /// What bounds the connections of all listeners of the process.
    pub admission: listener::Admission,
    /// Requests that may wait at a time: long polls and feeds.
    pub waiting_count_max: usize,
    /// Whether webhooks may call private addresses: this machine, the local network.
    pub allow_private_addresses: bool,
    /// How long to wait after each failed attempt to deliver to a webhook; after the last one it
    /// is disabled. Give or take a fifth of it.
    pub retry_delays: Vec<std::time::Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: "wilco-data".into(),
            connections_max: 4096,
            admission: listener::Admission::unlimited(),
            waiting_count_max: 1024,
            allow_private_addresses: false,
            retry_delays: webhooks::RETRY_DELAYS.to_vec(),
        }
    }
}
