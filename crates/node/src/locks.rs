//! The node's locks: each has a [`Rank`], and which others may be taken while it is held is said
//! here, nowhere else.
//!
//! *Never two at once* is the rule; [`Rank::covers`] has the exceptions. A debug build checks every
//! lock that is taken against what its thread holds, so every test and the simulator do. A release
//! build has parking_lot's locks and nothing else. The same list, with reasons, stands in
//! ARCHITECTURE.md; a test compares them.
//!
//! Locks of a single object that calls nothing while it holds them (the ledger's, redb's) have none.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// How far the ledger writer has got.
    LedgerProgress,
    /// Users, virtual hosts and permissions, as definitions.
    Accounts,
    /// The list of virtual hosts.
    Vhosts,
    /// The topology of one virtual host and its list of queues.
    Topology,
    /// Ids of messages on their way into the ledger's window.
    IdsInFlight,
    /// One queue.
    Queue,
    /// One connection's outbox.
    Outbox,
    /// The append buffer.
    Appending,
    /// The log's files, to write; the committer's.
    Device,
    /// Calls nothing while it is held.
    Leaf,
}

impl Rank {
    /// All of them.
    #[cfg(test)]
    const ALL: [Self; 10] = [
        Self::LedgerProgress,
        Self::Accounts,
        Self::Vhosts,
        Self::Topology,
        Self::IdsInFlight,
        Self::Queue,
        Self::Outbox,
        Self::Appending,
        Self::Device,
        Self::Leaf,
    ];

    /// What may be taken while this is held.
    #[cfg(debug_assertions)]
    fn covers(self) -> &'static [Self] {
        match self {
            // It reads names of queues, takes ids out of flight, and syncs the log before the ledger.
            Self::LedgerProgress => &[
                Self::Vhosts,
                Self::Topology,
                Self::IdsInFlight,
                Self::Appending,
                Self::Device,
                Self::Leaf,
            ],
            // A change is logged while what it changes is locked: the log has them in order.
            Self::Accounts | Self::Topology => &[Self::Appending],
            // To look, to log and to mark are one step.
            Self::IdsInFlight => &[Self::Appending],
            Self::Vhosts
            | Self::Queue
            | Self::Outbox
            | Self::Appending
            | Self::Device
            | Self::Leaf => &[],
        }
    }
}

#[cfg(debug_assertions)]
mod held {
    use std::cell::RefCell;

    use super::Rank;
    #[cfg(test)]
    use crate::interleaving::actor;

    thread_local! {
        static HELD: RefCell<Vec<(usize, Rank)>> = const { RefCell::new(Vec::new()) };
    }

    /// Under shuttle several share a thread.
    #[cfg(not(test))]
    fn actor() -> usize {
        0
    }

    /// Notes, until it is dropped, that this thread holds a lock.
    pub(super) struct Held(usize, Rank);

    impl Held {
        pub(super) fn new(rank: Rank) -> Self {
            let actor = actor();
            HELD.with_borrow_mut(|held| {
                let mut outer = held.iter().filter(|(of, _)| *of == actor);
                let is_allowed = outer.all(|(_, outer)| outer.covers().contains(&rank));
                // A second panic while one unwinds would hide the first.
                if !is_allowed && !std::thread::panicking() {
                    panic!("a lock of rank {rank:?} is taken while {held:?} are held");
                }
                held.push((actor, rank));
            });
            Self(actor, rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| {
                // Mostly the last; guards may be dropped in any order.
                if let Some(place) = held.iter().rposition(|held| *held == (self.0, self.1)) {
                    held.remove(place);
                }
            });
        }
    }
}

/// In a release build nothing is noted.
#[cfg(not(debug_assertions))]
mod held {
    use super::Rank;

    pub(super) struct Held;

    impl Held {
        #[inline(always)]
        pub(super) fn new(_: Rank) -> Self {
            Self
        }
    }
}

use held::Held;

/// A mutex with a rank.
pub(crate) struct Mutex<T: ?Sized> {
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

/// A read-write lock with a rank.
pub(crate) struct RwLock<T> {
    rank: Rank,
    inner: parking_lot::RwLock<T>,
}

/// A lock that is held.
pub(crate) struct Guard<G> {
    inner: G,
    _held: Held,
}

/// A held mutex.
pub(crate) type MutexGuard<'a, T> = Guard<parking_lot::MutexGuard<'a, T>>;

/// To wait for something while a mutex is let go.
#[derive(Default)]
pub(crate) struct Condvar {
    inner: parking_lot::Condvar,
    #[cfg(test)]
    sleepers: crate::interleaving::Sleepers,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: parking_lot::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::new(self.rank);
        #[cfg(test)]
        crate::interleaving::offer_until(|| !self.inner.is_locked());
        Guard { inner: self.inner.lock(), _held: held }
    }

