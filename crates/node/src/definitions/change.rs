//! One change of the definitions, and its form as a record of the log.
//!
//! A record is one byte of version followed by JSON: changes are rare, so being readable and
//! evolvable counts for more than size.

use serde::{Deserialize, Serialize};

use super::{DefinitionError, Permissions, StoredBinding, StoredExchange, StoredQueue, User};

/// Version byte of an encoded change.
const VERSION: u8 = 1;

/// One change of the definitions. A `Put` creates or replaces. Deleting something that is not
/// there changes nothing.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A virtual host exists.
    VhostPut {
        /// Its name.
        name: String,
        /// Tells it from others of that name, before and after it.
        #[serde(default)]
        incarnation: u64,
    },
    /// A virtual host is gone, with its permissions, exchanges, queues and bindings.
    VhostDeleted {
        /// Its name.
        name: String,
    },
    /// A user exists as given.
    UserPut(User),
    /// A user is gone, with its permissions.
    UserDeleted {
        /// Its name.
        name: String,
    },
    /// A user has these permissions in a virtual host.
    PermissionsPut {
        /// Name of the virtual host.
        vhost: String,
        /// Name of the user.
        user: String,
        /// The permissions, all three.
        permissions: Permissions,
    },
    /// A user may no longer enter a virtual host.
    PermissionsDeleted {
        /// Name of the virtual host.
        vhost: String,
        /// Name of the user.
        user: String,
    },
    /// An exchange exists as given.
    ExchangePut {
        /// Name of the virtual host.
        vhost: String,
        /// The exchange.
        exchange: StoredExchange,
    },
    /// An exchange is gone, with every binding from it and to it.
    ExchangeDeleted {
        /// Name of the virtual host.
        vhost: String,
        /// Name of the exchange.
        name: String,
    },
    /// A queue exists as given.
    QueuePut {
        /// Name of the virtual host.
        vhost: String,
        /// The queue.
        queue: StoredQueue,
    },
    /// A queue is gone, with every binding to it. Nothing changes if the queue of that name has
    /// another id, for then it is a later queue.
    QueueDeleted {
        /// Name of the virtual host.
        vhost: String,
        /// Name of the queue.
        name: String,
        /// Id of the queue.
        id: u32,
    },
    /// Ids below this may belong to queues in no definition, because they were not durable.
    QueueIdsReserved {
        /// The first id that is still free.
        end: u32,
    },
    /// A binding exists.
    BindingPut {
        /// Name of the virtual host.
        vhost: String,
        /// The binding.
        binding: StoredBinding,
    },
    /// A binding is gone.
    BindingDeleted {
        /// Name of the virtual host.
        vhost: String,
        /// The binding.
        binding: StoredBinding,
    },
}

impl Change {
    /// The change as the payload of a log record.
    pub fn encode(&self) -> Vec<u8> {
        let mut record = vec![VERSION];
        // Only maps whose keys are not strings can fail to become JSON; a change has none.
        serde_json::to_writer(&mut record, self).expect("a change has a JSON form");
        record
    }

    /// The change in a log record's payload.
    ///
    /// # Errors
    /// [`DefinitionError::Change`] for an unknown version or a payload that is not a change.
    pub fn decode(record: &[u8]) -> Result<Self, DefinitionError> {
        let unreadable = |reason: String| DefinitionError::Change { reason };
        match record.split_first() {
            None => Err(unreadable("the record is empty".to_owned())),
            Some((&VERSION, json)) => {
                serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))
            }
            Some((version, _)) => Err(unreadable(format!(
                "its version is {version}, this version of wilco reads {VERSION}"
            ))),
        }
    }
}
