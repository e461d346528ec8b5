//! Logins of clients not yet known, within bounds.
//!
//! A password hash takes a processor for some 20 ms and 19 MiB of memory, and anybody may ask for
//! one. So at most [`HASHES_MAX`] are computed at a time, whoever asks and over whatever protocol;
//! the others wait in order, and a client that gives up leaves the queue. A login that has
//! succeeded before is recognised without a hash and without a place in the queue. An address with
//! too many failures is refused without a hash; successes never count against it. Addresses that
//! have failed lately share one of the two turns, so that many of them do not keep others out.
//!
//! Never here: delays, sockets, an async runtime. Each hash has a thread of its own, whose cost is
//! small in comparison.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use async_lock::{Semaphore, SemaphoreGuardArc};
use event_listener::Event;

use super::{AuthError, Authenticator, Identity};
use crate::locks::Mutex;

/// How many hashes are computed at a time.
const HASHES_MAX: usize = 2;
/// How many failures per second an address may have, and how many at once.
const FAILURES_PER_S: f64 = 10.0;
/// How long an address that has failed shares a turn with others that have.
const SUSPECT_FOR: Duration = Duration::from_secs(60);
/// How many addresses are remembered with their failures.
const ADDRESSES_MAX: usize = 16_384;

/// Why a user is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such user, or the wrong password.
    #[error("invalid credentials")]
    Wrong,
    /// So many logins from this address have failed lately that this one was not checked.
    #[error("too many failed logins from this address; try again in a second")]
    TooManyFailures,
    /// The server could not compute the hash.
    #[error("the password cannot be checked right now; try again in a second")]
    Hash,
}

/// See the module's documentation.
pub(crate) struct Logins {
    authenticator: Authenticator,
    turns: Arc<Semaphore>,
    /// The single turn for addresses that have failed lately: however many they are, others wait
    /// for at most one of them.
    turn_of_suspects: Arc<Semaphore>,
    failures: Mutex<Failures>,
}

/// A suspect that is waiting, until this is dropped.
struct Waiting<'a> {
    logins: &'a Logins,
    peer: IpAddr,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.logins.failures.lock().end_waiting(self.peer);
    }
}

/// Held while a hash is computed.
struct Turn {
    _turn: SemaphoreGuardArc,
    _of_suspects: Option<SemaphoreGuardArc>,
}

impl Logins {
    pub(crate) fn new() -> Result<Arc<Self>, AuthError> {
        Ok(Arc::new(Self {
            authenticator: Authenticator::new()?,
            turns: Arc::new(Semaphore::new(HASHES_MAX)),
            turn_of_suspects: Arc::new(Semaphore::new(1)),
            failures: Mutex::default(),
        }))
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Waits for a turn, in the order of arrival. A client whose address turns out to have failed
    /// lately waits among the suspects, and of one address no more wait than may fail.
    async fn turn(&self, peer: IpAddr) -> Result<Turn, LoginError> {
        let turn = self.turns.acquire_arc().await;
        if !self.failures.lock().has_failed(peer, Instant::now()) {
            return Ok(Turn { _turn: turn, _of_suspects: None });
        }
        drop(turn);
        if !self.failures.lock().begin_waiting(peer, Instant::now()) {
            return Err(LoginError::TooManyFailures);
        }
        let waiting = Waiting { logins: self, peer };
        let of_suspects = self.turn_of_suspects.acquire_arc().await;
        drop(waiting);
        Ok(Turn { _turn: self.turns.acquire_arc().await, _of_suspects: Some(of_suspects) })
    }

    /// Computes a hash on a thread of its own, which keeps the turn until it is done.
    async fn hash(
        self: &Arc<Self>,
        turn: Turn,
        peer: IpAddr,
        login: Login,
    ) -> Result<(), LoginError> {
        let verdict = Arc::new(Verdict::default());
        let (logins, told) = (Arc::clone(self), Arc::clone(&verdict));
        let hashing = move || {
            let is_right = login.check(&logins.authenticator);
            if !is_right {
                // Noted here and not by the client's task, which may have gone.
                logins.failures.lock().note(peer, Instant::now());
            }
            told.tell(is_right);
            drop(turn);
        };
        let thread = std::thread::Builder::new().name("wilco-login".to_owned()).spawn(hashing);
        if let Err(error) = thread {
            tracing::error!("no thread to check a password: {error}");
            return Err(LoginError::Hash);
        }
        if verdict.wait().await { Ok(()) } else { Err(LoginError::Wrong) }
    }
}

impl Logins {
    /// As [`Node::log_in`](crate::Node::log_in); `login` gives what the client says and what is
    /// known at that moment.
    pub(super) async fn log_in(
        self: &Arc<Self>,
        peer: IpAddr,
        login: impl Fn() -> Login,
    ) -> Result<Identity, LoginError> {
        let known = login();
        if known.is_remembered(&self.authenticator) {
            return Ok(known.who);
        }
        let turn = self.turn(peer).await?;
        // Meanwhile the same login may have had its turn, or the user may have changed.
        let login = login();
        if login.is_remembered(&self.authenticator) {
            return Ok(login.who);
        }
        if self.failures.lock().are_too_many(peer, Instant::now()) {
            return Err(LoginError::TooManyFailures);
        }
        let who = login.who.clone();
        self.hash(turn, peer, login).await?;
        Ok(who)
    }
}

/// What a client says, and what is known about the user.
pub(super) struct Login {
    pub who: Identity,
    pub password: String,
    pub password_hash: Option<String>,
}

impl Login {
    fn is_remembered(&self, authenticator: &Authenticator) -> bool {
        let hash = self.password_hash.as_deref();
        hash.is_some_and(|hash| authenticator.remembers(self.who.user(), &self.password, hash))
    }

