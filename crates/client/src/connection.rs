//! What producers and workers share: the engine, and who waits for which outcome.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::awaited::Awaited;
use crate::clock::Clock;
use crate::transport::Transport;

/// See the module's documentation.
pub(crate) struct Connection {
    pub(crate) transport: Arc<dyn Transport>,
    /// Messages whose outcome somebody waits for.
    pub(crate) awaited: Arc<Awaited>,
    pub(crate) clock: Clock,
    /// Workers that were spawned; some may have ended.
    pub(crate) workers: Mutex<Vec<AbortHandle>>,
    /// Messages that wait in workers for the time of their next attempt.
    pub(crate) parked: Arc<()>,
    /// Workers that were spawned and do not take messages yet.
    pub(crate) starting: Arc<()>,
}
