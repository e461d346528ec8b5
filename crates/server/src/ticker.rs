//! Wakes tasks at the next ticks, all at once: a clock finer than the runtime's, which counts
//! milliseconds.
//!
//! It runs while somebody waits, and stops by itself. One timer serves all connections of a server, so
//! what many of them have waiting costs one wake-up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The time between two ticks.
pub(crate) const TICK: Duration = Duration::from_micros(250);
/// Ticks without anybody waiting after which the timer stops.
const IDLE_TICKS: u32 = 10;

/// See the module's documentation.
pub(crate) struct Ticker {
    timer: Arc<AsyncFd<OwnedFd>>,
    /// How many ticks there have been.
    count: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tasks, and at which tick they are due.
    waiting: Vec<(u64, Waker)>,
    runs: bool,
    idle_ticks: u32,
}

impl Ticker {
    /// Makes a ticker, which ends when nobody holds it any more. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of the operating system: too many open files.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: an owned descriptor is the same one, and open, for as long as it exists.
        #[allow(unsafe_code)]
        let timer = Arc::new(unsafe { AsyncFd::register(timer) }?);
        let (count, state) = (AtomicU64::new(0), Mutex::default());
        let ticker = Arc::new(Self { timer: Arc::clone(&timer), count, state });
        tokio::spawn(run(timer, Arc::downgrade(&ticker)));
        Ok(ticker)
    }

    /// The number of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Has a task woken in so many ticks. Returns the number of that tick.
    pub(crate) fn wake_in(&self, ticks: u64, waker: &Waker) -> u64 {
        let mut state = self.state.lock();
        let due = self.now() + ticks;
        state.waiting.push((due, waker.clone()));
        if !state.runs {
            state.runs = true;
            state.idle_ticks = 0;
            set(self.timer.get_ref(), TICK);
        }
        due
    }

    fn tick(&self, woken: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        let now = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        state.idle_ticks = if state.waiting.is_empty() { state.idle_ticks + 1 } else { 0 };
        let due = state.waiting.extract_if(.., |(due, _)| *due <= now);
        woken.extend(due.map(|(_, waker)| waker));
        if state.idle_ticks > IDLE_TICKS {
            state.runs = false;
            set(self.timer.get_ref(), Duration::ZERO);
        }
        drop(state);
        woken.drain(..).for_each(Waker::wake);
    }
}

/// Asks again and again whether something is over that nobody tells of, less and less often.
#[derive(Default)]
pub(crate) struct Asking {
    /// The tick at which to ask again, and how many ticks to wait after that.
    due: u64,
    ticks: u64,
}

impl Asking {
    /// The most ticks between two questions.
    const TICKS_MAX: u64 = 4;

    /// It is not over: has the task woken to ask again.
    pub(crate) fn wait(&mut self, ticker: &Ticker, waker: &Waker) {
        if ticker.now() >= self.due {
            self.ticks = (self.ticks * 2).clamp(1, Self::TICKS_MAX);
            self.due = ticker.wake_in(self.ticks, waker);
        }
    }

    /// It is over.
    pub(crate) fn end(&mut self) {
        self.ticks = 0;
    }
}

impl Drop for Ticker {
    /// Lets its task see that it is gone.
    fn drop(&mut self) {
        set(self.timer.get_ref(), TICK);
    }
}

async fn run(timer: Arc<AsyncFd<OwnedFd>>, ticker: Weak<Ticker>) {
    let mut woken = Vec::new();
    let mut expirations = [0; 8];
    loop {
        let Ok(mut ready) = timer.readable().await else { return };
        let is_due = rustix::io::read(timer.get_ref(), &mut expirations).is_ok();
        ready.clear_ready();
        let Some(ticker) = ticker.upgrade() else { return };
        // Set anew in the meantime, it is not due after all.
        if is_due {
            ticker.tick(&mut woken);
        }
    }
}

/// Lets it expire again and again, or never for zero.
fn set(timer: impl AsFd, interval: Duration) {
    let interval = Timespec { tv_sec: 0, tv_nsec: i64::from(interval.subsec_nanos()) };
    let times = Itimerspec { it_interval: interval, it_value: interval };
    // With such an argument it cannot fail.
    let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    async fn next_tick(ticker: &Ticker) {
        let mut since = None;
        poll_fn(|cx| {
            if since.is_some_and(|due| ticker.now() >= due) {
                return Poll::Ready(());
            }
            since = Some(ticker.wake_in(1, cx.waker()));
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn it_ticks_while_somebody_waits_and_again_after_a_pause() {
        let ticker = Ticker::start().expect("a timer");
        for _ in 0..3 {
            for _ in 0..5 {
                next_tick(&ticker).await;
            }
            while ticker.state.lock().runs {
                tokio::time::sleep(TICK).await;
            }
            let stopped_at = ticker.now();
            tokio::time::sleep(10 * TICK).await;
            assert_eq!(ticker.now(), stopped_at);
        }
    }

    #[tokio::test]
    async fn its_task_ends_with_it() {
        let ticker = Ticker::start().expect("a timer");
        let timer = Arc::downgrade(&ticker.timer);
        next_tick(&ticker).await;
        drop(ticker);
        while timer.upgrade().is_some() {
            tokio::time::sleep(TICK).await;
        }
    }
}
