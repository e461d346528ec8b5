//! Publisher confirms: which messages of a channel wait for the log to be durable.
//!
//! A batch of publishes waits for one position, so a channel's queue of waiting confirms has one
//! entry per batch, and each release is one cumulative `basic.ack`; refused messages get their own
//! `basic.nack` between.

use std::collections::{BTreeSet, VecDeque};

use amqp::{BasicAck, BasicNack, ConfirmSelectOk, Method};
use broker::BrokerError;

use super::Session;
use crate::outbox::Wire;

/// The confirms of one channel.
#[derive(Default)]
pub(super) struct Confirms {
    /// Number of the last message published.
    pub last: u64,
    /// Number of the last message confirmed.
    confirmed: u64,
    /// (last number, position that must be durable), numbers and positions growing.
    waiting: VecDeque<(u64, u64)>,
    refused: BTreeSet<u64>,
}

impl Confirms {
    /// The messages up to `last` wait for `position`; 0 waits for nothing.
    pub(super) fn wait(&mut self, last: u64, position: u64) {
        match self.waiting.back_mut() {
            Some(back) if back.1 >= position => back.0 = last,
            _ => self.waiting.push_back((last, position)),
        }
    }

    /// This message was refused by a queue.
    pub(super) fn refuse(&mut self, number: u64) {
        self.refused.insert(number);
    }

    /// Puts on the wire what `durable` allows.
    fn release(&mut self, channel: u16, durable: u64, wire: &mut dyn Wire) {
        let mut last = self.confirmed;
        while let Some(&(number, position)) = self.waiting.front() {
            if position > durable {
                break;
            }
            last = number;
            self.waiting.pop_front();
        }
        while let Some(refused) = self.refused.first().copied().filter(|&number| number <= last) {
            self.ack_until(channel, refused - 1, wire);
            let (delivery_tag, multiple, requeue) = (refused, false, false);
            wire.send(channel, &Method::BasicNack(BasicNack { delivery_tag, multiple, requeue }));
            self.confirmed = refused;
            self.refused.pop_first();
        }
        self.ack_until(channel, last, wire);
    }

    fn ack_until(&mut self, channel: u16, last: u64, wire: &mut dyn Wire) {
        if last > self.confirmed {
            let multiple = last - self.confirmed > 1;
            wire.send(channel, &Method::BasicAck(BasicAck { delivery_tag: last, multiple }));
            self.confirmed = last;
        }
    }
}

impl Session {
    /// Puts a channel into confirm mode.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` on a transactional channel.
    pub fn select_confirms(&mut self, number: u16, no_wait: bool) -> Result<(), BrokerError> {
        let channel = self.channel(number)?;
        if channel.transaction.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(BrokerError::precondition_failed(text));
        }
        channel.confirms.get_or_insert_default();
        if !no_wait {
            self.send(number, &Method::ConfirmSelectOk(ConfirmSelectOk {}));
        }
        Ok(())
    }

    /// Puts on the wire the confirms that are due. To be called after a flush and when the outbox
    /// is woken.
    pub fn release_confirms(&mut self) {
        if self.node.store.is_poisoned() {
            return;
        }
        let durable = self.node.store.durable();
        let is_due = |confirms: &Confirms| {
            confirms.waiting.front().is_some_and(|(_, position)| *position <= durable)
        };
        let channels = self.channels.iter_mut();
        let mut due = channels
            .filter_map(|(number, channel)| Some((*number, channel.confirms.as_mut()?)))
            .filter(|(_, confirms)| is_due(confirms))
            .peekable();
        if due.peek().is_none() {
            return;
        }
        let mut outbox = self.outbox.lock();
        due.for_each(|(number, confirms)| confirms.release(number, durable, &mut *outbox.wire));
    }
}