    /// Without locking: nobody else has it.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

/// A leaf.
impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(Rank::Leaf, T::default())
    }
}

/// A leaf.
impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(Rank::Leaf, T::default())
    }
}

/// What is in it is not shown: that would have to be locked.
impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<T> RwLock<T> {
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: parking_lot::RwLock::new(value) }
    }

    pub(crate) fn read(&self) -> Guard<parking_lot::RwLockReadGuard<'_, T>> {
        let held = Held::new(self.rank);
        #[cfg(test)]
        crate::interleaving::offer_until(|| !self.inner.is_locked_exclusive());
        Guard { inner: self.inner.read(), _held: held }
    }

    pub(crate) fn write(&self) -> Guard<parking_lot::RwLockWriteGuard<'_, T>> {
        let held = Held::new(self.rank);
        #[cfg(test)]
        crate::interleaving::offer_until(|| !self.inner.is_locked());
        Guard { inner: self.inner.write(), _held: held }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

impl Condvar {
    pub(crate) fn notify_one(&self) {
        #[cfg(test)]
        self.sleepers.notify();
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        #[cfg(test)]
        self.sleepers.notify();
        self.inner.notify_all();
    }

    /// Waits for a notice, at most so long.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, at_most: Duration) {
        self.inner.wait_for(&mut guard.inner, at_most);
    }

    /// Waits for a notice until then. `false` when there was none.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> bool {
        #[cfg(test)]
        if crate::interleaving::is_explored() {
            return self.sleepers.wait(&mut guard.inner, until);
        }
        !self.inner.wait_until(&mut guard.inner, until).timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nests(outer: Rank, inner: Rank) -> bool {
        let nest = move || {
            let (outer, inner) = (Mutex::new(outer, ()), RwLock::new(inner, ()));
            let outer = outer.lock();
            let inner = inner.read();
            drop((outer, inner));
        };
        // In a thread of its own: what is noted of it goes with it.
        std::thread::spawn(nest).join().is_ok()
    }

    #[test]
    fn locks_nest_only_as_it_is_said() {
        for outer in Rank::ALL {
            for inner in Rank::ALL {
                let is_said = outer.covers().contains(&inner);
                assert_eq!(nests(outer, inner), is_said, "{inner:?} within {outer:?}");
            }
            assert!(!outer.covers().contains(&outer), "two of the same could wait for each other");
        }
    }

    /// Nobody can wait in a circle: what a lock covers stands after it.
    #[test]
    fn there_is_no_circle() {
        let place = |rank: &Rank| Rank::ALL.iter().position(|other| other == rank);
        for outer in Rank::ALL {
            assert!(outer.covers().iter().all(|inner| place(inner) > place(&outer)), "{outer:?}");
        }
    }

    #[test]
    fn guards_may_be_dropped_in_any_order() {
        let (outer, inner) = (Mutex::new(Rank::Topology, 1), Mutex::new(Rank::Appending, 2));
        let (held, within) = (outer.lock(), inner.lock());
        drop(held);
        assert_eq!(*within, 2);
        drop(within);
        assert_eq!(*outer.lock(), 1);
    }

    #[test]
    fn architecture_has_the_same_list() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let page = std::fs::read_to_string(page).expect("the page is there");
        for rank in Rank::ALL {
            let covers = rank.covers().iter().map(|inner| format!("`{inner:?}`"));
            let covers = covers.collect::<Vec<_>>().join(", ");
            let covers = if covers.is_empty() { "nothing".to_owned() } else { covers };
            let begin = format!("| `{rank:?}` |");
            let row = page.lines().find(|line| line.starts_with(&begin));
            let row = row.unwrap_or_else(|| panic!("no row `{begin}` in ARCHITECTURE.md"));
            let last = row.trim_end_matches('|').rsplit('|').next().map(str::trim);
            assert_eq!(last, Some(&*covers), "{rank:?}");
        }
    }
}
