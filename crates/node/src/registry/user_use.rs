//! How much each user takes of what all users share. Nobody may have more than half of it, so that
//! there is something left for others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use crate::locks::Mutex;

/// The users that take something.
#[derive(Default)]
pub(crate) struct UserUses(Mutex<HashMap<Arc<str>, Weak<UserUse>>>);

/// What one user takes, with all its connections.
#[derive(Default)]
pub(crate) struct UserUse {
    connection_count: AtomicUsize,
    /// Memory of unfinished messages and transactions.
    pub unfinished_bytes: AtomicU64,
    /// Duplicates that wait for their originals' outcomes.
    pub attached_count: AtomicUsize,
}

/// A user's open connection; it is one less when this is dropped.
pub(crate) struct Seat(Arc<UserUse>);

impl UserUses {
    /// What this user takes.
    pub(crate) fn of(&self, user: &Arc<str>) -> Arc<UserUse> {
        let mut users = self.0.lock();
        if let Some(found) = users.get(user).and_then(Weak::upgrade) {
            return found;
        }
        users.retain(|_, of| of.strong_count() > 0);
        let new = Arc::new(UserUse::default());
        users.insert(Arc::clone(user), Arc::downgrade(&new));
        new
    }
}

impl UserUse {
    /// One more connection; `None` if there are `max` already. 0 is no limit.
    pub(crate) fn sit_down(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let more = |count: usize| (max == 0 || count < max).then_some(count + 1);
        let counted = &self.connection_count;
        let is_taken = counted.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        is_taken.then(|| Seat(Arc::clone(self)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connection_count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_sits_on_so_many_seats_and_what_is_left_is_taken_again() {
        let (users, name) = (UserUses::default(), Arc::from("anna"));
        let seats: Vec<_> = (0..2).map(|_| users.of(&name).sit_down(2).expect("free")).collect();
        assert!(users.of(&name).sit_down(2).is_none());
        assert!(users.of(&name).sit_down(0).is_some(), "no limit");
        assert!(users.of(&Arc::from("bert")).sit_down(2).is_some(), "somebody else");
        drop(seats);
        assert!(users.of(&name).sit_down(2).is_some());
    }
}
