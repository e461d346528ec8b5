//! The window: the messages of a publisher that are not done, in a ring of slots found by the
//! message's number.
//!
//! Numbers are the channel's publishing sequence numbers, from 1 on: confirms refer to them, and
//! the ids of tracked messages contain them. Every message from the oldest that is not done to the
//! latest has a slot of its own, so nothing is searched for and no message is mistaken for another.

/// What a message still awaits, as bits; 0 when it is done.
const CONFIRM: u8 = 1;
const OUTCOME: u8 = 2;

#[derive(Clone, Copy, Default)]
struct Slot {
    sent_at_ns: u64,
    awaits: u8,
}

/// What an outcome turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    /// The first one for its message, which was sent at this time.
    First { sent_at_ns: u64 },
    /// A further one for a message whose outcome is known.
    Again,
    /// One for a message that was never sent.
    Unknown,
}

/// Messages that are sent and not done.
pub(super) struct Window {
    /// The most of them at a time; 0 for no limit, in which case nothing is awaited and nothing
    /// noted.
    limit: u64,
    /// What each message awaits once it is sent.
    awaits: u8,
    slots: Vec<Slot>,
    /// The oldest that is not done, or `next`.
    low: u64,
    /// All below are confirmed; some above may be, too.
    confirmed_below: u64,
    /// The next message's number.
    next: u64,
    unfinished: u64,
    done: u64,
}

impl Window {
    /// A message is done when it is confirmed.
    pub(super) fn of_confirms(limit: u64) -> Self {
        Self::new(limit, CONFIRM)
    }

    /// A message is done when it is confirmed and its outcome is known.
    pub(super) fn of_outcomes(limit: u64) -> Self {
        Self::new(limit, CONFIRM | OUTCOME)
    }

