//! The task that drives the session: it flushes what the commands gathered, hands over what has come, and
//! ends with the store closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use node::{Node, Outbox, Session, Settlement};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::inbox::{Arrived, Delivery, Inbox};
use super::publishing::Publishing;
use super::{DeliveryToken, LOOK_AGAIN, refused};
use crate::error::{Error, ErrorKind};
use crate::transport::properties::{self, Told};
use crate::transport::{Incoming, OutcomeSink, Token};

/// What the commands and the task share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) outcomes: Arc<dyn OutcomeSink>,
    pub(super) wake: Arc<WakeUp>,
    /// What was settled or released has been flushed.
    pub(super) flushed: Notify,
    /// How often there was something to hand over.
    pub(super) turns: AtomicU64,
    /// Whether the store is closed.
    pub(super) down: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) node: Arc<Node>,
    pub(super) outbox: Arc<Outbox>,
    /// `None` once it is closed.
    pub(super) session: Option<Session>,
    /// How many sessions there have been.
    pub(super) epoch: u64,
    pub(super) publishing: Publishing,
    pub(super) subscriptions: HashMap<u64, Subscribed>,
    pub(super) next_subscription: u64,
    /// What subscriptions that are released have settled is durable from this position on.
    pub(super) released: u64,
    pub(super) is_closed: bool,
}

impl State {
    /// Session, channel and tag of a delivery that can still be settled.
    pub(super) fn held(
        &mut self,
        DeliveryToken { epoch, subscription, tag }: DeliveryToken,
    ) -> Option<(&mut Session, u16, u64)> {
        let it = self.subscriptions.get(&subscription).filter(|_| epoch == self.epoch)?;
        Some((self.session.as_mut()?, it.channel, tag))
    }
}

pub(super) struct Subscribed {
    pub(super) channel: u16,
    pub(super) queue: Arc<str>,
    pub(super) prefetch: u16,
    /// `None`: outcomes.
    pub(super) incoming: Option<mpsc::UnboundedSender<Result<Incoming, Error>>>,
    pub(super) is_cancelled: bool,
}

/// What a turn has brought, and who takes it: as it was then, since the number of a channel may be another's
/// a moment later.
struct Brought {
    arrived: Vec<Arrived>,
    epoch: u64,
    /// By channel.
    takers: HashMap<u16, Taker>,
}

/// Who takes deliveries: a worker, or, without a stream, those who wait for outcomes.
struct Taker {
    subscription: u64,
    queue: Arc<str>,
    incoming: Option<mpsc::UnboundedSender<Result<Incoming, Error>>>,
}

