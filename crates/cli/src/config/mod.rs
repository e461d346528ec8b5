//! The configuration: one tree, its defaults, and the layers that make it up.
//!
//! Order of precedence: command line, environment, file, default. The tree is read once, checked
//! and handed down; nothing reads it from anywhere else. [`wilco.example.toml`] describes each key.
//!
//! [`wilco.example.toml`]: ../../../../wilco.example.toml

mod file;
mod http_address;
mod keys;
mod layers;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::http_address::HttpAddress;
use crate::failure::Failure;

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Everything that can be set. Defaults are those of the part of wilco that a setting is for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Limits,
    pub(crate) auth: Auth,
    pub(crate) http: Http,
    pub(crate) webhooks: Webhooks,
    pub(crate) log: Log,
    /// Only on the command line, since it is meant for one start.
    #[serde(skip)]
    pub(crate) accepts_loss: bool,
}

/// Section `[listen]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    pub(crate) amqp: SocketAddr,
    pub(crate) http: HttpAddress,
}

/// Section `[store]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    pub(crate) data: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) body_cache_bytes: u64,
    pub(crate) disk_free_bytes_min: u64,
}

/// When a persistent message counts as stored.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// When `fdatasync` has returned.
    Synced,
    /// When it has been written: a crash of the machine loses the last confirmed messages.
    Relaxed,
}

/// Section `[ledger]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ledger {
    pub(crate) retention_hours: u64,
    pub(crate) size_bytes_max: u64,
    pub(crate) dedup_window_hours: u64,
}

/// Section `[limits]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) connections_max: usize,
    /// 0 stands for no limit.
    pub(crate) connections_per_user_max: usize,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
    pub(crate) handshake_timeout_ms: u64,
    pub(crate) message_bytes_max: u64,
    /// 0 stands for the node's default, which depends on the machine.
    pub(crate) memory_bytes_max: u64,
    pub(crate) connection_unfinished_bytes_max: u64,
}

/// Section `[auth]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    pub(crate) loopback_users: Vec<String>,
}

/// Section `[http]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) names: Vec<String>,
}

/// Section `[webhooks]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhooks {
    pub(crate) allow_private_addresses: bool,
}

/// Section `[log]`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) filter: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self { amqp: server::Options::default().address, http: HttpAddress::default() }
    }
}

impl Default for Store {
    fn default() -> Self {
        let node::Options { data, store, .. } = node::Options::default();
        Self {
            data,
            durability: if store.relaxed { Durability::Relaxed } else { Durability::Synced },
            segment_bytes: store.segment_bytes_max,
            body_cache_bytes: store.body_cache_bytes,
            disk_free_bytes_min: store.disk_free_bytes_min,
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let ledger = node::Options::default().ledger;
        Self {
            retention_hours: ledger.retention_ms / HOUR_MS,
            size_bytes_max: ledger.bytes_max,
            dedup_window_hours: ledger.window_ms / HOUR_MS,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (node, server) = (node::Options::default().limits, server::Options::default());
        Self {
            connections_max: server.connections_max,
            connections_per_user_max: node.connections_per_user_max,
            channel_max: server.channel_max,
            frame_max: server.frame_max,
            heartbeat_s: server.heartbeat_s,
            handshake_timeout_ms: server.handshake_timeout_ms,
            message_bytes_max: node.message_bytes_max,
            memory_bytes_max: 0,
            connection_unfinished_bytes_max: node.connection_unfinished_bytes_max,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { loopback_users: node::Options::default().loopback_users }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        let management = management::Options::default();
        Self { allow_private_addresses: management.allow_private_addresses }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned() }
    }
}

impl Config {
    /// The configuration as TOML, like its file.
    pub(crate) fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(Failure::runtime)
    }

    /// The node's options.
    pub(crate) fn node_options(&self) -> node::Options {
        let mut options = node::Options::default();
        options.data.clone_from(&self.store.data);
        options.store.segment_bytes_max = self.store.segment_bytes;
        options.store.body_cache_bytes = self.store.body_cache_bytes;
        options.store.disk_free_bytes_min = self.store.disk_free_bytes_min;
        options.store.accepts_loss = self.accepts_loss;
        options.limits.heap = crate::heap::heap();
        options.store.relaxed = self.store.durability == Durability::Relaxed;
        options.ledger.retention_ms = self.ledger.retention_hours * HOUR_MS;
        options.ledger.bytes_max = self.ledger.size_bytes_max;
        options.ledger.window_ms = self.ledger.dedup_window_hours * HOUR_MS;
        options.limits.message_bytes_max = self.limits.message_bytes_max;
        options.limits.connections_per_user_max = self.limits.connections_per_user_max;
        options.limits.connection_unfinished_bytes_max =
            self.limits.connection_unfinished_bytes_max;
        if self.limits.memory_bytes_max != 0 {
            options.limits.memory_bytes_max = self.limits.memory_bytes_max;
        }
        options.loopback_users.clone_from(&self.auth.loopback_users);
        options
    }

    /// The AMQP server's options.
    pub(crate) fn server_options(&self) -> server::Options {
        server::Options {
            address: self.listen.amqp,
            channel_max: self.limits.channel_max,
            frame_max: self.limits.frame_max,
            heartbeat_s: self.limits.heartbeat_s,
            handshake_timeout_ms: self.limits.handshake_timeout_ms,
            connections_max: self.limits.connections_max,
            ..server::Options::default()
        }
    }

    /// The HTTP server's options.
    pub(crate) fn management_options(&self) -> management::Options {
        let mut options = management::Options::default();
        options.data.clone_from(&self.store.data);
        options.names.clone_from(&self.http.names);
        options.allow_private_addresses = self.webhooks.allow_private_addresses;
        options
    }
}

#[cfg(test)]
mod tests;
