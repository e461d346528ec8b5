//! What producers and workers share: the engine, and who waits for which outcome.

use std::sync::Arc;

use crate::awaited::Awaited;
use crate::transport::Transport;

/// See the module's documentation.
pub(crate) struct Connection {
    pub(crate) transport: Arc<dyn Transport>,
    /// Messages whose outcome somebody waits for.
    pub(crate) awaited: Arc<Awaited>,
}
