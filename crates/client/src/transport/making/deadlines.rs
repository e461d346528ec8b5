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

use crate::outcome::Settled;
use crate::target::Key;
use crate::transport::{OutcomeSink, Outgoing};

/// A message in a queue: one to a topic has a deadline in each.
type Place = (Key, Arc<str>);

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
    by_time: BinaryHeap<Reverse<(Instant, Place)>>,
    /// Those that still count: a message that is sent again has a new one.
    by_place: HashMap<Place, Deadline>,
}

#[derive(Clone)]
struct Deadline {
    end: Instant,
    began: SystemTime,
    id: Arc<str>,
    queue_count: u16,
}

impl Running {
    /// Those that have passed.
    fn take_passed(&mut self, now: Instant) -> Vec<Settled> {
        let mut passed = Vec::new();
        while let Some(Reverse((at, _))) = self.by_time.peek()
            && *at <= now
            && let Some(Reverse((at, place))) = self.by_time.pop()
        {
            if self.by_place.get(&place).is_some_and(|deadline| deadline.end == at)
                && let Some(deadline) = self.by_place.remove(&place)
            {
                let Deadline { began, id, queue_count, .. } = deadline;
                let (key, queue) = place;
                passed.push(Settled::deadline_missed(key, &id, &queue, began, queue_count));
            }
        }
        // Of those that have ended only their times are left: not for ever.
        if self.by_time.len() > 1000 && self.by_time.len() > 4 * self.by_place.len() {
            let Self { by_time, by_place } = self;
            by_time.retain(|Reverse((at, place))| {
                by_place.get(place).is_some_and(|deadline| deadline.end == *at)
            });
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
    pub(super) fn begin(&self, message: &Outgoing) {
        let end = message.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let place = (message.key.clone(), message.target.name().into());
        let Some(end) = end else {
            // An earlier one may have had one.
            self.shared.running.lock().by_place.remove(&place);
            return;
        };
        let deadline = Deadline {
            end,
            began: SystemTime::now(),
            id: Arc::clone(&message.id),
            queue_count: message.queue_count.unwrap_or(1),
        };
        let mut running = self.shared.running.lock();
        running.by_place.insert(place.clone(), deadline);
        running.by_time.push(Reverse((end, place)));
        drop(running);
        self.shared.changed.notify_one();
    }

    /// What became of a message is known.
    pub(super) fn end(&self, settled: &Settled) {
        let place = (settled.key.clone(), settled.details.queue.as_str().into());
        self.shared.running.lock().by_place.remove(&place);
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
        passed.into_iter().for_each(|missed| outcomes.settled(missed));
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
        let place = |id: &str| -> Place { (Key::of_outcome("q", id, None), "q".into()) };
        let mut running = Running::default();
        let mut begin = |id: &str, ms: u64| {
            let end = now + Duration::from_millis(ms);
            let (began, queue_count) = (SystemTime::UNIX_EPOCH, 1);
            let deadline = Deadline { end, began, id: id.into(), queue_count };
            running.by_place.insert(place(id), deadline);
            running.by_time.push(Reverse((end, place(id))));
        };
        begin("sent again", 10);
        begin("ended", 10);
        begin("missed", 20);
        begin("sent again", 30);
        running.by_place.remove(&place("ended"));
        let mut passed = |ms: u64| {
            let passed = running.take_passed(now + Duration::from_millis(ms));
            passed.into_iter().map(|missed| missed.details.id).collect::<Vec<_>>()
        };
        assert!(passed(10).is_empty());
        assert_eq!(passed(29), ["missed"]);
        assert_eq!(passed(30), ["sent again"]);
        assert!(running.by_place.is_empty() && running.by_time.is_empty());
    }
}
