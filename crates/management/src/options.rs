//! How to open the HTTP server.

use std::path::PathBuf;
use std::time::Duration;

use listener::Admission;

use crate::webhooks::RETRY_DELAYS;

/// How to open the HTTP server; every default in one place.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of the store; webhooks are kept there in `management.redb`.
    pub data: PathBuf,
    /// The most connections at a time.
    pub connections_max: usize,
    /// What bounds the connections of all listeners of the process.
    pub admission: Admission,
    /// The most requests that may wait at a time: long polls and feeds.
    pub waiting_count_max: usize,
    /// Names under which browsers may reach this server, besides its addresses, `localhost` and the
    /// machine's name.
    pub names: Vec<String>,
    /// Whether webhooks may call private addresses: this machine, the local network.
    pub allow_private_addresses: bool,
    /// How long to wait after each failed attempt to deliver to a webhook, give or take a fifth;
    /// after the last one the webhook is disabled.
    pub retry_delays: Vec<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: "wilco-data".into(),
            connections_max: 4096,
            admission: Admission::unlimited(),
            waiting_count_max: 1024,
            names: Vec::new(),
            allow_private_addresses: false,
            retry_delays: RETRY_DELAYS.to_vec(),
        }
    }
}
