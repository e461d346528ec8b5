//! The task that drives the session: it flushes what the commands gathered, hands over what has come, and
//! ends with the store closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use node::{Node, Outbox, Session, Settlement};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::inbox::{Arrived, Inbox};
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
    pub(super) fn held(&mut self, token: &Token) -> Option<(&mut Session, u16, u64)> {
        let Token::Embedded(DeliveryToken { epoch, subscription, tag }) = token else {
            return None;
        };
        let it = self.subscriptions.get(subscription).filter(|_| *epoch == self.epoch)?;
        Some((self.session.as_mut()?, it.channel, *tag))
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

/// Wakes the task that drives the session.
#[derive(Default)]
pub(super) struct WakeUp(pub(super) Notify);

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Shared {
    /// Flushes what was gathered, and takes what has come.
    fn turn(&self, state: &mut State, waker: &Waker) -> Vec<Arrived> {
        let State { session: Some(session), publishing, outbox, .. } = state else {
            return Vec::new();
        };
        session.after_write(0);
        publishing.publish(session, &mut Context::from_waker(waker));
        for error in session.flush() {
            publishing.channel_failed(error.0, &refused(&error.1));
        }
        session.release_confirms();
        let taken =
            outbox.with_sink::<Inbox, _>(|inbox, room| (inbox.take(), std::mem::take(room)));
        let Some((arrived, room)) = taken else { return Vec::new() };
        session.after_write(room);
        publishing.confirm(arrived)
    }

    /// Passes on what has come, with no lock held; whether there was anything.
    fn hand_over(&self, arrived: Vec<Arrived>) -> bool {
        let has_any = !arrived.is_empty();
        self.turns.fetch_add(has_any.into(), Ordering::Relaxed);
        for event in arrived {
            match event {
                Arrived::Delivered { channel, tag, is_redelivered, properties, body } => {
                    self.delivered(channel, tag, is_redelivered, &properties, body);
                }
                Arrived::Cancelled { channel } => self.cancelled(channel),
                Arrived::Published(told) => told.tell(),
                Arrived::Confirmed { .. } | Arrived::Returned { .. } => {}
            }
        }
        has_any
    }

    fn delivered(
        &self,
        channel: u16,
        tag: u64,
        is_redelivered: bool,
        properties: &Bytes,
        body: Bytes,
    ) {
        let epoch;
        let found = {
            let state = self.state.lock();
            let found = state.subscriptions.iter().find(|(_, it)| it.channel == channel);
            epoch = state.epoch;
            found.map(|(id, it)| (*id, Arc::clone(&it.queue), it.incoming.clone()))
        };
        let settlement = match found {
            // Released meanwhile: it is back in its queue.
            None => return,
            Some((subscription, queue, Some(sender))) => {
                let token = Token::Embedded(DeliveryToken { epoch, subscription, tag });
                let incoming =
                    properties::incoming(queue, properties.clone(), is_redelivered, body, token);
                match sender.send(Ok(incoming)) {
                    Ok(()) => return,
                    Err(_) => Settlement::Requeue,
                }
            }
            Some((_, _, None)) => {
                match properties::told(properties, &body) {
                    Ok(Told::Outcome(settled)) => self.outcomes.settled(*settled),
                    Ok(Told::Progress(progressed)) => self.outcomes.progressed(progressed),
                    Err(error) => tracing::warn!("a message in the queue for outcomes: {error}"),
                }
                // Once it has been told: a crash before tells it again.
                Settlement::Ack
            }
        };
        if let Some(session) = &mut self.state.lock().session {
            let _ = session.settle(channel, tag, false, settlement);
        }
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

    pub(super) async fn close(&self) {
        let ended = self.end();
        self.wake.0.notify_one();
        if let Some((session, node)) = ended {
            let _ = close_node(session, node).await;
        }
    }

    /// Tells everybody that it is over. Returns session and node, the first time.
    fn end(&self) -> Option<(Session, Arc<Node>)> {
        let (ended, publishing, subscriptions) = {
            let mut state = self.state.lock();
            state.is_closed = true;
            let subscriptions = std::mem::take(&mut state.subscriptions);
            let ended = (state.session.take()?, Arc::clone(&state.node));
            (ended, std::mem::take(&mut state.publishing), subscriptions)
        };
        for (_, it) in subscriptions {
            if let Some(sender) = it.incoming {
                let _ = sender.send(Err(Error::closed()));
            }
        }
        drop(publishing);
        self.outcomes.closed();
        Some(ended)
    }
}

/// Gives back what is unsettled, and writes what is left: on a thread of its own, which goes on when the
/// runtime ends.
fn close_node(mut session: Session, node: Arc<Node>) -> oneshot::Receiver<()> {
    let (done, closed) = oneshot::channel();
    std::thread::spawn(move || {
        session.close();
        drop(session);
        node.close();
        drop(node);
        // Nobody may wait for it.
        let _ = done.send(());
    });
    closed
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
            let arrived = {
                let mut state = shared.state.lock();
                state.outbox.register(&waker);
                state.outbox.take_dirty();
                is_closed = state.is_closed;
                shared.turn(&mut state, &waker)
            };
            shared.flushed.notify_waiters();
            if !shared.hand_over(arrived) && !is_closed {
                let _ = tokio::time::timeout(LOOK_AGAIN, shared.wake.0.notified()).await;
            }
        }
        shared.close().await;
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some((session, node)) = self.0.end() {
            drop(close_node(session, node));
        }
    }
}