    fn new(limit: u64, awaits: u8) -> Self {
        // Messages are done out of order, so there must be slots beyond the oldest that is not
        // done.
        let slots = (limit * 4).next_power_of_two().max(64);
        Self {
            limit,
            awaits,
            slots: vec![Slot::default(); slots as usize],
            low: 1,
            confirmed_below: 1,
            next: 1,
            unfinished: 0,
            done: 0,
        }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The oldest message that is not done, or the next: all below are done.
    #[inline]
    pub(super) fn oldest_unfinished(&self) -> u64 {
        self.low
    }

    /// How many messages are not done.
    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// How many have been done so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// How many more may be sent now.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        if self.limit == 0 {
            return u64::MAX;
        }
        let slots_left = self.slots.len() as u64 - (self.next - self.low);
        (self.limit - self.unfinished).min(slots_left)
    }

    /// Notes that `count` more messages, at most [`room`](Self::room), were sent.
    #[inline]
    pub(super) fn sent(&mut self, count: u64, now_ns: u64) {
        for number in self.next..self.next + count {
            let at = self.at(number);
            self.slots[at] = Slot { sent_at_ns: now_ns, awaits: self.awaits };
        }
        self.next += count;
        self.unfinished += count;
    }

    /// Processes a confirm; passes each message's send time to `each` and returns how many there
    /// were.
    #[inline]
    pub(super) fn confirm(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) -> u64 {
        let mut count = 0;
        for number in self.named(tag, multiple) {
            if let Some(sent_at_ns) = self.clear(number, CONFIRM) {
                each(sent_at_ns);
                count += 1;
            }
        }
        count
    }

    /// Processes a refusal and returns how many messages it covers. They are over, but do not count
    /// as done.
    pub(super) fn refuse(&mut self, tag: u64, multiple: bool) -> u64 {
        let numbers = self.named(tag, multiple);
        let refused =
            numbers.filter(|number| self.clear(*number, CONFIRM | OUTCOME).is_some()).count();
        self.done -= refused as u64;
        refused as u64
    }

    /// Processes an outcome.
    #[inline]
    pub(super) fn outcome(&mut self, number: u64) -> Matched {
        if number == 0 || number >= self.next {
            return Matched::Unknown;
        }
        match self.clear(number, OUTCOME) {
            Some(sent_at_ns) => Matched::First { sent_at_ns },
            None => Matched::Again,
        }
    }

    /// How many messages still lack their outcome, and how many their confirm.
    pub(super) fn missing(&self) -> (u64, u64) {
        let lacking = |bit| {
            let slots = (self.low..self.next).map(|number| self.slots[self.at(number)]);
            slots.filter(|slot| slot.awaits & bit != 0).count() as u64
        };
        (lacking(OUTCOME), lacking(CONFIRM))
    }

    /// The messages that a confirm may cover.
    fn named(&mut self, tag: u64, multiple: bool) -> std::ops::RangeInclusive<u64> {
        let last = if multiple && tag == 0 { self.next - 1 } else { tag.min(self.next - 1) };
        if !multiple {
            return tag..=last;
        }
        let first = self.low.max(self.confirmed_below);
        self.confirmed_below = self.confirmed_below.max(last + 1);
        first..=last
    }

    /// Clears what a message awaits, and returns when it was sent if it did await any of that.
    #[inline]
    fn clear(&mut self, number: u64, bits: u8) -> Option<u64> {
        if number < self.low || number >= self.next {
            return None;
        }
        let at = self.at(number);
        let slot = &mut self.slots[at];
        if slot.awaits & bits == 0 {
            return None;
        }
        slot.awaits &= !bits;
        let Slot { sent_at_ns, awaits } = *slot;
        if awaits == 0 {
            self.unfinished -= 1;
            self.done += 1;
            while self.low < self.next && self.slots[self.at(self.low)].awaits == 0 {
                self.low += 1;
            }
        }
        Some(sent_at_ns)
    }

    #[inline]
    fn at(&self, number: u64) -> usize {
        number as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(messages: &mut Window, tag: u64, multiple: bool) -> Vec<u64> {
        let mut times = Vec::new();
        messages.confirm(tag, multiple, |time| times.push(time));
        times
    }

    #[test]
    fn a_message_is_done_when_confirm_and_outcome_have_come_in_either_order() {
        let mut messages = Window::of_outcomes(2);
        messages.sent(2, 100);
        assert_eq!(messages.room(), 0);
        assert_eq!(confirmed(&mut messages, 1, false), [100]);
        assert_eq!((messages.done(), messages.unfinished(), messages.room()), (0, 2, 0));
        assert_eq!(messages.outcome(1), Matched::First { sent_at_ns: 100 });
        assert_eq!((messages.done(), messages.room()), (1, 1));
        assert_eq!(messages.outcome(2), Matched::First { sent_at_ns: 100 });
        assert_eq!((messages.done(), messages.room()), (1, 1));
        assert_eq!(messages.missing(), (0, 1));
        assert_eq!(confirmed(&mut messages, 2, false), [100]);
        assert_eq!((messages.done(), messages.unfinished()), (2, 0));
        assert_eq!(messages.missing(), (0, 0));
    }

    #[test]
    fn an_outcome_is_matched_once_and_only_to_what_was_sent() {
        let mut messages = Window::of_outcomes(10);
        messages.sent(3, 100);
        assert_eq!(messages.outcome(0), Matched::Unknown);
        assert_eq!(messages.outcome(4), Matched::Unknown);
        assert_eq!(messages.outcome(3), Matched::First { sent_at_ns: 100 });
        // It is recognized while its confirm is awaited, and later when its slot is free.
        assert_eq!(messages.outcome(3), Matched::Again);
        assert_eq!(confirmed(&mut messages, 0, true), [100; 3]);
        assert_eq!(messages.outcome(3), Matched::Again);
        assert_eq!(messages.missing(), (2, 0));
    }

    #[test]
    fn multiple_confirms_what_single_confirms_left() {
        let mut messages = Window::of_outcomes(10);
        messages.sent(3, 100);
        messages.sent(3, 200);
        assert_eq!(confirmed(&mut messages, 2, false), [100]);
        assert_eq!(confirmed(&mut messages, 4, true), [100, 100, 200]);
        assert!(confirmed(&mut messages, 4, true).is_empty());
        assert!(confirmed(&mut messages, 9, false).is_empty());
        assert_eq!(confirmed(&mut messages, 9, true), [200, 200]);
        messages.sent(1, 300);
        assert_eq!(confirmed(&mut messages, 7, true), [300]);
        assert_eq!(messages.missing(), (7, 0));
    }

    #[test]
    fn refused_messages_are_over_without_being_done() {
        let mut messages = Window::of_outcomes(10);
        messages.sent(4, 100);
        assert_eq!(messages.refuse(2, true), 2);
        assert_eq!(messages.refuse(2, false), 0);
        assert_eq!((messages.done(), messages.unfinished(), messages.room()), (0, 2, 8));
        assert_eq!(messages.missing(), (2, 2));
    }

    #[test]
    fn a_message_that_is_never_done_does_not_let_the_ring_overflow() {
        let mut messages = Window::of_outcomes(16);
        messages.sent(1, 1);
        while messages.room() > 0 {
            let number = messages.next();
            messages.sent(1, 2);
            messages.confirm(number, false, |_| ());
            assert_eq!(messages.outcome(number), Matched::First { sent_at_ns: 2 });
        }
        assert_eq!((messages.unfinished(), messages.done()), (1, 63));
        assert_eq!(messages.outcome(1), Matched::First { sent_at_ns: 1 });
        assert_eq!(confirmed(&mut messages, 1, false), [1]);
        assert_eq!(messages.room(), 16);
    }

    #[test]
    fn without_outcomes_a_confirm_is_all() {
        let mut messages = Window::of_confirms(10);
        messages.sent(3, 100);
        messages.sent(3, 200);
        assert_eq!(messages.room(), 4);
        assert_eq!(confirmed(&mut messages, 2, false), [100]);
        assert_eq!((messages.unfinished(), messages.oldest_unfinished()), (5, 1));
        assert_eq!(confirmed(&mut messages, 4, true), [100, 100, 200]);
        assert_eq!((messages.unfinished(), messages.oldest_unfinished()), (2, 5));
        assert_eq!(confirmed(&mut messages, 0, true), [200, 200]);
        assert_eq!((messages.room(), messages.oldest_unfinished()), (10, 7));
        assert!(confirmed(&mut messages, 1, false).is_empty());
    }

    #[test]
    fn without_confirms_there_is_always_room() {
        assert_eq!(Window::of_confirms(0).room(), u64::MAX);
    }
}
