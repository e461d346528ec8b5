//! Threads that wait for the committer: operators' changes, compaction. Sessions never wait like
//! this.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use segment_log::LogError;

use super::{Commit, Store, Waiter};
use crate::NodeError;
use crate::locks::{Condvar, Mutex};

/// A missed wake-up costs at most this.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Store {
    /// Waits until everything appended so far is durable. Without a committer it commits itself,
    /// and a full disk is an error.
    pub(crate) fn sync_all(&self) -> Result<(), NodeError> {
        if !self.has_committer.load(Ordering::Acquire) {
            let ((), end) = self.append(None, |_| ());
            while self.durable() < end {
                if self.commit()? == Commit::Later {
                    return Err(self.stuck().unwrap_or(LogError::DiskFull).into());
                }
            }
            return Ok(());
        }
        let sleeper = Arc::new(Sleeper::default());
        let waiter: Arc<dyn Waiter> = sleeper.clone();
        let ((), end) = self.append(Some(&waiter), |_| ());
        let mut guard = sleeper.guard.lock();
        while self.durable() < end && !self.is_poisoned() {
            if let Some(error) = self.stuck() {
                return Err(error.into());
            }
            sleeper.woken.wait_for(&mut guard, LOOK_AGAIN);
        }
        if self.is_poisoned() { Err(NodeError::Poisoned) } else { Ok(()) }
    }
}

/// A thread that waits for the committer.
#[derive(Default)]
struct Sleeper {
    guard: Mutex<()>,
    woken: Condvar,
}

impl Waiter for Sleeper {
    fn begin_waiting(&self) -> bool {
        true
    }

    fn taken(&self) {}

    fn committed(&self) {
        self.woken.notify_all();
    }
}
