//! Kafka: a queue is a topic, and the group of the same name that reads it.
//!
//! ```text
//!  producer ─▶ orders ─▶ group orders ─▶ worker ─▶ wilco.outcomes/PARTITION ─▶ producer
//!                ▲                         │ again ─▶ orders.wilco.retry ─▶ group orders.wilco.retry ─┐
//!                └─────────────────────────│──────────────────────────────────────────────────────────┘
//!                                          └ failed ─▶ orders.wilco.dead
//! ```
//!
//! - Where the brokers have share groups (4.2 and later), workers are members of one ([`share`]): a message has one
//!   worker, and there may be more workers than partitions. Answers to a share group are no part of a transaction,
//!   so the outcome is stored first, and the answer follows. Elsewhere, and if the URL says `groups=classic`, a
//!   partition has one worker at a time ([`group`]), and outcome and offset are one transaction.
//! - The library makes the outcomes ([`crate::transport::making`]). They come in one topic for all, in a partition
//!   that each producer chooses ([`replies`]), and are read back from there where no ledger is named ([`reading`]).
//! - A message's key is its id, so that what is sent again goes where it went before.

mod clients;
mod errors;
mod group;
mod offsets;
mod publishing;
mod reading;
mod records;
mod replies;
mod retries;
mod settling;
mod share;
mod subscribed;
mod topics;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use self::clients::Clients;
use self::publishing::Publisher;
use self::records::ReplyTo;
use self::replies::Replies;
pub(crate) use self::subscribed::DeliveryToken;
use self::subscribed::Subscribed;
use self::topics::Topics;
use super::making::Maker;
use super::properties;
use super::{
    Admission, Answer, Confirm, Incoming, OutcomeSink, Outgoing, Question, Source, Subscription,
    Transport, Verdict,
};
use crate::capability::Capability;
use crate::clock::now_ms;
use crate::error::{Error, ErrorKind};
use crate::ledger;
use crate::progress::Progress;
use crate::target::Target;
use crate::url::Address;
use crate::window::Permits;

/// How long a worker waits for its group to know that it has left.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSING: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct KafkaTransport {
    this: Weak<Self>,
    clients: Clients,
    topics: Arc<Topics>,
    publisher: Publisher,
    maker: Maker,
    outcomes: Arc<dyn OutcomeSink>,
    replies: OnceCell<Arc<Replies>>,
    reading: Mutex<Option<AbortHandle>>,
    subscribed: Mutex<HashMap<u64, Arc<Subscribed>>>,
    next_subscription: AtomicU64,
}

