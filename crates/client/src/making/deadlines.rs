//! The deadlines of the messages that this process has sent: by its own clock.
//!
//! One task for all of them, which sleeps until the next; it ends with the last handle.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::transport::OutcomeSink;

/// Queue and id.
type Key = (Arc<str>, Arc<str>);

/// See the module's documentation.
pub(super) struct Deadlines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    running: Mutex<Running>,
    changed: Notify,
}

#[derive(Default)]
struct Running {
    by_time: BinaryHeap<Reverse<(Instant, Key)>>,
    /// Those that still count, with their end and their beginning: a message that is sent again has a new
    /// one.
    by_key: HashMap<Key, (Instant, SystemTime)>,
}

impl Running {
    /// Those that have passed.
    fn take_passed(&mut self, now: Instant) -> Vec<(Key, SystemTime)> {
        let mut passed = Vec::new();
        while let Some(Reverse((at, _))) = self.by_time.peek()
            && *at <= now
            && let Some(Reverse((at, key))) = self.by_time.pop()
        {
            if let Some((end, began)) = self.by_key.get(&key).copied()
                && end == at
            {
                self.by_key.remove(&key);
                passed.push((key, began));
            }
        }
        // Of those that have ended only their times are left: not for ever.
        if self.by_time.len() > 1000 && self.by_time.len() > 4 * self.by_key.len() {
            let Self { by_time, by_key } = self;
            by_time.retain(|Reverse((at, key))| by_key.get(key).is_some_and(|(end, _)| end == at));
        }
        passed
    }
}

impl Deadlines {
    pub(super) fn new(outcomes: Arc<dyn OutcomeSink>) -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(watch(Arc::downgrade(&shared), outcomes));
        Self { shared }
    }

    /// A message is sent now.
    pub(super) fn begin(&self, queue: &Arc<str>, id: &Arc<str>, deadline: Duration) {
        let Some(end) = Instant::now().checked_add(deadline) else { return };
        let key = (Arc::clone(queue), Arc::clone(id));
        let mut running = self.shared.running.lock();
        running.by_key.insert(key.clone(), (end, SystemTime::now()));
        running.by_time.push(Reverse((end, key)));
        drop(running);
        self.shared.changed.notify_one();
    }

    /// What became of a message is known.
    pub(super) fn end(&self, queue: &str, id: &str) {
        let key = (queue.into(), id.into());
        self.shared.running.lock().by_key.remove(&key);
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.changed.notify_one();
    }
}

async fn watch(shared: Weak<Shared>, outcomes: Arc<dyn OutcomeSink>) {
    // How often it is looked whether anybody is still there.
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    while let Some(there) = shared.upgrade() {
        let (passed, next) = {
            let mut running = there.running.lock();
            let passed = running.take_passed(Instant::now());
            (passed, running.by_time.peek().map(|Reverse((at, _))| *at))
        };
        for ((queue, id), began) in passed {
            outcomes.deadline_missed(&queue, &id, began);
        }
        let look_again = Instant::now() + LOOK_AGAIN;
        let next = next.map_or(look_again, |at| at.min(look_again));
        let _ = tokio::time::timeout_at(next, there.changed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_deadline_of_a_message_counts() {
        let now = Instant::now();
        let key = |id: &str| -> Key { ("q".into(), id.into()) };
        let mut running = Running::default();
        let mut begin = |id: &str, ms: u64| {
            let end = now + Duration::from_millis(ms);
            running.by_key.insert(key(id), (end, SystemTime::UNIX_EPOCH));
            running.by_time.push(Reverse((end, key(id))));
        };
        begin("sent again", 10);
        begin("ended", 10);
        begin("missed", 20);
        begin("sent again", 30);
        running.by_key.remove(&key("ended"));
        let mut passed = |ms: u64| {
            let passed = running.take_passed(now + Duration::from_millis(ms));
            passed.into_iter().map(|((_, id), _)| id.to_string()).collect::<Vec<_>>()
        };
        assert!(passed(10).is_empty());
        assert_eq!(passed(29), ["missed"]);
        assert_eq!(passed(30), ["sent again"]);
        assert!(running.by_key.is_empty() && running.by_time.is_empty());
    }
}
