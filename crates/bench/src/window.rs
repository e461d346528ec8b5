//! The confirm window: which messages are unconfirmed, and when each was sent.

/// Send times of unconfirmed messages by delivery tag, in a ring; 0 once confirmed.
pub(super) struct Window {
    /// Most unconfirmed messages at a time; 0 when confirms are off.
    limit: u64,
    sent_at_ns: Vec<u64>,
    /// The oldest unconfirmed tag, or `next`: all below are confirmed.
    low: u64,
    /// The next message's tag.
    next: u64,
    unconfirmed: u64,
}

impl Window {
    pub(super) fn new(limit: u64) -> Self {
        // Confirms may come out of order: leave slots beyond the oldest unconfirmed message.
        let slots = (limit * 4).next_power_of_two().max(64);
        Self { limit, sent_at_ns: vec![0; slots as usize], low: 1, next: 1, unconfirmed: 0 }
    }

    /// How many messages are unconfirmed.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// The oldest unconfirmed tag, or the next message's: all below are confirmed.
    #[inline]
    pub(super) fn oldest_unconfirmed(&self) -> u64 {
        self.low
    }

    /// How many more may be sent now.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        if self.limit == 0 {
            return u64::MAX;
        }
        let slots_left = self.sent_at_ns.len() as u64 - (self.next - self.low);
        (self.limit - self.unconfirmed).min(slots_left)
    }

    /// Notes that `count` more messages, at most [`room`](Self::room), were sent.
    #[inline]
    pub(super) fn sent(&mut self, count: u64, now_ns: u64) {
        for tag in self.next..self.next + count {
            let slot = self.slot(tag);
            self.sent_at_ns[slot] = now_ns;
        }
        self.next += count;
        self.unconfirmed += count;
    }

    /// Takes a confirm in; hands each message's send time to `each` and returns how many there
    /// were.
    #[inline]
    pub(super) fn confirm(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) -> u64 {
        let last = if multiple && tag == 0 { self.next - 1 } else { tag.min(self.next - 1) };
        let first = if multiple { self.low } else { tag.max(self.low) };
        let mut count = 0;
        for tag in first..=last {
            let slot = self.slot(tag);
            let sent_at_ns = std::mem::take(&mut self.sent_at_ns[slot]);
            if sent_at_ns != 0 {
                each(sent_at_ns);
                count += 1;
            }
        }
        self.unconfirmed -= count;
        while self.low < self.next && self.sent_at_ns[self.slot(self.low)] == 0 {
            self.low += 1;
        }
        count
    }

    #[inline]
    fn slot(&self, tag: u64) -> usize {
        tag as usize & (self.sent_at_ns.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(window: &mut Window, tag: u64, multiple: bool) -> Vec<u64> {
        let mut times = Vec::new();
        window.confirm(tag, multiple, |time| times.push(time));
        times
    }

    #[test]
    fn multiple_confirms_what_single_confirms_left() {
        let mut window = Window::new(10);
        window.sent(3, 100);
        window.sent(3, 200);
        assert_eq!(window.room(), 4);
        assert_eq!(confirmed(&mut window, 2, false), [100]);
        assert_eq!(confirmed(&mut window, 4, true), [100, 100, 200]);
        assert_eq!(window.unconfirmed(), 2);
        assert_eq!(confirmed(&mut window, 0, true), [200, 200]);
        assert_eq!(window.room(), 10);
    }

    #[test]
    fn confirming_twice_or_what_was_never_sent_counts_nothing() {
        let mut window = Window::new(10);
        window.sent(2, 100);
        assert_eq!(confirmed(&mut window, 1, false), [100]);
        assert!(confirmed(&mut window, 1, false).is_empty());
        assert!(confirmed(&mut window, 9, false).is_empty());
        assert_eq!(window.unconfirmed(), 1);
    }

    #[test]
    fn an_old_unconfirmed_message_does_not_let_the_ring_overflow() {
        let mut window = Window::new(16);
        window.sent(1, 1);
        let mut tag = 2;
        while window.room() > 0 {
            window.sent(1, 2);
            window.confirm(tag, false, |_| ());
            tag += 1;
        }
        assert_eq!(window.unconfirmed(), 1);
        assert_eq!(confirmed(&mut window, 1, false), [1]);
        assert_eq!(window.room(), 16);
    }
}
