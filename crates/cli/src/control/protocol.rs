//! What is sent over the control socket.

use serde::{Deserialize, Serialize};

/// Bytes of one line, in either direction: a sanity bound, far above any real request.
pub(super) const REQUEST_BYTES_MAX: u64 = 64 << 10;
pub(super) const RESPONSE_BYTES_MAX: u64 = 256 << 20;

/// A request, as one line of JSON. May hold a password, so it has no `Debug`.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    UserAdd { name: String, password: String, tags: Vec<String> },
    UserList,
    UserDelete { name: String },
    UserPassword { name: String, password: String },
    VhostAdd { name: String },
    VhostList,
    VhostDelete { name: String },
    PermissionSet { vhost: String, user: String, configure: String, write: String, read: String },
    PermissionList,
    PermissionClear { vhost: String, user: String },
}

impl Request {
    /// Whether it changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Self::UserList | Self::VhostList | Self::PermissionList)
    }
}

/// The response to a request, as one line of JSON.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    /// It is done, durably.
    Done,
    Users(Vec<UserEntry>),
    Vhosts(Vec<String>),
    Permissions(Vec<PermissionEntry>),
    /// It was refused; one line says why.
    Error(String),
}

/// A user in a list. Without the password hash, which nobody needs to see.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct UserEntry {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
}

/// Permissions in a list.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct PermissionEntry {
    pub(crate) vhost: String,
    pub(crate) user: String,
    pub(crate) configure: String,
    pub(crate) write: String,
    pub(crate) read: String,
}
