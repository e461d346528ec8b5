//! What the connections of a listener share. Only the flag that the server is stopping ever
//! changes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use node::Node;

use crate::options::Options;

/// What all connections share.
pub(crate) struct Shared {
    pub node: Arc<Node>,
    pub options: Options,
    /// The server is stopping: say goodbye.
    pub is_stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn new(node: Arc<Node>, options: Options) -> Arc<Self> {
        Arc::new(Self { node, options, is_stopping: AtomicBool::new(false) })
    }
}
