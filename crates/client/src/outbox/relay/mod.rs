//! The relay: one over all processes that share an outbox, by a lease.
//!
//! [`running`] is its loop, [`carrying`] what it has under way, [`lanes`] how much that may be to each queue,
//! [`telling`] how outcomes reach the program; [`rows`] is what it writes to the database, [`looking`] what it
//! reads there.

mod carrying;
mod lanes;
mod looking;
mod rows;
mod running;
mod telling;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use self::running::Running;
use self::telling::Tell;
use super::{Outbox, Told};
use crate::connection::Connection;
use crate::error::Error;
use crate::worker::Failure;

/// Messages under way to each queue, unless said otherwise.
const WINDOW: usize = 1000;
/// Bytes of bodies under way to each queue, unless said otherwise.
const WINDOW_BYTES: usize = 64 << 20;
/// How long a lease lasts that nobody renews, unless said otherwise.
const LEASE: Duration = Duration::from_secs(10);
/// The shortest lease: it is renewed three times in this time.
const LEASE_MIN: Duration = Duration::from_secs(1);
/// How long a message is kept once its outcome has been told, unless said otherwise.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long what has begun may take when the relay stops, unless said otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// Says how a relay is to be; [`run`](Self::run) or [`until`](Self::until) has it work.
///
/// What cannot be handed over now is tried again, as often and as long as it takes: after a second, then
/// after twice as long each time, up to a minute, and [`Outbox::pending`] says why. What can never be handed
/// over, since it is too large for the engine, is refused: told as an error, and kept. It holds up nobody, not
/// even those behind it with the same key, just as one that its worker fails does not.
#[must_use = "a relay works while it is run"]
pub struct Relay {
    outbox: Outbox,
    connection: Arc<Connection>,
    tell: Option<Tell>,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    window: usize,
    window_bytes: usize,
    lease: Duration,
    keep: Duration,
    grace: Duration,
}

/// What a relay has done between its start and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayReport {
    /// How often a message was handed over: one more than once after a crash.
    pub handed_over: u64,
    /// Messages whose outcome has come.
    pub settled: u64,
    /// Messages that cannot be sent at all.
    pub refused: u64,
    /// Outcomes and refusals that the callback was told.
    pub told: u64,
}

impl std::fmt::Display for RelayReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { handed_over, settled, refused, told } = self;
        write!(f, "{handed_over} handed over, {settled} settled, {refused} refused, {told} told")
    }
}

impl Relay {
    pub(super) fn new(outbox: Outbox, connection: Arc<Connection>) -> Self {
        let settings = Settings {
            window: WINDOW,
            window_bytes: WINDOW_BYTES,
            lease: LEASE,
            keep: KEEP,
            grace: GRACE,
        };
        Self { outbox, connection, tell: None, settings }
    }

    /// Has a function called with what became of each message: at least once, whoever has put it in and
    /// whichever relay has handed it over. It is told again if the function fails, as handlers do, but for a
    /// [permanent](Failure::permanent) failure; if it panics; and if the process ends before its return is
    /// noted. Up to 64 are told at a time.
    ///
    /// A relay without a function takes what there is to be told as told:
    /// [`Outbox::state`](super::Outbox::state) says it.
    pub fn on_outcome<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(Told) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.tell = Some(telling::boxed(function));
        self
    }

    /// How many messages may be under way to each queue or topic: handed over, and their outcome not known.
    /// 1000 unless said otherwise. All others wait in the database.
    pub fn window(mut self, messages: usize) -> Self {
        self.settings.window = messages.max(1);
        self
    }

    /// How many bytes their bodies may have together; 64 MiB unless said otherwise. A larger body goes alone.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.settings.window_bytes = bytes.max(1);
        self
    }

    /// How long after the end of a relay that could not say so another one takes over; 10 s unless said
    /// otherwise, and one second at least. A relay that cannot reach the database for this long stops handing
    /// over.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(LEASE_MIN);
        self
    }

    /// How long a message stays known once its outcome has been told; seven days unless said otherwise.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.settings.keep = keep;
        self
    }

    /// How long what has begun may take once the relay is told to stop; 10 s unless said otherwise.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Works, or stands by, until the future is done; then lets functions and confirms that have begun finish,
    /// gives up the lease, and says what was done. For programs: [`signals`](crate::signals()).
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed): the connection was closed.
    /// [`ErrorKind::OutboxDamaged`](crate::ErrorKind::OutboxDamaged). Everything else passes, and is waited for.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Result<RelayReport, Error> {
        let Self { outbox, connection, tell, settings } = self;
        let running = Running::new(outbox, connection, tell, settings);
        Box::pin(running.run(stop)).await
    }

    /// Works, or stands by, until the connection is closed.
    ///
    /// # Errors
    /// As [`until`](Self::until).
    pub async fn run(self) -> Result<RelayReport, Error> {
        self.until(std::future::pending()).await
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("settings", &self.settings).finish_non_exhaustive()
    }
}
