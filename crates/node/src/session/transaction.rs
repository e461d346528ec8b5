//! What a channel has gathered since its last commit or rollback.

use std::sync::Arc;

use super::publishes::{OwnedPublish, Pending};
use super::settles::Resolved;
use crate::registry::{LiveQueue, Unsettled};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Transaction {
    pub publishes: Vec<Pending>,
    pub settles: Vec<Gathered>,
    /// Mandatory messages that reached no queue.
    pub returns: Vec<OwnedPublish>,
    /// Memory that all this takes.
    pub bytes: u64,
    /// As of when the permissions to publish all this were looked at first; 0 when nothing was.
    pub epoch: u64,
}

/// A settlement that waits for the commit.
pub(super) struct Gathered {
    pub queue: Arc<LiveQueue>,
    pub resolved: Resolved,
    /// To take it back.
    pub unsettled: Unsettled,
}

impl Transaction {
    pub(super) fn gather(
        &mut self,
        queue: &Arc<LiveQueue>,
        resolved: Resolved,
        unsettled: Unsettled,
    ) {
        self.settles.push(Gathered { queue: Arc::clone(queue), resolved, unsettled });
    }
}