/// Wakes the task that drives the session.
#[derive(Default)]
pub(super) struct WakeUp(pub(super) Notify);

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Shared {
    /// Flushes what was gathered, and takes what has come. `None`: nothing.
    fn turn(&self, state: &mut State, waker: &Waker) -> Option<Brought> {
        let State { session: Some(session), publishing, outbox, .. } = state else { return None };
        session.after_write(0);
        publishing.publish(session, &mut Context::from_waker(waker));
        for error in session.flush() {
            publishing.channel_failed(error.0, &refused(&error.1));
        }
        session.release_confirms();
        let taken =
            outbox.with_sink::<Inbox, _>(|inbox, room| (inbox.take(), std::mem::take(room)));
        let (arrived, room) = taken?;
        session.after_write(room);
        let arrived = publishing.confirm(arrived);
        if arrived.is_empty() {
            return None;
        }
        let taker = |(id, it): (&u64, &Subscribed)| {
            let (queue, incoming) = (Arc::clone(&it.queue), it.incoming.clone());
            (it.channel, Taker { subscription: *id, queue, incoming })
        };
        let takers = state.subscriptions.iter().map(taker).collect();
        Some(Brought { arrived, epoch: state.epoch, takers })
    }

    /// Passes on what has come, with no lock held.
    fn hand_over(&self, Brought { arrived, epoch, takers }: Brought) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let mut settlements = Vec::new();
        for event in arrived {
            match event {
                Arrived::Delivered(delivery) => {
                    // Without a taker it was released meanwhile, and is back in its queue.
                    let Some(taker) = takers.get(&delivery.channel) else { continue };
                    let tag = delivery.tag;
                    let token = DeliveryToken { epoch, subscription: taker.subscription, tag };
                    let settlement = self.delivered(token, taker, delivery);
                    settlements.extend(settlement.map(|settlement| (token, settlement)));
                }
                Arrived::Cancelled { channel } => self.cancelled(channel),
                Arrived::Published(told) => told.tell(),
                Arrived::Confirmed { .. } | Arrived::Returned { .. } => {}
            }
        }
        let mut state = self.state.lock();
        for (token, settlement) in settlements {
            // What an earlier session or another subscription had is back in its queue.
            if let Some((session, channel, tag)) = state.held(token) {
                let _ = session.settle(channel, tag, false, settlement);
            }
        }
    }

    /// Hands a delivery to its taker; how it is settled, if it is.
    fn delivered(
        &self,
        token: DeliveryToken,
        taker: &Taker,
        delivery: Delivery,
    ) -> Option<Settlement> {
        let Delivery { is_redelivered, properties, body, .. } = delivery;
        let Taker { queue, incoming, .. } = taker;
        if let Some(sender) = incoming {
            let (queue, token) = (Arc::clone(queue), Token::Embedded(token));
            let incoming = properties::incoming(queue, properties, is_redelivered, body, token);
            return sender.send(Ok(incoming)).is_err().then_some(Settlement::Requeue);
        }
        match properties::told(&properties, &body) {
            Ok(Told::Outcome(settled)) => self.outcomes.settled(*settled),
            Ok(Told::Progress(progressed)) => self.outcomes.progressed(progressed),
            Err(error) => tracing::warn!("a message in the queue for outcomes: {error}"),
        }
        // Once it has been told: a crash before tells it again.
        Some(Settlement::Ack)
    }

    /// A queue is gone, and with it a worker's stream.
    fn cancelled(&self, channel: u16) {
        let mut state = self.state.lock();
        let found = state.subscriptions.values_mut().find(|it| it.channel == channel);
        if let Some(it) = found
            && !it.is_cancelled
            && let Some(sender) = &it.incoming
        {
            let text = "the worker's queue has been deleted";
            let _ = sender.send(Err(Error::new(ErrorKind::NotFound, text)));
        }
    }

    /// Returns when the store can be opened again, whoever closes it.
    pub(super) async fn close(&self) {
        let mut down = self.down.subscribe();
        self.end();
        self.wake.0.notify_one();
        // The sender is part of this.
        let _ = down.wait_for(|is_down| *is_down).await;
    }

    /// Tells everybody that it is over, and has the store closed.
    fn end(&self) {
        let (session, node, publishing, subscriptions) = {
            let mut state = self.state.lock();
            state.is_closed = true;
            let Some(session) = state.session.take() else { return };
            let subscriptions = std::mem::take(&mut state.subscriptions);
            let (node, publishing) =
                (Arc::clone(&state.node), std::mem::take(&mut state.publishing));
            (session, node, publishing, subscriptions)
        };
        for (_, it) in subscriptions {
            if let Some(sender) = it.incoming {
                let _ = sender.send(Err(Error::closed()));
            }
        }
        drop(publishing);
        self.outcomes.closed();
        close_node(session, node, self.down.clone());
    }
}

/// Gives back what is unsettled, and writes what is left: on a thread of its own, which goes on when the
/// runtime ends.
fn close_node(mut session: Session, node: Arc<Node>, down: watch::Sender<bool>) {
    std::thread::spawn(move || {
        session.close();
        drop(session);
        node.close();
        drop(node);
        down.send_replace(true);
    });
}

/// The task that drives the session: however it ends, even with its runtime, the store is closed.
pub(super) struct Driving(pub(super) Arc<Shared>);

impl Driving {
    /// Flushes, hands over, sleeps.
    pub(super) async fn run(self) {
        let shared = &*self.0;
        let waker = Waker::from(Arc::clone(&shared.wake));
        let mut is_closed = false;
        while !is_closed {
            let brought = {
                let mut state = shared.state.lock();
                state.outbox.register(&waker);
                state.outbox.take_dirty();
                is_closed = state.is_closed;
                shared.turn(&mut state, &waker)
            };
            shared.flushed.notify_waiters();
            if let Some(brought) = brought {
                shared.hand_over(brought);
            } else if !is_closed {
                let _ = tokio::time::timeout(LOOK_AGAIN, shared.wake.0.notified()).await;
                // Who woke it is seldom alone: the others go first, and one turn serves them all.
                tokio::task::yield_now().await;
            }
        }
        shared.close().await;
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.end();
    }
}
