//! Publisher confirms: which messages of a channel wait for the log to become durable.
//!
//! A batch of publishes waits for one position, so a channel's queue of waiting confirms has one
//! entry per batch, and each release is one cumulative confirm; refused messages are nacked one by
//! one in between. A confirm that is held until its message is acked (`x-confirm-on: ack`) is left
//! out and sent by itself, and while it is held, no later one can be cumulative.

use std::collections::{BTreeSet, VecDeque};

use broker::BrokerError;

use super::Session;
use crate::registry::Decided;
use crate::sink::Sink;

/// The confirms of one channel.
#[derive(Default)]
pub(super) struct Confirms {
    /// The number of the last published message.
    pub last: u64,
    /// Everything up to here has been confirmed, or is held.
    confirmed: u64,
    /// (last number, position that must be durable); both numbers and positions grow.
    waiting: VecDeque<(u64, u64)>,
    refused: BTreeSet<u64>,
    /// Confirmed once it is decided what became of the message, and not before.
    held: BTreeSet<u64>,
    /// Decided, but waiting for that to be durable.
    decided: Vec<Decided>,
    /// Held ones that were confirmed before their turn came.
    told: BTreeSet<u64>,
}

impl Confirms {
    /// The messages up to `last` wait for `position`; with 0 they wait for nothing.
    pub(super) fn wait(&mut self, last: u64, position: u64) {
        match self.waiting.back_mut() {
            Some(back) if back.1 >= position => back.0 = last,
            _ => self.waiting.push_back((last, position)),
        }
    }

    /// A queue refused this message.
    pub(super) fn refuse(&mut self, number: u64) {
        if !self.held.contains(&number) {
            self.refused.insert(number);
        }
    }

    /// Holds the confirm of this message, which is decided elsewhere.
    pub(super) fn hold(&mut self, number: u64) {
        self.held.insert(number);
    }

    /// Whether `durable` allows any confirms.
    fn is_due(&self, durable: u64) -> bool {
        self.waiting.front().is_some_and(|(_, position)| *position <= durable)
            || self.decided.iter().any(|decided| decided.position <= durable)
    }

    /// Sends the confirms that `durable` allows.
    fn release(&mut self, channel: u16, durable: u64, sink: &mut dyn Sink) {
        self.release_decided(channel, durable, sink);
        let mut last = self.confirmed;
        while let Some((number, _)) = self.waiting.pop_front_if(|(_, at)| *at <= durable) {
            last = number;
        }
        while let Some(number) = self.next_special(last) {
            self.ack_until(channel, number - 1, sink);
            self.confirmed = number;
            self.told.remove(&number);
            if self.refused.remove(&number) {
                answer(channel, number, false, sink);
            }
        }
        self.ack_until(channel, last, sink);
    }

    fn release_decided(&mut self, channel: u16, durable: u64, sink: &mut dyn Sink) {
        for decided in self.decided.extract_if(.., |decided| decided.position <= durable) {
            if self.held.remove(&decided.number) {
                answer(channel, decided.number, decided.is_acked, sink);
                if decided.number > self.confirmed {
                    self.told.insert(decided.number);
                }
            }
        }
    }

    /// The next message up to `last` that is not simply acked in turn.
    fn next_special(&self, last: u64) -> Option<u64> {
        let from = self.confirmed + 1;
        if from > last {
            return None;
        }
        let next = |set: &BTreeSet<u64>| set.range(from..=last).next().copied();
        [next(&self.refused), next(&self.held), next(&self.told)].into_iter().flatten().min()
    }

    fn ack_until(&mut self, channel: u16, last: u64, sink: &mut dyn Sink) {
        // A cumulative ack would also ack what is held.
        let is_one_by_one = self.held.first().is_some_and(|&held| held <= last);
        while is_one_by_one && self.confirmed < last {
            self.confirmed += 1;
            answer(channel, self.confirmed, true, sink);
        }
        if last > self.confirmed {
            let multiple = last - self.confirmed > 1;
            sink.confirmed(channel, last, multiple);
            self.confirmed = last;
        }
    }
}

fn answer(channel: u16, number: u64, is_acked: bool, sink: &mut dyn Sink) {
    match is_acked {
        true => sink.confirmed(channel, number, false),
        false => sink.refused(channel, number),
    }
}

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
