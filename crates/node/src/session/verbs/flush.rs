//! Carrying out what was gathered: publishes, then settlements.

use std::sync::Arc;

use broker::queue::{Incoming, Published};
use broker::{BrokerError, Message, Position};

use crate::engine::Engine;
use crate::engine::outcomes::duplicates::Duplicate;
use crate::session::ChannelError;
use crate::session::publishes::{Group, Pending, Placed, PublishBatch};
use crate::session::state::Session;
use crate::store::Waiter;

impl Session {
    /// Carries out what was gathered: publishes, then settlements. Returns the channels with
    /// errors; they should be closed.
    pub fn flush(&mut self) -> Vec<ChannelError> {
        self.carry_out();
        self.failed.tell_all()
    }

    /// The same for a caller that looks after one channel only: errors on others are reported
    /// later.
    ///
    /// # Errors
    /// The error on this channel; `CHANNEL_ERROR` when it is not open.
    pub fn flush_channel(&mut self, number: u16) -> Result<(), BrokerError> {
        self.carry_out();
        self.failed.tell(number)?;
        self.channel(number).map(|_| ())
    }

    /// Confirms something that went another way, after everything published before it.
    pub(super) fn confirm_in_turn(&mut self, number: u16) -> Result<(), BrokerError> {
        self.channel(number)?;
        if let Some(message) = self.next_confirm(number) {
            self.confirm_also(number, message);
        }
        Ok(())
    }

    /// The same with a nack.
    pub(super) fn refuse_in_turn(&mut self, number: u16) -> Result<(), BrokerError> {
        self.confirm_in_turn(number)?;
        if let Some(confirms) = self.channel(number)?.confirms.as_mut() {
            confirms.refuse(confirms.last);
        }
        Ok(())
    }

    /// Gives the confirm of this message its turn after everything published before it.
    pub(super) fn confirm_also(&mut self, number: u16, message: u64) {
        let confirm = Some((number, message));
        let (message, route, position) = (None, Arc::default(), None);
        self.publishes.pending.push(Pending { message, route, position, confirm, asks: false });
    }

    /// Carries out what was gathered: publishes, then settlements. Errors wait in `failed`.
    pub(super) fn carry_out(&mut self) {
        if self.publishes.pending.is_empty() {
            return self.flush_settles();
        }
        let mut pending = std::mem::take(&mut self.publishes.pending);
        self.traffic.published(pending.len());
        let duplicates = match std::mem::take(&mut self.publishes.has_tracked) {
            true => {
                let now_ms = self.engine.now_ms();
                self.append_once(&mut pending, now_ms, |pending| self.log_pending(pending))
            }
            false => {
                self.log_pending(&mut pending);
                Vec::new()
            }
        };
        self.publishes.pending = pending;
        let has_duplicates = !duplicates.is_empty();
        self.placed = self.publishes.pending.last().map_or_else(Placed::default, |last| Placed {
            position: last.position.map(Position::get),
            published_at_ms: last.message.as_ref().map(|message| message.head().published_at_ms),
            is_duplicate: has_duplicates,
        });
        let refused = self.enqueue_pending(duplicates);
        let last = self.publishes.pending.iter().rev().find_map(|pending| pending.position);
        // Whole batches become durable, so a position past the last message's first byte is past
        // the message.
        let mut position = last.map_or(0, |position| position.get() + 1);
        // Messages precede settlements in the log: a worker's result comes before the ack of the
        // message from which it was made. A confirm also covers the acks that came before it on
        // this connection, so it waits for them too.
        let has_settles = !self.settles.is_empty();
        self.flush_settles();
        if has_settles && position > 0 || has_duplicates {
            ((), position) = self.engine.store.append(Some(&self.waiter), |_| ());
        }
        self.note_confirms(position, &refused);
    }

    /// What the last flush with anything to publish did with the last message. Whether that was a
    /// duplicate is known only if it was the only one.
    pub fn placed(&self) -> Placed {
        self.placed
    }

    /// Logs those of the gathered messages that must be logged.
    fn log_pending(&self, pending: &mut [Pending]) {
        let keeps_bodies = self.engine.keeps_bodies();
        let must_log = |pending: &Pending| {
            let Some(head) = pending.message.as_ref().map(Message::head) else { return false };
            (head.persistent && pending.route.is_durable)
                || ((head.is_tracked || !keeps_bodies) && !pending.route.queues.is_empty())
        };
        if !pending.iter().any(must_log) {
            return;
        }
        let awaited = pending.iter().any(|pending| pending.confirm.is_some());
        let waiter: Option<&Arc<dyn Waiter>> = awaited.then_some(&self.waiter);
        self.engine.store.append(waiter, |appender| {
            for pending in pending.iter_mut().filter(|pending| must_log(pending)) {
                pending.log(appender.batch);
            }
        });
    }

