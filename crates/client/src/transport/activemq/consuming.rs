//! Taking messages out of queues: a task for each subscription, which opens its link again when it is lost.
//!
//! The prefetch is link credit that is given by hand: a new one for each delivery that is settled, so there are never more
//! unsettled ones than that.
//!
//! *Invariants:* a delivery is named with the number of its link's life, and settled on that link or not at all: what
//! an earlier link had is in its queue again. Settlements of one subscription are sent in the order in which they were
//! given, and before its link is closed.

mod subscription;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::receiver::TerminalDeliveryState;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use self::subscription::Task;
use super::super::{Incoming, Subscription};
use super::connection::Driver;
use crate::error::Error;

/// Names a delivery.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryToken {
    subscription: u64,
    /// Of the link's lives.
    life: u64,
    delivery: u32,
    /// Its body is a text in the eyes of its producer.
    pub(super) is_text: bool,
}

#[cfg(test)]
impl DeliveryToken {
    /// Of nothing.
    pub(super) fn for_tests() -> Self {
        Self { subscription: 0, life: 0, delivery: 0, is_text: false }
    }
}

/// Who gets what comes.
pub(super) enum Taker {
    /// A worker.
    Worker(mpsc::UnboundedSender<Result<Incoming, Error>>),
    /// All that comes is worked on at once, in order.
    AtOnce(Box<dyn Fn(Incoming) + Send + Sync>),
}

/// What is done about a delivery that was delivered often: whether it is, in the end.
pub(super) type Often = Arc<
    dyn Fn(Incoming) -> futures_util::future::BoxFuture<'static, Option<Incoming>> + Send + Sync,
>;

/// See the module's documentation.
pub(super) struct Consuming(Arc<Shared>);

struct Shared {
    subscriptions: Mutex<HashMap<u64, Subscribed>>,
    next: AtomicU64,
    /// One is gone.
    changed: Notify,
}

struct Subscribed {
    commands: mpsc::UnboundedSender<Command>,
    held: Arc<Mutex<Held>>,
}

/// What is delivered and not settled.
#[derive(Default)]
struct Held {
    life: u64,
    deliveries: HashMap<u32, DeliveryInfo>,
}

enum Command {
    Settle(DeliveryInfo, TerminalDeliveryState),
    /// Takes no more.
    Stop,
    /// Gives back what is not settled, and ends.
    Release,
}

impl Consuming {
    pub(super) fn new() -> Self {
        let (subscriptions, changed) = Default::default();
        Self(Arc::new(Shared { subscriptions, next: AtomicU64::new(0), changed }))
    }

    /// A stream for a worker.
    pub(super) fn subscribe(
        &self,
        driver: Arc<Driver>,
        queue: &str,
        prefetch: u16,
        often: Often,
    ) -> Subscription {
        let (sender, incoming) = mpsc::unbounded_channel();
        let id = self.start(driver, queue, prefetch, Taker::Worker(sender), often);
        Subscription { incoming, id }
    }

    /// Has a function called for all that comes; returns the number of the subscription.
    pub(super) fn start(
        &self,
        driver: Arc<Driver>,
        queue: &str,
        prefetch: u16,
        taker: Taker,
        often: Often,
    ) -> u64 {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (commands, commanded) = mpsc::unbounded_channel();
        let held = Arc::<Mutex<Held>>::default();
        let subscribed = Subscribed { commands, held: Arc::clone(&held) };
        self.0.subscriptions.lock().insert(id, subscribed);
        let task = Task {
            id,
            queue: queue.into(),
            prefetch: prefetch.max(1).into(),
            driver,
            taker: Some(taker),
            often,
            commanded,
            held,
            shared: Arc::clone(&self.0),
        };
        tokio::spawn(task.run());
        id
    }

    /// Whether a delivery can still be settled.
    pub(super) fn holds(&self, token: &DeliveryToken) -> bool {
        let subscriptions = self.0.subscriptions.lock();
        let Some(it) = subscriptions.get(&token.subscription) else { return false };
        let held = it.held.lock();
        held.life == token.life && held.deliveries.contains_key(&token.delivery)
    }

    /// Settles a delivery; `false` if it is somebody else's by now.
    pub(super) fn settle(&self, token: &DeliveryToken, state: TerminalDeliveryState) -> bool {
        let subscriptions = self.0.subscriptions.lock();
        let Some(it) = subscriptions.get(&token.subscription) else { return false };
        let mut held = it.held.lock();
        if held.life != token.life {
            return false;
        }
        let Some(info) = held.deliveries.remove(&token.delivery) else { return false };
        it.commands.send(Command::Settle(info, state)).is_ok()
    }

    pub(super) fn stop(&self, id: u64) {
        self.command(id, Command::Stop);
    }

    pub(super) fn release(&self, id: u64) {
        self.command(id, Command::Release);
    }

    fn command(&self, id: u64, command: Command) {
        if let Some(it) = self.0.subscriptions.lock().get(&id) {
            let _ = it.commands.send(command);
        }
    }

    /// Completes once a subscription is gone.
    pub(super) async fn released(&self, id: u64) {
        loop {
            let changed = self.0.changed.notified();
            if !self.0.subscriptions.lock().contains_key(&id) {
                return;
            }
            changed.await;
        }
    }
}

/// Whoever is subscribed is not any more.
impl Drop for Consuming {
    fn drop(&mut self) {
        for (_, it) in self.0.subscriptions.lock().iter() {
            let _ = it.commands.send(Command::Release);
        }
    }
}
