//! What all users share and nobody may take all of: a user may have half of it at most.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// See the module's documentation.
pub(crate) struct Pool {
    size: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    by_all: usize,
    by_user: HashMap<String, usize>,
}

/// Something taken from a pool; given back when dropped.
pub(crate) struct Share {
    pool: Arc<Pool>,
    user: String,
    amount: usize,
}

/// Why there is nothing to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The user has half of it already.
    ByUser,
    /// All users together have all of it.
    ByAll,
}

impl Pool {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, taken: Mutex::default() })
    }

    /// Takes some for a user. Who has nothing may have more than half, if there is that much.
    pub(crate) fn take(self: &Arc<Self>, user: &str, amount: usize) -> Result<Share, Exhausted> {
        let mut taken = self.taken.lock();
        if taken.by_all + amount > self.size {
            return Err(Exhausted::ByAll);
        }
        let of_user = taken.by_user.get(user).copied().unwrap_or(0);
        if of_user > 0 && of_user + amount > self.size / 2 {
            return Err(Exhausted::ByUser);
        }
        taken.by_all += amount;
        taken.by_user.insert(user.to_owned(), of_user + amount);
        Ok(Share { pool: Arc::clone(self), user: user.to_owned(), amount })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.pool.taken.lock();
        taken.by_all -= self.amount;
        if let Some(of_user) = taken.by_user.get_mut(&self.user) {
            *of_user -= self.amount;
            if *of_user == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_half_and_all_comes_back() {
        let pool = Pool::new(8);
        let take = |user: &str, amount| pool.take(user, amount);
        let mut annas: Vec<Share> =
            (0..4).map(|_| take("anna", 1).unwrap_or_else(|_| panic!("left"))).collect();
        assert_eq!(take("anna", 1).err(), Some(Exhausted::ByUser));
        let berts = take("bert", 4).unwrap_or_else(|_| panic!("his half"));
        assert_eq!(take("carl", 1).err(), Some(Exhausted::ByAll));
        annas.pop();
        assert!(take("anna", 1).is_ok());
        drop((annas, berts));
        assert!(take("carl", 8).is_ok(), "who has nothing may have one large thing");
        assert!(pool.taken.lock().by_user.is_empty());
    }
}