    /// Puts the gathered messages, which have been logged, into their queues, and attaches
    /// duplicates to their originals. Returns the confirms of those that a queue refused.
    /// [`Session::note_confirms`] must follow.
    pub(super) fn enqueue_pending(
        &mut self,
        duplicates: Vec<Duplicate>,
    ) -> Vec<Option<(u16, u64)>> {
        let now_ms = self.engine.now_ms();
        let originals: Vec<_> = duplicates.iter().map(|d| (d.key(), d.confirm)).collect();
        let mut refused = Vec::new();
        for duplicate in duplicates {
            let confirm = duplicate.confirm;
            if !self.engine.attach_duplicate(duplicate) {
                refused.push(confirm);
            }
        }
        let keep_body = self.engine.keeps_bodies();
        let unroutable = |pending: &&mut Pending| pending.route.queues.is_empty();
        for pending in self.publishes.pending.iter_mut().filter(unroutable) {
            if let Some(message) = pending.message.take_if(|message| message.head().is_tracked) {
                self.engine.tell_unroutable(&self.vhost, message);
            }
        }
        let group_count = self.publishes.group_by_queue();
        let PublishBatch { pending, groups, .. } = &mut self.publishes;
        for group in &mut groups[..group_count] {
            let engine = &self.engine;
            let charged = enqueue_group(engine, now_ms, keep_body, group, pending, &mut refused);
            if let Some(taken_count) = charged {
                let count = group.messages.len() as u64;
                self.credit.charge(&group.queue, taken_count, now_ms, count);
            }
            group.messages.clear();
        }
        // Groups keep their memory for the next batch, but must not keep their queues for ever.
        groups.truncate(16);
        refused.append(&mut self.engine.refused_originals(&originals));
        refused
    }

    /// Notes which confirms wait for `position`, and forgets the batch.
    pub(super) fn note_confirms(&mut self, position: u64, refused: &[Option<(u16, u64)>]) {
        let mut last: Option<(u16, u64)> = None;
        let pending = std::mem::take(&mut self.publishes.pending);
        for (number, message) in pending.iter().filter_map(|p| p.confirm) {
            match last {
                Some((channel, _)) if channel == number => {}
                Some((channel, message)) => self.wait_for_confirm(channel, message, position),
                None => {}
            }
            last = Some((number, message));
        }
        if let Some((channel, message)) = last {
            self.wait_for_confirm(channel, message, position);
        }
        for &(channel, message) in refused.iter().flatten() {
            if let Some(confirms) =
                self.channels.get_mut(&channel).and_then(|c| c.confirms.as_mut())
            {
                confirms.refuse(message);
            }
        }
        self.publishes.pending = pending;
        self.publishes.pending.clear();
    }

    fn wait_for_confirm(&mut self, channel: u16, message: u64, position: u64) {
        let confirms = self.channels.get_mut(&channel).and_then(|c| c.confirms.as_mut());
        let Some(confirms) = confirms else { return };
        confirms.wait(message, position);
        self.traffic.unconfirmed(confirms.outstanding_count());
    }
}

/// Puts messages into one queue. Answers when to put in more, as [`broker::queue::Queue::charge`].
fn enqueue_group(
    engine: &Engine,
    now_ms: u64,
    keeps_bodies: bool,
    group: &Group,
    pending: &mut [Pending],
    refused: &mut Vec<Option<(u16, u64)>>,
) -> Option<u64> {
    let enqueued = engine.with_queue(&group.queue, now_ms, |core, effects| {
        for &index in &group.messages {
            let pending = &mut pending[index as usize];
            let position = pending.position;
            let message = match pending.route.queues.len() {
                1 => pending.message.take(),
                _ => pending.message.clone(),
            };
            let Some(message) = message else { continue };
            let keep_body = keeps_bodies || position.is_none();
            let incoming = Incoming { message, position, keep_body };
            if core.publish(now_ms, incoming, effects) == Published::Refused {
                refused.push(pending.confirm);
            }
        }
        core.charge(now_ms, group.messages.len() as u64)
    });
    if enqueued.is_none() {
        engine.with_agenda(|agenda| {
            for &index in &group.messages {
                let Pending { message, position, .. } = &pending[index as usize];
                engine.lose(&group.queue, message.clone(), *position, agenda);
            }
        });
    }
    enqueued.flatten()
}
