//! Errors of gathered publishes and settlements: they are found when these take effect, after their
//! methods have returned.
//!
//! *Invariant:* an error is reported once: by the flush that the caller asks for, or by the next
//! method on its channel, which then does nothing else. A channel's first error stands for those
//! that follow it.

use broker::BrokerError;

/// An error that closes a channel (or, depending on its code, the connection), with the number of
/// its channel.
pub type ChannelError = (u16, BrokerError);

/// Errors that have not been reported yet, in the order in which they were found.
#[derive(Default)]
pub(super) struct Failed(Vec<ChannelError>);

impl Failed {
    pub(super) fn note(&mut self, channel: u16, error: BrokerError) {
        if !self.has(channel) {
            self.0.push((channel, error));
        }
    }

    pub(super) fn has(&self, channel: u16) -> bool {
        self.0.iter().any(|(of, _)| *of == channel)
    }

    /// Tells everything.
    pub(super) fn tell_all(&mut self) -> Vec<ChannelError> {
        std::mem::take(&mut self.0)
    }

    /// Reports the error on a channel.
    pub(super) fn tell(&mut self, channel: u16) -> Result<(), BrokerError> {
        match self.0.iter().position(|(of, _)| *of == channel) {
            Some(at) => Err(self.0.remove(at).1),
            None => Ok(()),
        }
    }
}
