//! Limits for what a client has begun and not finished: messages whose bodies are still arriving,
//! open transactions. These take memory, and only their client can end them.
//!
//! *Invariant:* a session gives back what it took, at the latest when it is closed.

use std::sync::atomic::Ordering;

use broker::BrokerError;

use crate::auth::Access;
use crate::session::state::Session;

impl Session {
    /// Checks that this user may publish to an exchange at all. To be called before a body is
    /// gathered; [`Session::publish`] checks everything.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`.
    pub fn check_publish(&self, exchange: &str) -> Result<(), BrokerError> {
        self.check(Access::Write, "exchange", exchange)
    }

    /// Takes memory for an incomplete message: while there is one, this session counts as one that
    /// publishes ([`Session::poll_ready`]). The memory is taken in any case: after an error the
    /// caller gives back everything that the message has taken.
    ///
    /// # Errors
    /// `CONTENT_TOO_LARGE` when this connection, this user, or all connections together have too much
    /// unfinished.
    pub fn take_unfinished(&mut self, bytes: u64) -> Result<(), BrokerError> {
        self.under_way_bytes += bytes;
        self.take_memory(bytes)
    }

    /// The same for memory that belongs to no incomplete message, and so does not make this a
    /// publisher.
    pub(super) fn take_memory(&mut self, bytes: u64) -> Result<(), BrokerError> {
        self.unfinished_bytes += bytes;
        let limits = &self.engine.limits;
        let all = self.engine.unfinished_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_user = self.user_use.unfinished_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let own_max = limits.of_connection_bytes_max();
        if self.unfinished_bytes > own_max {
            return Err(BrokerError::content_too_large(format!(
                "unfinished messages and transactions of this connection take more than {own_max} bytes; finish some first"
            )));
        }
        let of_user_max = limits.of_user_bytes_max();
        if of_user > of_user_max {
            let user = &self.user;
            return Err(BrokerError::content_too_large(format!(
                "unfinished messages and transactions of user '{user}' take more than {of_user_max} bytes; finish some first"
            )));
        }
        if all > limits.of_all_bytes_max() {
            return Err(BrokerError::content_too_large(
                "unfinished messages and transactions of all connections take too much memory; try again later",
            ));
        }
        Ok(())
    }

    /// Gives memory back: the message is finished or abandoned.
    pub fn give_back_unfinished(&mut self, bytes: u64) {
        self.under_way_bytes = self.under_way_bytes.saturating_sub(bytes);
        self.give_back_memory(bytes);
    }

    pub(super) fn give_back_memory(&mut self, bytes: u64) {
        let bytes = bytes.min(self.unfinished_bytes);
        self.unfinished_bytes -= bytes;
        self.engine.unfinished_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.user_use.unfinished_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
