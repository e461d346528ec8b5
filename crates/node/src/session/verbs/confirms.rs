//! Confirm mode: choosing it, and telling the sink what is due.

use broker::BrokerError;

use crate::session::state::Session;

impl Session {
    /// Puts a channel into confirm mode.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` on a transactional channel.
    pub fn select_confirms(&mut self, number: u16) -> Result<(), BrokerError> {
        self.flush_channel(number)?;
        let channel = self.channel(number)?;
        if channel.transaction.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(BrokerError::precondition_failed(text));
        }
        channel.confirms.get_or_insert_default();
        Ok(())
    }

    /// Passes the confirms that are due to the sink. Must be called after a flush and when the
    /// outbox is woken.
    pub fn release_confirms(&mut self) {
        if self.engine.store.is_poisoned() {
            return;
        }
        if self.outbox.take_has_decided() {
            self.take_decided();
        }
        let durable = self.engine.store.durable();
        let channels = self.channels.iter_mut();
        let mut due = channels
            .filter_map(|(number, channel)| Some((*number, channel.confirms.as_mut()?)))
            .filter(|(_, confirms)| confirms.is_due(durable))
            .peekable();
        if due.peek().is_none() {
            return;
        }
        let mut outbox = self.outbox.lock();
        due.for_each(|(number, confirms)| confirms.release(number, durable, &mut *outbox.sink));
    }

    /// Takes over decisions about held confirms.
    fn take_decided(&mut self) {
        let mut outbox = self.outbox.lock();
        for (number, of_channel) in &mut outbox.channels {
            let channel = self.channels.get_mut(number);
            if let Some(confirms) = channel.and_then(|channel| channel.confirms.as_mut()) {
                confirms.decided.append(&mut of_channel.decided);
            }
        }
    }

    /// The number of the next message published on a channel in confirm mode.
    pub(super) fn next_confirm(&mut self, number: u16) -> Option<u64> {
        let confirms = self.channels.get_mut(&number)?.confirms.as_mut()?;
        confirms.last += 1;
        Some(confirms.last)
    }
}
