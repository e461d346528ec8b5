//! The time that producers and workers go by: the system's, or, in tests, one that is moved by hand.

#[cfg(feature = "embedded")]
use std::collections::BTreeMap;
use std::future::Future;
#[cfg(feature = "embedded")]
use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

#[cfg(feature = "embedded")]
use parking_lot::Mutex;
#[cfg(feature = "embedded")]
use tokio::sync::Notify;

/// See the module's documentation.
#[derive(Clone, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(feature = "embedded")]
    Manual(Arc<ManualClock>),
}

impl Clock {
    pub(crate) fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            #[cfg(feature = "embedded")]
            Self::Manual(clock) => clock.now(),
        }
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Self::System => tokio::time::sleep(duration).await,
            #[cfg(feature = "embedded")]
            Self::Manual(clock) => clock.sleep(duration).await,
        }
    }

    /// `None`: it took longer.
    pub(crate) async fn within<T>(
        &self,
        timeout: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let Some(timeout) = timeout else { return Some(work.await) };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(timeout) => None,
        }
    }
}

/// Now by the system's clock, in ms since the epoch.
pub(crate) fn now_ms() -> u64 {
    millis(SystemTime::now())
}

/// So many ms after the epoch.
pub(crate) fn at(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// In ms since the epoch.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Stands still until it is moved.
#[cfg(feature = "embedded")]
pub(crate) struct ManualClock {
    now_ms: AtomicU64,
    moved: Notify,
    /// When each of those who sleep wants to be woken.
    sleepers: Mutex<BTreeMap<u64, SystemTime>>,
    next_sleeper: AtomicU64,
}

/// Takes a sleeper out, however its sleep ends.
#[cfg(feature = "embedded")]
struct Sleeper<'a> {
    clock: &'a ManualClock,
    number: u64,
}

#[cfg(feature = "embedded")]
impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.sleepers.lock().remove(&self.number);
    }
}

#[cfg(feature = "embedded")]
impl ManualClock {
    /// One that shows what the system's clock shows now.
    pub(crate) fn new() -> Self {
        let now_ms = AtomicU64::new(now_ms());
        let (moved, sleepers, next_sleeper) = Default::default();
        Self { now_ms, moved, sleepers, next_sleeper }
    }

    pub(crate) fn now(&self) -> SystemTime {
        at(self.now_ms.load(Ordering::SeqCst))
    }

    /// Moves it. What is done first is done before anybody wakes.
    pub(crate) fn advance(&self, by: Duration, first: impl FnOnce()) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX / 2);
        self.now_ms.fetch_add(by_ms, Ordering::SeqCst);
        first();
        self.moved.notify_waiters();
    }

    /// Whether somebody is to be woken and has not got up yet.
    pub(crate) fn is_waking(&self) -> bool {
        let now = self.now();
        self.sleepers.lock().values().any(|until| *until <= now)
    }

    async fn sleep(&self, duration: Duration) {
        let Some(until) = self.now().checked_add(duration) else {
            return std::future::pending().await;
        };
        let number = self.next_sleeper.fetch_add(1, Ordering::Relaxed);
        self.sleepers.lock().insert(number, until);
        let _sleeper = Sleeper { clock: self, number };
        loop {
            let moved = self.moved.notified();
            if self.now() >= until {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(feature = "embedded")]
impl node::clock::Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}
