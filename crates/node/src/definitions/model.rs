//! The stored form of each definition. `arguments` are an AMQP field table in its wire encoding,
//! without its length: kept as the client sent it, and compared when it is declared again.

use serde::{Deserialize, Serialize};

use super::hex_bytes;

/// A user. The password itself is never stored.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Unique name.
    pub name: String,
    /// Argon2id hash in PHC form, from [`hash_password`](crate::auth::hash_password).
    pub password_hash: String,
    /// Tags such as `administrator`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Tells it from others of that name, before and after it.
    #[serde(default)]
    pub incarnation: u64,
}

/// What one user may do in one virtual host: three regular expressions over resource names.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Which exchanges and queues may be declared and deleted.
    pub configure: String,
    /// Which exchanges may be published to, which queues bound.
    pub write: String,
    /// Which queues may be consumed from, which exchanges bound from.
    pub read: String,
}

/// An exchange as it is stored.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StoredExchange {
    /// Name, unique in its virtual host.
    pub name: String,
    /// `direct`, `fanout`, `topic` or `headers`.
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last binding.
    pub auto_delete: bool,
    /// Not to be published to by clients.
    pub internal: bool,
    /// Encoded field table.
    #[serde(with = "hex_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<u8>,
}

/// A queue as it is stored.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StoredQueue {
    /// Unique in the node for ever; message records in the log name their queues by it.
    pub id: u32,
    /// Name, unique in its virtual host.
    pub name: String,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last consumer.
    pub auto_delete: bool,
    /// Belongs to one connection.
    pub exclusive: bool,
    /// Encoded field table.
    #[serde(with = "hex_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<u8>,
}

/// A binding as it is stored. All of it together is its identity.
///
/// The order of the fields is the order of sorting, so that the bindings to one destination lie
/// side by side.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredBinding {
    /// Whether the destination is a queue; otherwise it is an exchange.
    pub destination_is_queue: bool,
    /// Name of the queue or exchange that messages go to.
    pub destination: String,
    /// Name of the exchange that messages come from.
    pub source: String,
    /// Routing key or pattern.
    pub routing_key: String,
    /// Encoded field table.
    #[serde(with = "hex_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<u8>,
}
