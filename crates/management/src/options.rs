//! How to serve: the settings of the whole server.

use std::path::PathBuf;
use std::time::Duration;

use listener::Admission;

use crate::webhooks::RETRY_DELAYS;

/// How to serve; every default in one place.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the store: webhooks are kept in `management.redb` there.
    pub data: PathBuf,
    /// Connections at a time.
    pub connections_max: usize,
    /// What bounds the connections of all listeners of the process.
    pub admission: Admission,
    /// Requests that may wait at a time: long polls and feeds.
    pub waiting_count_max: usize,
    /// Whether webhooks may call private addresses: this machine, the local network.
    pub allow_private_addresses: bool,
    /// How long to wait after each failed attempt to deliver to a webhook; after the last one it
    /// is disabled. Give or take a fifth of it.
    pub retry_delays: Vec<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: "wilco-data".into(),
            connections_max: 4096,
            admission: Admission::unlimited(),
            waiting_count_max: 1024,
            allow_private_addresses: false,
            retry_delays: RETRY_DELAYS.to_vec(),
        }
    }
}