    pub(super) fn check(&self, authenticator: &Authenticator) -> bool {
        authenticator.check(self.who.user(), &self.password, self.password_hash.as_deref())
    }
}

/// The result that a thread hands to a future.
#[derive(Default)]
struct Verdict {
    /// 0 until it is known.
    state: AtomicU8,
    known: Event,
}

impl Verdict {
    const RIGHT: u8 = 1;
    const WRONG: u8 = 2;

    fn tell(&self, is_right: bool) {
        self.state.store(if is_right { Self::RIGHT } else { Self::WRONG }, Ordering::Release);
        self.known.notify(usize::MAX);
    }

    async fn wait(&self) -> bool {
        loop {
            // Asked for before looking, so that no result in between is missed.
            let known = self.known.listen();
            match self.state.load(Ordering::Acquire) {
                0 => known.await,
                state => return state == Self::RIGHT,
            }
        }
    }
}

/// Failed logins by address: each may have a certain number, which recovers with time.
#[derive(Default)]
struct Failures {
    spent: HashMap<IpAddr, Spent>,
}

struct Spent {
    failures: f64,
    at: Instant,
    /// Suspects from this address that are waiting, and may all fail.
    waiting_count: u32,
}

impl Spent {
    fn left(&self, now: Instant) -> f64 {
        let recovered = now.saturating_duration_since(self.at).as_secs_f64() * FAILURES_PER_S;
        (self.failures - recovered).max(0.0)
    }
}

impl Failures {
    /// Whether an address has failed lately.
    fn has_failed(&self, peer: IpAddr, now: Instant) -> bool {
        let spent = self.spent.get(&network(peer));
        spent.is_some_and(|spent| now.saturating_duration_since(spent.at) < SUSPECT_FOR)
    }

    fn are_too_many(&self, peer: IpAddr, now: Instant) -> bool {
        let spent = self.spent.get(&network(peer));
        spent.is_some_and(|spent| spent.left(now) > FAILURES_PER_S - 1.0)
    }

    /// `false`: those waiting already may use up what is left.
    fn begin_waiting(&mut self, peer: IpAddr, now: Instant) -> bool {
        let Some(spent) = self.spent.get_mut(&network(peer)) else { return true };
        let may_wait = spent.left(now) + f64::from(spent.waiting_count) <= FAILURES_PER_S - 1.0;
        spent.waiting_count += u32::from(may_wait);
        may_wait
    }

    fn end_waiting(&mut self, peer: IpAddr) {
        if let Some(spent) = self.spent.get_mut(&network(peer)) {
            spent.waiting_count = spent.waiting_count.saturating_sub(1);
        }
    }

    fn note(&mut self, peer: IpAddr, now: Instant) {
        if self.spent.len() >= ADDRESSES_MAX {
            self.spent.retain(|_, spent| spent.left(now) > 0.0);
        }
        if self.spent.len() >= ADDRESSES_MAX {
            // So many addresses at once belong to somebody with a whole network. The limit of two
            // hashes at a time still holds.
            self.spent.clear();
        }
        let new = Spent { failures: 0.0, at: now, waiting_count: 0 };
        let spent = self.spent.entry(network(peer)).or_insert(new);
        (spent.failures, spent.at) = (spent.left(now) + 1.0, now);
    }
}

/// What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, since that is what
/// one subscriber has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ten_failures_a_second_are_looked_at() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let mut tried = 0;
        // A hundred tries a second for three seconds.
        for tick in 0..300 {
            let now = start + Duration::from_millis(10 * tick);
            if !failures.are_too_many(ip("10.0.0.1"), now) {
                failures.note(ip("10.0.0.1"), now);
                tried += 1;
            }
        }
        assert!((35..=41).contains(&tried), "{tried}");
        assert!(!failures.are_too_many(ip("10.0.0.2"), start), "another address");
        assert!(!failures.are_too_many(ip("10.0.0.1"), start + Duration::from_secs(9)));
    }

    #[test]
    fn no_more_suspects_wait_than_may_fail() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.note(ip("10.0.0.1"), now);
        assert!(failures.has_failed(ip("10.0.0.1"), now + Duration::from_secs(59)));
        assert!(!failures.has_failed(ip("10.0.0.1"), now + SUSPECT_FOR));
        let waiting = (0..100).filter(|_| failures.begin_waiting(ip("10.0.0.1"), now)).count();
        assert_eq!(waiting, 9);
        failures.end_waiting(ip("10.0.0.1"));
        assert!(failures.begin_waiting(ip("10.0.0.1"), now));
        assert!(!failures.begin_waiting(ip("10.0.0.1"), now));
    }

    #[test]
    fn neighbours_in_a_network_of_64_bits_count_as_one() {
        let check = |a: &str, b: &str, same| {
            assert_eq!(network(ip(a)) == network(ip(b)), same, "{a} {b}");
        };
        check("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true);
        check("2001:db8:1:2::1", "2001:db8:1:3::1", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * ADDRESSES_MAX as u32 {
            failures.note(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(failures.spent.len() <= ADDRESSES_MAX);
    }
}
