//! Opening and closing channels, and the end of a session.

use broker::BrokerError;

use crate::registry::ChannelOutbox;
use crate::session::ChannelError;
use crate::session::channel::Channel;
use crate::session::state::Session;

impl Session {
    /// Opens a channel.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when it is open already.
    pub fn open_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        if self.has_channel(number) {
            return Err(BrokerError::channel_error("second 'channel.open' seen"));
        }
        let serial = self.engine.registry.connections.next_serial();
        self.channels.insert(number, Channel::new(serial));
        let opened = ChannelOutbox { serial, ..ChannelOutbox::default() };
        self.outbox.lock().channels.insert(number, opened);
        Ok(())
    }

    /// Closes a channel: its consumers are cancelled, and its unsettled messages go back to their
    /// queues. Leaves a [`Session::barrier`] if something has been settled.
    ///
    /// # Errors
    /// The errors on it that have not been reported yet. It is closed all the same.
    pub fn close_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        let told = self.end_channel(number);
        self.wait_for_settlements();
        told
    }

    fn end_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        self.carry_out();
        let told = self.failed.tell(number);
        let Some(mut channel) = self.channels.remove(&number) else { return told };
        channel.reports.all().for_each(|report| self.forget_report(report));
        // All of them at once, so that messages one gives back are not assigned to the next, over
        // and over.
        channel.cancel_consumers();
        let left = self.outbox.lock().channels.remove(&number);
        // What an uncommitted transaction was to settle goes back, too.
        let gathered = channel.transaction.take().unwrap_or_default();
        self.give_back_memory(gathered.bytes);
        self.drop_consumers(channel);
        if let Some(left) = left {
            self.requeue_all(left, gathered.settles);
        }
        told
    }

    /// Closes everything; exclusive queues are deleted. Leaves a [`Session::barrier`] if something has been
    /// settled. Returns errors that have not been reported yet.
    pub fn close(&mut self) -> Vec<ChannelError> {
        let errors = self.end();
        self.wait_for_settlements();
        errors
    }

    fn end(&mut self) -> Vec<ChannelError> {
        // First of all, so that what one channel gives back does not go to another.
        self.channels.values().for_each(Channel::cancel_consumers);
        let errors = self.flush();
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            // Nothing has been gathered since.
            let told = self.end_channel(number);
            debug_assert!(told.is_ok(), "{told:?}");
        }
        self.give_back_unfinished(self.unfinished_bytes);
        self.engine.registry.connections.remove(&self.outbox);
        self.delete_exclusive_queues();
        self.seat = None;
        errors
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (channel, error) in self.end() {
            tracing::debug!(channel, "nobody is left to be told: {error}");
        }
    }
}
