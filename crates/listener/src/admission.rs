//! Who may connect: one admission per process, shared by its listeners.
//!
//! Owns the places under one leaf lock, which is never held across an await or while other code is
//! called. Never closes a socket: it aborts the task that owns it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::OpenFiles;
use crate::places::{Address, Door, Places, Shortage};
use crate::seldom::Seldom;

/// How long to wait for ended connections to be gone. Each needs a turn of its thread for that.
const ENDING_TIMEOUT: Duration = Duration::from_millis(100);

/// See the module's documentation. Cloning is cheap; clones share the same admission.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    places: Mutex<Places<Arc<Ender>>>,
    room: Box<dyn Fn() -> usize + Send + Sync>,
    /// Notified when an ended connection has left.
    ended_left: Notify,
}

impl Admission {
    /// Bounded by the limit of open files. `others` returns how many the rest of the process has or
    /// will have open; it is called for each connection, so it must be fast.
    pub fn new(open_files: OpenFiles, others: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self::with_room(move || open_files.connections_max(others()))
    }

    /// Bounded only by each listener's maximum.
    pub fn unlimited() -> Self {
        Self::with_room(|| usize::MAX)
    }

    fn with_room(room: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        let (places, room) = (Mutex::default(), Box::new(room));
        Self(Arc::new(Inner { places, room, ended_left: Notify::new() }))
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

/// One listener's side of the admission.
pub(crate) struct Entrance {
    admission: Admission,
    door: Door,
    name: &'static str,
    made_room: Seldom,
    refused: Seldom,
    failed: Seldom,
}

impl Entrance {
    pub(crate) fn new(admission: &Admission, name: &'static str, connections_max: usize) -> Self {
        let door = admission.0.places.lock().add_door(connections_max);
        let admission = admission.clone();
        let (made_room, refused, failed) = Default::default();
        Self { admission, door, name, made_room, refused, failed }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A place for a new connection, if there is one, and the [`Ender`] to attach the connection's
    /// task to.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Option<(Place, Arc<Ender>)> {
        let inner = &self.admission.0;
        let room = (inner.room)();
        let ender = Arc::new(Ender::default());
        let entered = inner.places.lock().enter(
            self.door,
            room,
            Address::from(peer.ip()),
            Arc::clone(&ender),
        );
        entered.ended.iter().for_each(|ender| ender.end());
        let why = match entered.shortage {
            None => "",
            Some(Shortage::Connections) => "the maximum of connections is reached",
            Some(Shortage::OpenFiles) => "the limit of open files is reached",
            Some(Shortage::OfAddress) => "one address has half of the places without a login",
        };
        let Some(place) = entered.place else {
            if let Some(count) = self.refused.count(Instant::now()) {
                tracing::warn!(%peer, count, "{} connections refused: {why}", self.name);
            }
            return None;
        };
        if !entered.ended.is_empty() {
            self.tell_of_room(why);
        }
        Some((Place { admission: self.admission.clone(), place }, ender))
    }

    fn tell_of_room(&self, why: &str) {
        if let Some(count) = self.made_room.count(Instant::now()) {
            tracing::warn!(
                count,
                "new {} connections took the places of those that had been silent longest: {why}",
                self.name
            );
        }
    }

    /// Called when the process has no file descriptor left. Returns whether a connection is ended
    /// to free one.
    pub(crate) fn free_descriptor(&self) -> bool {
        let ended = self.admission.0.places.lock().end_longest_silent(None);
        if let Some(ender) = &ended {
            ender.end();
            self.tell_of_room("the limit of open files is reached");
        }
        ended.is_some()
    }

    /// Waits, but not for long, until at most `ended_max` ended connections are left.
    pub(crate) async fn settle(&self, ended_max: usize) {
        let inner = &self.admission.0;
        if inner.places.lock().ended_count() <= ended_max {
            return;
        }
        let settled = async {
            loop {
                let mut left = std::pin::pin!(inner.ended_left.notified());
                // From here on, no departure is missed.
                left.as_mut().enable();
                if inner.places.lock().ended_count() <= ended_max {
                    return;
                }
                left.await;
            }
        };
        // A task that does not end in time is not worth waiting for.
        let _ = timeout(ENDING_TIMEOUT, settled).await;
    }

    /// How many failures to accept to report now, if any.
    pub(crate) fn count_failure(&self) -> Option<u64> {
        self.failed.count(Instant::now())
    }
}

/// A connection's place; dropping it gives it up. The connection counts as silent at first.
pub struct Place {
    admission: Admission,
    place: u64,
}

impl Place {
    /// Call this when the peer has said who it is, or asked for something: its connection stays.
    pub fn known(&self) {
        self.admission.0.places.lock().make_known(self.place);
    }

    /// Call this when it is the peer's turn to speak: it may be ended to admit somebody new, the
    /// longest silent first.
    pub fn silent(&self) {
        self.admission.0.places.lock().make_silent(self.place);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_ended = self.admission.0.places.lock().leave(self.place);
        if was_ended {
            self.admission.0.ended_left.notify_waiters();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.place).finish()
    }
}

/// Ends a connection, even if that is decided before the connection's task has begun.
#[derive(Debug, Default)]
pub(crate) struct Ender {
    task: OnceLock<AbortHandle>,
    is_ended: AtomicBool,
}

impl Ender {
    /// Attaches the connection's task.
    pub(crate) fn attach(&self, task: AbortHandle) {
        let task = self.task.get_or_init(|| task);
        // Either this sees that the connection is ended, or whoever ends it sees the task.
        if self.is_ended.load(Ordering::SeqCst) {
            task.abort();
        }
    }

    fn end(&self) {
        self.is_ended.store(true, Ordering::SeqCst);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}
