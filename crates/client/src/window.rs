//! A producer's window: room for messages under way, and for their bytes.

use tokio::sync::OwnedSemaphorePermit;

/// Room in a producer's window.
#[derive(Debug)]
pub(crate) struct Permits {
    pub(crate) _message: OwnedSemaphorePermit,
    pub(crate) _bytes: OwnedSemaphorePermit,
}
