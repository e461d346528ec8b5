//! What the connection that consumes brings, and to whom it goes: outcomes and workers' messages.
//!
//! *Invariant:* an id is entered under the lock under which deliveries look for it, so none comes before
//! it is known whose it is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::super::properties::{self, OUTCOMES_PREFETCH, Told};
use super::super::{Incoming, OutcomeSink, Source, Subscription, Token, Transport};
use super::driver::{Handler, Then};
use super::link::{Consumer, ConsumerId, Delivery, Refusal, Settlement};
use super::{AmqpTransport, DeliveryToken, NOT_FOUND, refused};
use crate::error::Error;
use crate::outcome::Settled;

/// See the module's documentation.
pub(super) struct Consumptions {
    outcomes: Arc<dyn OutcomeSink>,
    transport: OnceLock<Weak<AmqpTransport>>,
    consumers: Mutex<Consumers>,
    /// Somebody has been released.
    changed: Notify,
}

#[derive(Default)]
struct Consumers {
    of_outcomes: Option<ConsumerId>,
    of_answers: Option<ConsumerId>,
    workers: HashMap<ConsumerId, Worker>,
    is_closed: bool,
}

struct Worker {
    queue: Arc<str>,
    source: Source,
    /// `None` once nothing more comes.
    incoming: Option<mpsc::UnboundedSender<Result<Incoming, Error>>>,
}

impl Consumptions {
    pub(super) fn new(outcomes: Arc<dyn OutcomeSink>) -> Self {
        let (transport, consumers, changed) = Default::default();
        Self { outcomes, transport, consumers, changed }
    }

    /// Says who makes lost queues anew.
    pub(super) fn belong_to(&self, transport: Weak<AmqpTransport>) {
        let _ = self.transport.set(transport);
    }

    /// Notes the consumer of outcomes that `consume` adds.
    pub(super) fn add_outcomes(
        &self,
        consume: impl FnOnce() -> Result<ConsumerId, Error>,
    ) -> Result<(), Error> {
        let mut consumers = self.consumers.lock();
        consumers.of_outcomes = Some(consume()?);
        Ok(())
    }

    /// The queue of outcomes is deleted, and not to be made again.
    pub(super) fn forget_outcomes(&self) {
        self.consumers.lock().of_outcomes = None;
    }

    /// The consumer of answers; `consume` adds it if there is none.
    pub(super) fn answers(
        &self,
        consume: impl FnOnce() -> Result<ConsumerId, Error>,
    ) -> Result<ConsumerId, Error> {
        let mut consumers = self.consumers.lock();
        if consumers.is_closed {
            return Err(Error::closed());
        }
        let id = consumers.of_answers.map_or_else(consume, Ok)?;
        consumers.of_answers = Some(id);
        Ok(id)
    }

    /// A stream for the consumer that `consume` adds.
    pub(super) fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        consume: impl FnOnce() -> Result<ConsumerId, Error>,
    ) -> Result<Subscription, Error> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut consumers = self.consumers.lock();
        if consumers.is_closed {
            return Err(Error::closed());
        }
        let id = consume()?;
        let (queue, source) = (queue.into(), source.clone());
        let worker = Worker { queue, source, incoming: Some(sender) };
        consumers.workers.insert(id, worker);
        Ok(Subscription { incoming, id: id.number() })
    }

    /// Completes once a consumer is gone.
    pub(super) async fn released(&self, id: ConsumerId) {
        loop {
            let changed = self.changed.notified();
            if !self.consumers.lock().workers.contains_key(&id) {
                return;
            }
            changed.await;
        }
    }

    /// Who takes outcomes.
    pub(super) fn outcomes(&self) -> Arc<dyn OutcomeSink> {
        Arc::clone(&self.outcomes)
    }

    fn told(&self, settled: Settled) {
        if let Some(transport) = self.transport()
            && let Some(maker) = &transport.maker
        {
            maker.told(&settled);
        }
        self.outcomes.settled(settled);
    }

    fn transport(&self) -> Option<Arc<AmqpTransport>> {
        self.transport.get()?.upgrade()
    }
}

impl Handler for Consumptions {
    fn delivered(&self, delivery: Delivery) -> Then {
        let tag = delivery.tag;
        let consumers = self.consumers.lock();
        if consumers.of_outcomes == Some(tag.consumer()) {
            drop(consumers);
            match properties::told(&delivery.properties, &delivery.body) {
                Ok(Told::Outcome(settled)) => self.told(*settled),
                Ok(Told::Progress(progressed)) => self.outcomes.progressed(progressed),
                Err(error) => tracing::warn!("a message in the queue for outcomes: {error}"),
            }
            return Then::Settle(Settlement::Ack);
        }
        if consumers.of_answers == Some(tag.consumer()) {
            drop(consumers);
            if let Some(transport) = self.transport() {
                transport.questions.answered(&delivery);
            }
            return Then::Nothing;
        }
        let Some(Worker { queue, incoming: Some(sender), .. }) =
            consumers.workers.get(&tag.consumer())
        else {
            return Then::Release;
        };
        let Delivery { is_redelivered, properties, body, .. } = delivery;
        let token = Token::Amqp(DeliveryToken(tag));
        let incoming =
            properties::incoming(Arc::clone(queue), properties, is_redelivered, body, token);
        if sender.send(Ok(incoming)).is_ok() { Then::Nothing } else { Then::Release }
    }

