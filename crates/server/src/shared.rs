//! What the connections of a listener share. Only the flag that the server is stopping ever
//! changes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use node::Node;

use crate::options::Options;
use crate::ticker::Ticker;

/// What all connections share.
pub(crate) struct Shared {
    pub node: Arc<Node>,
    pub options: Options,
    /// Paces connections over plain sockets; `None` if they are none.
    pub ticker: Option<Arc<Ticker>>,
    /// The server is stopping: say goodbye.
    pub is_stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn new(node: Arc<Node>, options: Options, ticker: Option<Arc<Ticker>>) -> Arc<Self> {
        Arc::new(Self { node, options, ticker, is_stopping: AtomicBool::new(false) })
    }
}
