//! The life of one subscription.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::receiver::TerminalDeliveryState;
use fe2o3_amqp::link::{DispositionError, RecvError};
use fe2o3_amqp::types::definitions::{self, AmqpError};
use fe2o3_amqp::types::messaging::{Accepted, Body, Rejected, Released};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Delivery, Receiver};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::down::{Lost, Refusal};
use super::super::links::{self, Opened};
use super::super::messages;
use super::{Command, DeliveryToken, Driver, Held, Often, Shared, Taker};
use crate::clock::now_ms;
use crate::error::{Error, ErrorKind};
use crate::transport::{Incoming, Token, properties};

/// A broker may give up on a message after ten deliveries, and tells nobody: before that, the message is replaced by a
/// copy that begins anew.
const OFTEN: u32 = 4;
/// The wait before a link is opened again that was lost, doubled each time it is lost at once.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How often in a row a link is refused before that is the worker's business.
const REFUSALS_MAX: u32 = 3;

/// See the module's documentation.
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) queue: Arc<str>,
    pub(super) prefetch: u32,
    pub(super) driver: Arc<Driver>,
    /// `None` once nothing more is taken.
    pub(super) taker: Option<Taker>,
    pub(super) often: Often,
    pub(super) commanded: mpsc::UnboundedReceiver<Command>,
    pub(super) held: Arc<Mutex<Held>>,
    pub(super) shared: Arc<Shared>,
}

