//! The limit of open files: raised as far as possible, and divided between store and connections.
//!
//! Owns the arithmetic. Never counts open files: whoever opens files says how many.

use rustix::process::{Resource, getrlimit, setrlimit};

/// With a limit below this, a broker runs out of connections sooner than one expects.
const LOW: usize = 4096;
/// Files kept free for what nobody announces: webhooks, logins, the store's next files.
const RESERVE_MIN: usize = 64;
/// The fraction of the limit that is kept free, as a divisor.
const RESERVE_PART: usize = 16;
/// The fraction of the limit that connections get even if the store takes a lot, as a divisor:
/// without clients nobody empties it.
const CONNECTIONS_PART: usize = 8;
/// Kept free even then.
const RESERVE_LEAST: usize = 16;

/// How many files the process may have open.
#[derive(Debug, Clone, Copy)]
pub struct OpenFiles {
    limit: usize,
}

impl OpenFiles {
    /// Raises the limit as far as the process may, and warns if the result is low. A connection is
    /// an open file; the usual soft limit of 1024 is there for programs that use `select`.
    pub fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let before = limit.current;
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::warn!(%error, "cannot raise the limit of open files");
                limit.current = before;
            }
        }
        let limit =
            limit.current.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
        let open_files = Self { limit };
        if limit < LOW {
            tracing::warn!(
                limit,
                connections = open_files.connections_max(0),
                "few files may be open, so there can be few connections; raise the limit with \
                 `ulimit -n 65536` in the shell that starts wilco, with LimitNOFILE=65536 in a \
                 systemd unit"
            );
        }
        open_files
    }

    /// A given limit.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit }
    }

    /// The limit.
    pub fn limit(self) -> usize {
        self.limit
    }

    /// How many connections there may be while everything else has `others` files open.
    pub fn connections_max(self, others: usize) -> usize {
        let reserve = RESERVE_MIN.max(self.limit / RESERVE_PART);
        let left = self.limit.saturating_sub(others);
        let least = left.saturating_sub(RESERVE_LEAST).min(self.limit / CONNECTIONS_PART);
        left.saturating_sub(reserve).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_store_and_reserve_leave() {
        let check = |limit, others, expected| {
            let max = OpenFiles::with_limit(limit).connections_max(others);
            assert_eq!(max, expected, "{others} of {limit}");
        };
        check(1024, 24, 936);
        check(65_536, 536, 60_904);
        check(250, 40, 146);
        // A store that has grown leaves room for clients that could empty it ...
        check(250, 160, 31);
        // ... but not its own last files.
        check(250, 210, 24);
        check(250, 240, 0);
        check(250, 300, 0);
        check(usize::MAX, 1000, usize::MAX - 1000 - usize::MAX / 16);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let open_files = OpenFiles::raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(Some(open_files.limit() as u64), limit.maximum.or(Some(u64::MAX)));
    }
}
