//! Sending what is encoded already, under an id that is known beforehand: for the outbox.
//!
//! The window is that of a producer. Whoever sends asks for room first and waits for nothing, so one task can
//! serve many queues of which some do not move.

use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore};

use super::receipt::Sent;
use super::send::Encoded;
use super::{Inner, OUTCOME_TIMEOUT, SEND_TIMEOUT, Settings, UNIT_BYTES};
use crate::connection::Connection;
use crate::error::Error;
use crate::outcome::Settled;
use crate::target::Target;
use crate::window::Permits;

/// See the module's documentation.
pub(crate) struct EncodedProducer {
    inner: Arc<Inner>,
    /// Whether its queue or topic is there, and outcomes come.
    is_ready: OnceCell<()>,
}

/// The engine has the message on disk. Its place in the window is free again when this is dropped.
pub(crate) struct HandedOver {
    sent: Sent,
    _permits: Arc<Permits>,
}

impl EncodedProducer {
    pub(crate) fn new(
        connection: Arc<Connection>,
        target: Target,
        window: usize,
        window_bytes: usize,
    ) -> Self {
        let settings = Settings {
            deadline: None,
            window,
            window_bytes,
            send_timeout: SEND_TIMEOUT,
            outcome_timeout: OUTCOME_TIMEOUT,
        };
        let inner = Inner {
            connection,
            target,
            messages: Arc::new(Semaphore::new(window.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(window_bytes.div_ceil(UNIT_BYTES))),
            settings,
        };
        Self { inner: Arc::new(inner), is_ready: OnceCell::new() }
    }

    /// For how many messages there is room now.
    pub(crate) fn room(&self) -> usize {
        self.inner.messages.available_permits()
    }

    /// Room for a message, if there is. A body that is larger than the window has the window to itself.
    pub(crate) fn permits(&self, bytes: usize) -> Option<Permits> {
        let Inner { messages, bytes: window, settings, .. } = &*self.inner;
        let units = bytes.div_ceil(UNIT_BYTES).min(settings.window_bytes.div_ceil(UNIT_BYTES));
        let _message = Arc::clone(messages).try_acquire_owned().ok()?;
        let _bytes = Arc::clone(window).try_acquire_many_owned(units as u32).ok()?;
        Some(Permits { _message, _bytes })
    }

    /// Makes the queue or topic, if it is not there, and hands the message to the engine; returns when that
    /// has it on disk.
    ///
    /// # Errors
    /// As [`Producer::send`](super::Producer::send).
    pub(crate) async fn hand_over(
        &self,
        message: Encoded,
        permits: Permits,
    ) -> Result<HandedOver, Error> {
        let Inner { connection, target, settings, .. } = &*self.inner;
        let sent = Sent::begin(Arc::clone(&self.inner), message);
        let permits = Arc::new(permits);
        let handing_over = async {
            let prepare = async || {
                connection.transport.ensure(target).await?;
                connection.transport.ensure_outcomes().await
            };
            self.is_ready.get_or_try_init(prepare).await?;
            sent.hand_over(&permits).await
        };
        let handed_over = tokio::time::timeout(settings.send_timeout, handing_over).await;
        handed_over.unwrap_or_else(|_| Err(sent.not_confirmed(settings.send_timeout)))?;
        Ok(HandedOver { sent, _permits: permits })
    }
}

impl HandedOver {
    /// What became of it, however long that takes. `None`: the connection was closed before.
    pub(crate) async fn settled(&self) -> Option<Arc<Settled>> {
        self.sent.interest.wait().await
    }
}
