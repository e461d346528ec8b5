//! The ports over `node`: the only place in this crate that knows it.
//!
//! Owns the translation of values and errors. Never decides who may see what. Blocking work (the
//! ledger's disk, a commit of the store) runs on threads for blocking work.

mod broker;
mod events;
mod messages;
mod publish;

use std::sync::Arc;

use node::Node;
use tokio::sync::Semaphore;

use crate::ports::Ports;

/// How many reads of the ledger there may be at a time.
const READS_MAX: usize = 16;

/// A node, seen through the ports.
pub fn over_node(node: Arc<Node>) -> Ports {
    let over = Arc::new(OverNode { node, reads: Semaphore::new(READS_MAX) });
    Ports { messages: Arc::clone(&over) as _, broker: over }
}

/// See the module's documentation.
struct OverNode {
    node: Arc<Node>,
    /// Reads of the ledger at a time: each may have thousands of events in memory.
    reads: Semaphore,
}
