//! The node's locks. Each has a [`Rank`]; only this module says which other locks may be taken
//! while it is held.
//!
//! *Never two at once* is the rule; [`Rank::covers`] has the exceptions. A debug build checks every
//! lock that a thread takes against those it holds, in every test and in the simulator. A release
//! build has parking_lot's locks and nothing else. The same list, with reasons, is in
//! ARCHITECTURE.md; a test compares the two.
//!
//! Locks inside an object that calls nothing while it holds them (the ledger's, redb's) have no
//! rank.

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
    /// The log's files, for writing; only the committer takes it.
    Device,
    /// Calls nothing while it is held.
    Leaf,
}

impl Rank {
    /// All ranks.
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
            // It reads names of queues, takes ids out of flight, and syncs the log before the
            // ledger.
            Self::LedgerProgress => &[
                Self::Vhosts,
                Self::Topology,
                Self::IdsInFlight,
                Self::Appending,
                Self::Device,
                Self::Leaf,
            ],
            // A change is logged while what it changes is locked, so that the log has changes in
            // order.
            Self::Accounts | Self::Topology => &[Self::Appending],
            // Looking, logging and marking are one step.
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

    /// Notes that this thread holds a lock, until dropped.
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
                // Usually the last one, but guards may be dropped in any order.
                if let Some(place) = held.iter().rposition(|held| *held == (self.0, self.1)) {
                    held.remove(place);
                }
            });
        }
    }
}

/// A release build notes nothing.
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

/// Waits for something while a mutex is released.
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

    /// Access without locking, since nobody else can have it.
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

/// Does not show the contents, which would need the lock.
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

    /// Waits for a notification, but no longer than `at_most`.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, at_most: Duration) {
        self.inner.wait_for(&mut guard.inner, at_most);
    }

    /// Waits for a notification until a moment. `false` when there was none.
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
        // In a thread of its own, so that what is noted about it goes away with it.
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

    /// No circular wait is possible: the locks that a lock covers come after it in the list.
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