/// Why a link is not used any more.
enum Ended {
    Released,
    Lost(Lost),
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut again = AGAIN_MIN;
        // One that is refused again and again is refused.
        let mut refused_count = 0;
        loop {
            let opening = {
                let (driver, queue) = (Arc::clone(&self.driver), Arc::clone(&self.queue));
                async move { links::receiver(&driver, &queue).await }
            };
            let lost = match self.unless_released(opening).await {
                None => return,
                Some(Ok(opened)) => {
                    let began = tokio::time::Instant::now();
                    let ended = self.serve(opened).await;
                    self.forget();
                    if began.elapsed() > AGAIN_MAX {
                        (again, refused_count) = (AGAIN_MIN, 0);
                    }
                    match ended {
                        Ended::Released => return,
                        Ended::Lost(lost) => lost,
                    }
                }
                Some(Err(lost)) => lost,
            };
            match lost {
                Lost::Closed => return self.fail(Error::closed()),
                Lost::Connection => {}
                Lost::Refused(refusal) => {
                    refused_count += 1;
                    let queue = &*Arc::clone(&self.queue);
                    if !self.may_be_had_again(&refusal, refused_count) {
                        return self.fail(refusal.into_error(&format!("queue '{queue}'")));
                    }
                    tracing::warn!(queue, "the queue cannot be had for now: {}", refusal.text);
                }
            }
            if self.unless_released(tokio::time::sleep(again)).await.is_none() {
                return;
            }
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// Whether a queue that is refused for the so manieth time is asked for again.
    fn may_be_had_again(&self, refusal: &Refusal, refused_count: u32) -> bool {
        match (&self.taker, refusal.kind) {
            // Without outcomes there is nothing.
            (Some(Taker::AtOnce(_)), _) | (_, ErrorKind::Unreachable) => true,
            // Deleted, and made again by the next link; or the broker is not quite there yet.
            (_, ErrorKind::NotFound | ErrorKind::Broker) => refused_count <= REFUSALS_MAX,
            _ => false,
        }
    }

    /// Does something that may take long, without a link. `None`: it is not wanted any more.
    async fn unless_released<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                command = self.commanded.recv() => match command {
                    // What it was on is gone.
                    Some(Command::Settle(..)) => {}
                    Some(Command::Stop) => self.taker = None,
                    Some(Command::Release) | None => return None,
                },
                done = &mut work => return Some(done),
            }
        }
    }

    fn fail(self, error: Error) {
        if let Some(Taker::Worker(sender)) = &self.taker {
            let _ = sender.send(Err(error));
        }
    }

    /// What was delivered is in its queue again.
    fn forget(&self) {
        let mut held = self.held.lock();
        held.life += 1;
        held.deliveries.clear();
    }

    async fn serve(&mut self, mut opened: Opened<Receiver>) -> Ended {
        let receiver = &mut opened.link;
        let mut credit = if self.taker.is_some() { self.prefetch } else { 0 };
        if let Err(error) = receiver.set_credit(credit).await {
            tracing::debug!("no credit can be given: {error}");
            return Ended::Lost(Lost::Connection);
        }
        // Settled, and no credit given for it yet.
        let mut owed = 0;
        loop {
            let done = tokio::select! {
                biased;
                command = self.commanded.recv() => match command {
                    Some(Command::Settle(info, state)) => {
                        owed += 1;
                        receiver.dispose(info, state).await
                    }
                    Some(Command::Stop) => {
                        self.taker = None;
                        receiver.set_credit(0).await
                    }
                    Some(Command::Release) | None => {
                        self.give_back(receiver).await;
                        opened.close().await;
                        return Ended::Released;
                    }
                },
                received = receiver.recv::<Body<Value>>() => match received {
                    Ok(delivery) => {
                        credit = credit.saturating_sub(1);
                        match self.take(delivery) {
                            None => Ok(()),
                            Some((info, state)) => {
                                owed += 1;
                                receiver.dispose(info, state).await
                            }
                        }
                    }
                    Err(RecvError::MessageDecode(error)) => {
                        let queue = &*self.queue;
                        tracing::warn!(queue, "a message cannot be read, and is rejected: {error}");
                        credit = credit.saturating_sub(1);
                        owed += 1;
                        let error_info = error.info.clone();
                        let error = definitions::Error::new(AmqpError::DecodeError, error.source.to_string(), None);
                        let state = Rejected { error: Some(error) };
                        receiver.dispose(error_info, state).await
                    }
                    Err(error) => {
                        tracing::debug!("a link to receive is lost: {error}");
                        return Ended::Lost(error.into());
                    }
                },
            };
            let given = match done {
                // Not for each one, unless there are few.
                Ok(())
                    if self.taker.is_some()
                        && (owed >= self.prefetch.div_ceil(4) || credit == 0 && owed > 0) =>
                {
                    credit += std::mem::take(&mut owed);
                    receiver.set_credit(credit).await
                }
                done => done,
            };
            if let Err(error) = given {
                tracing::debug!("a link to receive is lost: {error}");
                return Ended::Lost(lost(error));
            }
        }
    }

    /// Takes a delivery; returns how it is to be settled at once, if it is.
    fn take(
        &self,
        delivery: Delivery<Body<Value>>,
    ) -> Option<(super::DeliveryInfo, TerminalDeliveryState)> {
        let (info, message) = delivery.into_parts();
        let Some(taker) = &self.taker else {
            return Some((info, Released {}.into()));
        };
        let inbound = messages::inbound(message);
        let delivery = info.delivery_id();
        let life = {
            let mut held = self.held.lock();
            held.deliveries.insert(delivery, info.clone());
            held.life
        };
        let is_redelivered = inbound.delivery_count > 0;
        let token =
            DeliveryToken { subscription: self.id, life, delivery, is_text: inbound.is_text };
        let token = Token::Activemq(token);
        let queue = Arc::clone(&self.queue);
        let incoming =
            properties::incoming(queue, inbound.properties, is_redelivered, inbound.body, token);
        match taker {
            Taker::AtOnce(work) => {
                work(incoming);
                self.held.lock().deliveries.remove(&delivery);
                Some((info, Accepted {}.into()))
            }
            Taker::Worker(sender) if inbound.delivery_count >= OFTEN && !incoming.id.is_empty() => {
                self.renew(sender.clone(), incoming);
                None
            }
            Taker::Worker(sender)
                if let Some(left) = messages::left_to_wait(&incoming.properties, now_ms()) =>
            {
                let sender = sender.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(left).await;
                    let _ = sender.send(Ok(incoming));
                });
                None
            }
            Taker::Worker(sender) => match sender.send(Ok(incoming)) {
                Ok(()) => None,
                Err(_) => {
                    self.held.lock().deliveries.remove(&delivery);
                    Some((info, Released {}.into()))
                }
            },
        }
    }

    /// Has a message replaced by a copy; one for which that cannot be done is worked on as it is.
    fn renew(&self, sender: mpsc::UnboundedSender<Result<Incoming, Error>>, incoming: Incoming) {
        let renewing = (self.often)(incoming);
        tokio::spawn(async move {
            if let Some(incoming) = renewing.await {
                // Else its worker is gone, and what it had goes back with the link.
                let _ = sender.send(Ok(incoming));
            }
        });
    }

    async fn give_back(&self, receiver: &Receiver) {
        let unsettled = std::mem::take(&mut self.held.lock().deliveries);
        for (_, info) in unsettled {
            if receiver.release(info).await.is_err() {
                return;
            }
        }
    }
}

/// However it ends.
impl Drop for Task {
    fn drop(&mut self) {
        self.shared.subscriptions.lock().remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

fn lost(error: DispositionError) -> Lost {
    tracing::debug!("{error}");
    Lost::Connection
}
