//! Sending: a lane for each queue, with a link of its own.
//!
//! A broker holds back who sends to a queue that is full by giving that link no more credit. With one link for all
//! queues the others would wait with it, so each has its own; those that have had nothing to do for a while, or whose
//! place another lane needs, are closed.
//!
//! *Invariants:* what goes to one queue is sent in the order in which it was given to [`Publishing::publish`]. What is not
//! confirmed when its link is lost is sent again on the next, in the same order. A message whose confirm nobody waits
//! for any more is not sent unless its turn had come already.

mod lane;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fe2o3_amqp::Sendable;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::Value;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::lane::Lane;
use super::super::{Confirm, Taken};
use super::connection::Driver;
use super::messages::Outbound;
use crate::error::Error;
use crate::window::Permits;

/// Links that are open at a time; a lane beyond waits until another has nothing to do.
const LINKS_MAX: usize = 1024;

/// See the module's documentation.
pub(super) struct Publishing(Arc<Shared>);

struct Shared {
    driver: Driver,
    lanes: Mutex<Lanes>,
    links: Arc<Semaphore>,
    /// Lanes that wait for a link.
    waiting_count: AtomicUsize,
    /// One more waits.
    is_wanted: Notify,
}

#[derive(Default)]
struct Lanes {
    by_address: HashMap<Arc<str>, mpsc::UnboundedSender<Waiting>>,
    is_closed: bool,
}

type Message = Sendable<Body<Value>>;

/// A message, who waits for its confirm, and its room in the producer's window.
struct Waiting {
    message: Arc<Message>,
    confirm: oneshot::Sender<Result<Taken, Error>>,
    _permits: Option<Arc<Permits>>,
}

impl Publishing {
    pub(super) fn new(driver: Driver) -> Self {
        Self(Arc::new(Shared {
            driver,
            lanes: Mutex::default(),
            links: Arc::new(Semaphore::new(LINKS_MAX)),
            waiting_count: AtomicUsize::new(0),
            is_wanted: Notify::new(),
        }))
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.0.driver
    }

    /// Hands a message to the lane of its queue.
    pub(super) fn publish(
        &self,
        address: &str,
        message: Outbound,
        permits: Option<Arc<Permits>>,
    ) -> Confirm {
        let (confirm, confirmed) = oneshot::channel();
        let message = Arc::new(message.into());
        let mut waiting = Waiting { message, confirm, _permits: permits };
        let mut lanes = self.0.lanes.lock();
        if lanes.is_closed {
            return confirmed;
        }
        if let Some(lane) = lanes.by_address.get(address) {
            match lane.send(waiting) {
                Ok(()) => return confirmed,
                // It has ended by a panic, or with its runtime.
                Err(mpsc::error::SendError(unsent)) => waiting = unsent,
            }
        }
        let (sender, incoming) = mpsc::unbounded_channel();
        let address: Arc<str> = address.into();
        let lane = Lane::new(Arc::clone(&address), Arc::clone(&self.0), incoming);
        let _ = sender.send(waiting);
        lanes.by_address.insert(address, sender);
        drop(lanes);
        tokio::spawn(lane.run());
        confirmed
    }

    /// Gives up what is not confirmed.
    fn give_up(&self) {
        let mut lanes = self.0.lanes.lock();
        lanes.is_closed = true;
        lanes.by_address.clear();
    }

    /// Says good-bye, and waits until that is done.
    pub(super) async fn close(&self) {
        self.give_up();
        self.0.driver.close().await;
    }
}

/// Lanes keep what they share, but not alive.
impl Drop for Publishing {
    fn drop(&mut self) {
        self.give_up();
        self.0.driver.begin_closing();
    }
}

impl Shared {
    /// Ends a lane, unless something has come for it.
    fn end(&self, address: &str, incoming: &mpsc::UnboundedReceiver<Waiting>) -> bool {
        let mut lanes = self.lanes.lock();
        let is_over = incoming.is_empty();
        if is_over && !lanes.is_closed {
            lanes.by_address.remove(address);
        }
        is_over
    }

    /// The right to have a link open.
    async fn link(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.links).try_acquire_owned() {
            return Some(permit);
        }
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
        let _waits = Waits(&self.waiting_count);
        self.is_wanted.notify_waiters();
        Arc::clone(&self.links).acquire_owned().await.ok()
    }

    /// Whether another lane waits for a link.
    fn is_wanted(&self) -> bool {
        self.waiting_count.load(Ordering::SeqCst) > 0
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
