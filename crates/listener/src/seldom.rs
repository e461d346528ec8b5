//! Limits warnings that an attacker could cause at will: one line every ten seconds, with a count.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts what happened since the last line; one instance per kind of event.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    count: u64,
}

impl Seldom {
    /// Counts an event. If a line is due, returns the number of events since the last one, this one
    /// included.
    pub(crate) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += 1;
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.count(start), Some(1));
        for ms in 1..100 {
            assert_eq!(seldom.count(start + Duration::from_millis(ms)), None);
        }
        assert_eq!(seldom.count(start + INTERVAL), Some(100));
        assert_eq!(seldom.count(start + INTERVAL), None);
        assert_eq!(seldom.count(start + 3 * INTERVAL), Some(2));
    }
}