impl KafkaTransport {
    /// Connects; returns once a broker has let us in.
    pub(crate) async fn connect(
        address: Address,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<Self>, Error> {
        let clients = Clients { address };
        let kafka = clients.connect().await?;
        let Address { partitions, groups, .. } = clients.address;
        let topics = Arc::new(Topics::new(&kafka, partitions, groups).await?);
        let publisher = Publisher::new(&kafka, Arc::clone(&topics)).await?;
        let ledger = ledger::open(clients.address.ledger.as_deref()).await?;
        let maker = Maker::new(ledger, clients.address.connection_name(), Arc::clone(&outcomes));
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            clients,
            topics,
            publisher,
            maker,
            outcomes,
            replies: OnceCell::new(),
            reading: Mutex::default(),
            subscribed: Mutex::default(),
            next_subscription: AtomicU64::new(0),
        }))
    }

    /// Where outcomes are to be sent to.
    fn reply_to(&self) -> String {
        self.replies.get().map_or_else(String::new, |replies| replies.name())
    }

    /// The topic of outcomes was lost: what has none is sent again, under its id.
    async fn restore_outcomes(&self) {
        tracing::warn!("the topic for outcomes is lost, and made again");
        self.topics.lost(topics::OUTCOMES);
        if let Err(error) = self.topics.ensure_outcomes().await {
            tracing::warn!("the topic for outcomes cannot be made: {error}");
            return;
        }
        for message in self.outcomes.unsettled() {
            let Ok(parts) = self.prepare(&message).await else { return };
            for part in parts {
                let _ = self.publish(part, None).await;
            }
        }
    }

    fn subscription(&self, id: u64) -> Option<Arc<Subscribed>> {
        self.subscribed.lock().get(&id).cloned()
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::Durable | Capability::Delay | Capability::Attach => true,
            Capability::Dropped | Capability::Retry | Capability::Cancel | Capability::Watch => {
                false
            }
            Capability::Topics | Capability::SharedIds => self.maker.is_shared(),
        }
    }

    async fn ensure(&self, target: &Target) -> Result<(), Error> {
        match target {
            Target::Queue(queue) => self.topics.ensure(queue).await,
            // Without a ledger nobody would know how many outcomes there will be.
            Target::Topic(topic) => self.maker.subscribers(topic).await.map(drop),
        }
    }

    async fn ensure_subscribed(&self, queue: &str, source: &Source) -> Result<(), Error> {
        match source {
            Source::Itself => self.topics.ensure_worked_on(queue).await,
            Source::Topic(topic) => {
                self.topics.ensure_worked_on(queue).await?;
                self.maker.subscribe(topic, queue).await
            }
            Source::Outcomes(_) => {
                let text =
                    "Kafka makes no outcomes, so there are none to be watched; a wilco server does";
                Err(Error::new(ErrorKind::Unsupported, text))
            }
        }
    }

    async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        topics::check_name(queue)?;
        self.topics.purge(queue).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        let deleted = self.topics.delete(queue).await?;
        self.maker.unsubscribe(queue).await?;
        Ok(deleted)
    }

    async fn ensure_outcomes(&self) -> Result<(), Error> {
        let begin = async || {
            let random = uuid::Uuid::now_v7().as_u128() as u64;
            let replies = Replies::begin(&self.clients, &self.topics, random).await?;
            let replies = Arc::new(replies);
            let task = tokio::spawn(Arc::clone(&replies).read(Weak::clone(&self.this)));
            *self.reading.lock() = Some(task.abort_handle());
            Ok(replies)
        };
        self.replies.get_or_try_init(begin).await.map(drop)
    }

    async fn prepare(&self, message: &Outgoing) -> Result<Vec<Outgoing>, Error> {
        self.maker.prepare(message).await
    }

    fn publish(&self, message: Outgoing, permits: Option<Arc<Permits>>) -> Confirm {
        self.maker.sent(&message);
        let encoded = properties::of_message(&message, &self.reply_to(), now_ms());
        let record = records::record(message.target.name(), &encoded, message.body);
        self.publisher.publish(record, permits)
    }

    async fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        prefetch: u16,
    ) -> Result<Subscription, Error> {
        self.ensure_subscribed(queue, source).await?;
        let Self { clients, topics, publisher, .. } = self;
        let (subscribed, incoming) =
            Subscribed::begin(clients, topics, publisher, queue, prefetch).await?;
        let id = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        self.subscribed.lock().insert(id, Arc::new(subscribed));
        Ok(Subscription { incoming, id })
    }

    fn stop(&self, subscription: u64) {
        if let Some(subscribed) = self.subscription(subscription) {
            subscribed.workers.stop();
        }
    }

    fn release(&self, subscription: u64) {
        let Some(subscribed) = self.subscription(subscription) else { return };
        subscribed.release();
        let this = Weak::clone(&self.this);
        // Whoever drops a worker may have no runtime any more, and then nothing is left to be done.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, subscribed.released()).await;
            if let Some(this) = this.upgrade() {
                this.subscribed.lock().remove(&subscription);
            }
        });
    }

    async fn released(&self, subscription: u64) {
        let Some(subscribed) = self.subscription(subscription) else { return };
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, subscribed.released()).await;
    }

    fn delays_retries(&self) -> bool {
        true
    }

    fn holds(&self, delivery: &Incoming) -> bool {
        delivery.token.kafka().is_some_and(|token| token.0.is_held())
    }

    async fn admit(&self, delivery: &Incoming, attempt: u32) -> Admission {
        self.maker.admit_delivery(self, delivery, attempt).await
    }

    async fn settle(&self, delivery: &Incoming, attempt: u32, verdict: Verdict) -> bool {
        self.maker.settle_delivery(self, delivery, attempt, verdict).await
    }

    fn report_progress(&self, delivery: &Incoming, attempt: u32, progress: &Progress) {
        if self.publisher.trouble().is_some() {
            // It would be stale by then.
            return;
        }
        let Some(message) = properties::of_progress(&delivery.origin(), attempt, progress) else {
            return;
        };
        let (Some(this), text) = (self.this.upgrade(), Bytes::from(progress.text.clone())) else {
            return;
        };
        tokio::spawn(async move {
            let ReplyTo { topic, partition } = ReplyTo::parse(&message.reply_to);
            let sent = match this.partition_in(&topic, partition).await {
                Ok(partition) => {
                    let mut record = records::record(&*topic, &message.properties, text);
                    record.partition = partition;
                    this.publisher.send(record).await.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::debug!("a producer is not told of progress: {error}");
            }
        });
    }

    async fn ask(&self, question: Question, timeout: Duration) -> Result<Answer, Error> {
        let is_read_back = matches!(question.subject, "message" | "outcome");
        if self.maker.is_shared() || !is_read_back {
            return self.maker.answer(&question, timeout).await;
        }
        let Question { parameters, queue, .. } = &question;
        let id = parameters["id"].as_str().unwrap_or_default();
        let wait = Duration::from_secs(parameters["wait"].as_u64().unwrap_or(0));
        let (clients, topics) = (&self.clients, &*self.topics);
        let story = reading::story(clients, topics, id, queue.as_deref(), wait, timeout).await?;
        Ok(Answer::of_story(story))
    }

    fn trouble(&self) -> Option<String> {
        self.publisher.trouble().map(|why| format!("no connection: {why}"))
    }

    async fn close(&self) {
        let subscribed: Vec<_> = self.subscribed.lock().drain().map(|(_, it)| it).collect();
        subscribed.iter().for_each(|it| it.release());
        let released = futures_util::future::join_all(subscribed.iter().map(|it| it.released()));
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, released).await;
        self.publisher.close(CLOSING).await;
        if let Some(replies) = self.replies.get() {
            replies.close(CLOSING).await;
        }
        self.outcomes.closed();
    }
}

/// Whoever drops the last handle wants nothing more.
impl Drop for KafkaTransport {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.get_mut().take() {
            reading.abort();
        }
        self.subscribed.get_mut().drain().for_each(|(_, subscribed)| subscribed.release());
    }
}
