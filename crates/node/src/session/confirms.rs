//! Publisher confirms: which messages of a channel wait for the log to become durable.
//!
//! A batch of publishes waits for one position, so a channel's queue of waiting confirms has one
//! entry per batch, and each release is one cumulative confirm; refused messages are nacked one by
//! one in between. A confirm that is held until its message is acked (`x-confirm-on: ack`) is left
//! out and sent by itself, and while it is held, no later one can be cumulative.

use std::collections::{BTreeSet, VecDeque};

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
    pub decided: Vec<Decided>,
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

    /// How many messages have been published and not confirmed, those that are held left out.
    pub(super) fn outstanding_count(&self) -> u64 {
        self.last - self.confirmed
    }

    /// Whether `durable` allows any confirms.
    pub(super) fn is_due(&self, durable: u64) -> bool {
        self.waiting.front().is_some_and(|(_, position)| *position <= durable)
            || self.decided.iter().any(|decided| decided.position <= durable)
    }

    /// Sends the confirms that `durable` allows.
    pub(super) fn release(&mut self, channel: u16, durable: u64, sink: &mut dyn Sink) {
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
