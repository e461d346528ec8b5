//! Work on one thing is done by one thread at a time, beside work on other things.
//!
//! For work that checks, changes and waits for the disk, and that nobody else may come between: a
//! retry of one message, a change of the accounts. A turn is no lock: it is held across commits, so it
//! must be taken before any lock, and never by a thread that others wait for.
//!
//! *Invariant:* a turn ends when it is dropped, also by a panic; whoever waits for it then goes on.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

/// How often somebody who waits looks by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is being worked on.
pub(crate) struct OneAtATime<K> {
    busy: Mutex<HashSet<K>>,
    free: Condvar,
}

/// Held while working on one thing.
pub(crate) struct Turn<'a, K: Copy + Eq + Hash> {
    of: &'a OneAtATime<K>,
    key: K,
}

impl<K> Default for OneAtATime<K> {
    fn default() -> Self {
        Self { busy: Mutex::default(), free: Condvar::default() }
    }
}

impl<K: Copy + Eq + Hash> OneAtATime<K> {
    /// Waits until nobody works on this any more.
    pub(crate) fn begin(&self, key: K) -> Turn<'_, K> {
        let mut busy = self.busy.lock();
        while !busy.insert(key) {
            self.free.wait_for(&mut busy, LOOK_AGAIN);
        }
        Turn { of: self, key }
    }
}

impl<K: Copy + Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.of.busy.lock().remove(&self.key);
        self.of.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_thing_is_worked_on_by_one_thread_and_others_go_on() {
        let (turns, inside, done) =
            (OneAtATime::default(), [const { AtomicUsize::new(0) }; 2], AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (turns, inside, done) = (&turns, &inside, &done);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _turn = turns.begin(thread % 2);
                        assert_eq!(inside[thread % 2].fetch_add(1, Ordering::SeqCst), 0);
                        inside[thread % 2].fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 8 * 200);
        assert!(turns.busy.lock().is_empty());
    }
}