    fn cancelled(&self, consumer: ConsumerId, why: Option<Refusal>) {
        let mut consumers = self.consumers.lock();
        if consumers.of_outcomes == Some(consumer) {
            drop(consumers);
            // Deleted: as if the broker had lost it, but for a new consumer.
            return self.restore_outcomes(None, why);
        }
        if consumers.of_answers == Some(consumer) {
            // The next question makes another.
            consumers.of_answers = None;
        }
        let Some(worker) = consumers.workers.get_mut(&consumer) else { return };
        if let Some(sender) = worker.incoming.take()
            && let Some(refusal) = why
        {
            let _ = sender.send(Err(refused(&format!("queue '{}'", worker.queue), &refusal)));
            consumers.workers.remove(&consumer);
            self.changed.notify_waiters();
        }
    }

    fn missing(&self, consumer: ConsumerId) {
        let consumers = self.consumers.lock();
        if consumers.of_outcomes == Some(consumer) {
            drop(consumers);
            return self.restore_outcomes(Some(consumer), None);
        }
        let lost = consumers.workers.get(&consumer);
        let Some((queue, source)) = lost.map(|it| (Arc::clone(&it.queue), it.source.clone()))
        else {
            return;
        };
        drop(consumers);
        let Some(transport) = self.transport() else { return };
        tracing::warn!(queue = &*queue, "the broker has lost the queue, which is made again");
        tokio::spawn(async move {
            let mut made = transport.ensure_subscribed(&queue, &source).await;
            while let Err(error) = &made
                && error.is_temporary()
                && transport.consumptions.consumers.lock().workers.contains_key(&consumer)
            {
                tracing::warn!(queue = &*queue, "the queue cannot be made: {error}");
                tokio::time::sleep(transport.times.reconnect_max).await;
                made = transport.ensure_subscribed(&queue, &source).await;
            }
            match made {
                Ok(()) => {
                    if let Some(consuming) = transport.consuming.get() {
                        consuming.with(|link, _| link.resume(consumer));
                    }
                }
                Err(error) => {
                    let mut consumers = transport.consumptions.consumers.lock();
                    let worker = consumers.workers.remove(&consumer);
                    if let Some(sender) = worker.and_then(|worker| worker.incoming) {
                        let _ = sender.send(Err(error));
                    }
                    transport.consumptions.changed.notify_waiters();
                    drop(consumers);
                    transport.release(consumer.number());
                }
            }
        });
    }

    fn released(&self, consumer: ConsumerId) {
        self.consumers.lock().workers.remove(&consumer);
        self.changed.notify_waiters();
    }

    fn up(&self) {
        let answers = self.consumers.lock().of_answers;
        if let (Some(answers), Some(transport)) = (answers, self.transport()) {
            transport.ask_again(answers);
        }
    }

    fn closed(&self) {
        let mut consumers = self.consumers.lock();
        consumers.is_closed = true;
        for (_, worker) in consumers.workers.drain() {
            if let Some(sender) = worker.incoming {
                let _ = sender.send(Err(Error::closed()));
            }
        }
        drop(consumers);
        self.changed.notify_waiters();
        if let Some(transport) = self.transport() {
            transport.questions.close();
        }
        self.outcomes.closed();
    }
}

impl Consumptions {
    /// Outcomes have been lost with their queue: it is made anew, and what has none is published again.
    fn restore_outcomes(&self, consumer: Option<ConsumerId>, why: Option<Refusal>) {
        let Some(transport) = self.transport() else { return };
        let refusal = why.filter(|why| !matches!(why.code, 0 | NOT_FOUND));
        match &refusal {
            None => {
                tracing::warn!("the broker has lost the queue for outcomes, which is made again")
            }
            Some(why) => tracing::error!("no outcomes can be told for now: {why}"),
        }
        tokio::spawn(async move {
            if refusal.is_some() {
                // It would be refused again at once.
                tokio::time::sleep(transport.times.reconnect_max).await;
            }
            while let Err(error) = transport.restore_outcomes(consumer).await {
                if error.kind() == crate::ErrorKind::Closed {
                    return;
                }
                tracing::warn!("the queue for outcomes cannot be made: {error}");
                tokio::time::sleep(transport.times.reconnect_max).await;
            }
        });
    }
}

impl AmqpTransport {
    async fn restore_outcomes(&self, consumer: Option<ConsumerId>) -> Result<(), Error> {
        self.declare_outcome_queue().await?;
        let Some(consuming) = self.consuming.get() else { return Ok(()) };
        match consumer {
            Some(consumer) => consuming.with(|link, _| link.resume(consumer)),
            None => self.consumptions.add_outcomes(|| {
                let consumer = Consumer::of(&self.outcome_queue, OUTCOMES_PREFETCH);
                self.consume(consuming, consumer)
            })?,
        }
        let unsettled = self.consumptions.outcomes.unsettled();
        // Their queues may be lost as well.
        let targets: HashSet<_> = unsettled.iter().map(|it| &it.target).collect();
        let mut gone = HashSet::new();
        for target in targets {
            match self.ensure(target).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    tracing::error!("what had been sent to {target} is not sent again: {error}");
                    gone.insert(target);
                }
            }
        }
        for message in unsettled.iter().filter(|message| !gone.contains(&message.target)) {
            // One after the other: there may be many, and nobody waits for them now. What cannot be sent
            // again is known to its sender as not known in time.
            for part in self.prepare(message).await? {
                let _ = self.publish(part, None).await;
            }
        }
        Ok(())
    }
}
