//! Tells everything that waits that the server is stopping.

use tokio::sync::watch;

/// Says that the server is stopping.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

/// Learns that the server is stopping. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends all waiting, now and from now on.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) fn listen(&self) -> Stopping {
        Stopping(self.0.subscribe())
    }
}

impl Stopping {
    /// Returns when the server is stopping.
    pub(crate) async fn stopped(&mut self) {
        // An error means that the sender is gone: then the server has stopped as well.
        let _ = self.0.wait_for(|stopped| *stopped).await.map(|_| ());
    }
}
