//! Runs the node's own code under shuttle: a turn is offered before every lock and every atomic.
//!
//! Shuttle's threads are coroutines of one thread, and go on where they are told to. So the real
//! locks and atomics stay, and are right, as long as nobody waits for one in earnest: before each of
//! them [`offer`] lets another go on, and before a lock [`offer_until`] does so until it is free.
//! What is tried this way is the order in which things happen. *Not* tried: memory orderings (all is
//! sequentially consistent here), and the locks themselves.
//!
//! Outside of shuttle, in every other test, all of this does nothing. It is not in a release build.

use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{Thread, current, park, sleep, yield_now};

/// Tells shuttle's threads apart, which share one of the operating system's; 0 outside.
pub(crate) fn actor() -> usize {
    shuttle::current::try_get_current_task().map_or(0, |task| 1 + usize::from(task))
}

/// Whether this is one of shuttle's threads.
pub(crate) fn is_explored() -> bool {
    // In a test that fails nobody else goes on.
    !std::thread::panicking() && shuttle::current::try_get_current_task().is_some()
}

/// Another may go on here.
pub(crate) fn offer() {
    if is_explored() {
        sleep(Duration::ZERO);
    }
}

/// Others go on until `is_free`; nothing comes between that and what the caller does next.
pub(crate) fn offer_until(is_free: impl Fn() -> bool) {
    if is_explored() {
        sleep(Duration::ZERO);
        while !is_free() {
            yield_now();
        }
    }
}

/// Who waits for a condition variable.
#[derive(Default)]
pub(crate) struct Sleepers(parking_lot::Mutex<Vec<Thread>>);

impl Sleepers {
    /// Waits for a notice while the lock is let go; time passes only where it has passed already.
    /// `false` when there was none.
    pub(crate) fn wait<T>(
        &self,
        guard: &mut parking_lot::MutexGuard<'_, T>,
        until: Instant,
    ) -> bool {
        let is_late = until <= Instant::now();
        let mutex = parking_lot::MutexGuard::mutex(guard);
        if !is_late {
            self.0.lock().push(current());
        }
        parking_lot::MutexGuard::unlocked(guard, || {
            if !is_late {
                park();
            }
            offer_until(|| !mutex.is_locked());
        });
        !is_late
    }

    pub(crate) fn notify(&self) {
        let woken = std::mem::take(&mut *self.0.lock());
        woken.iter().for_each(Thread::unpark);
    }
}

/// Wakes one of shuttle's threads.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the one who asks.
pub(crate) fn waker() -> Waker {
    Waker::from(std::sync::Arc::new(Unpark(current())))
}

/// Tries a scenario under so many interleavings, times `NET_ITERATIONS`; half at random, half with
/// few but well-placed switches. What fails is said with the schedule, to be replayed with
/// `shuttle::replay`.
pub(crate) fn explore(iterations: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let times = std::env::var("NET_ITERATIONS").ok().and_then(|times| times.parse().ok());
    let iterations = iterations * times.unwrap_or(1).max(1);
    let scenario = std::sync::Arc::new(scenario);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    let run = std::sync::Arc::clone(&scenario);
    shuttle::Runner::new(RandomScheduler::new(iterations / 2), config.clone()).run(move || run());
    let few = PctScheduler::new(SWITCHES, iterations.div_ceil(2));
    shuttle::Runner::new(few, config).run(move || scenario());
}

/// Of each of shuttle's threads.
const STACK_BYTES: usize = 512 << 10;
/// A scenario that goes on for longer has no end.
const STEPS_MAX: usize = 200_000;
/// How often the scheduler with few switches interrupts whoever runs.
const SWITCHES: usize = 4;

/// An atomic of the same name in std, with a turn offered before each operation.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        #[allow(dead_code, reason = "they all have the same")]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                offer();
                self.0.load(ordering)
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                offer();
                self.0.store(value, ordering);
            }

            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                offer();
                self.0.swap(value, ordering)
            }

            pub(crate) fn compare_exchange(
                &self,
                now: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                offer();
                self.0.compare_exchange(now, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                offer();
                self.0.fetch_update(success, failure, update)
            }
        }
    };
}

/// The same with arithmetic.
macro_rules! atomic_number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        #[allow(dead_code, reason = "they all have the same")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                offer();
                self.0.fetch_add(value, ordering)
            }

            pub(crate) fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
                offer();
                self.0.fetch_sub(value, ordering)
            }

            pub(crate) fn fetch_min(&self, value: $value, ordering: Ordering) -> $value {
                offer();
                self.0.fetch_min(value, ordering)
            }

            pub(crate) fn fetch_max(&self, value: $value, ordering: Ordering) -> $value {
                offer();
                self.0.fetch_max(value, ordering)
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic_number!(AtomicU8, u8);
atomic_number!(AtomicU32, u32);
atomic_number!(AtomicU64, u64);
atomic_number!(AtomicUsize, usize);
