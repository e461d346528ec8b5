//! How long to wait between attempts.

use std::time::Duration;

/// How long to wait before a message is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

/// The longest wait, unless said otherwise.
const MOST: Duration = Duration::from_secs(300);

impl Backoff {
    /// The same wait each time.
    pub const fn constant(delay: Duration) -> Self {
        Self { first: delay, most: delay }
    }

    /// This long after the first attempt, then twice as long each time, up to five minutes.
    pub const fn exponential(first: Duration) -> Self {
        Self { first, most: MOST }
    }

    /// Never longer than this.
    pub const fn at_most(self, most: Duration) -> Self {
        Self { first: self.first, most }
    }

    /// The wait after so many attempts, without jitter.
    pub(crate) fn after(self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.most)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::exponential(Duration::from_secs(1)).at_most(Duration::from_secs(5));
        let waits: Vec<_> =
            [1, 2, 3, 4, 99].map(|attempts| backoff.after(attempts).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(Backoff::constant(Duration::from_millis(7)).after(9), Duration::from_millis(7));
    }
}
