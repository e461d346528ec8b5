//! Records on their way to Kafka: in order by topic, and sent again until the brokers have them or whoever waits
//! has given up.
//!
//! Each topic has a task of its own, since one that is not there, or whose leader is away, may hold up nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::producer::Producer;
use krafka::{Kafka, KrafkaError, Record};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::errors::{is_unknown, refused};
use super::topics::Topics;
use crate::error::Error;
use crate::transport::{Confirm, Taken};
use crate::window::Permits;

/// How long a broker may take to answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the client itself sends a record again; then it is given to it anew.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a topic may be unknown.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_AGAIN: Duration = Duration::from_millis(200);
/// Bytes that wait for brokers.
const BUFFER_BYTES: usize = 256 << 20;
/// What a record may have on its way; a topic may allow less.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// How long the task of a topic that nothing is sent to stays.
const IDLE: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    producer: Producer,
    topics: Arc<Topics>,
    by_topic: Mutex<HashMap<String, mpsc::UnboundedSender<Job>>>,
    /// Why nothing was taken of late.
    trouble: Mutex<Option<String>>,
}

/// A record that somebody waits for.
struct Job {
    record: Record,
    confirm: oneshot::Sender<Result<Taken, Error>>,
    permits: Option<Arc<Permits>>,
}

impl Publisher {
    pub(super) async fn new(kafka: &Kafka, topics: Arc<Topics>) -> Result<Self, Error> {
        let producer = kafka
            .producer()
            // What comes while others are under way is sent together all the same.
            .linger(Duration::ZERO)
            .delivery_timeout(DELIVERY_TIMEOUT)
            .max_block(UNKNOWN_TIMEOUT)
            .buffer_memory(BUFFER_BYTES)
            .max_request_size(REQUEST_BYTES_MAX)
            .build()
            .await
            .map_err(|error| refused("a producer", &error))?;
        let (by_topic, trouble) = Default::default();
        Ok(Self { shared: Arc::new(Shared { producer, topics, by_topic, trouble }) })
    }

    /// Hands over a record, behind those to its topic that were handed over before.
    pub(super) fn publish(&self, record: Record, permits: Option<Arc<Permits>>) -> Confirm {
        let (confirm, confirmed) = oneshot::channel();
        let topic = record.topic.clone();
        let mut job = Job { record, confirm, permits };
        let mut by_topic = self.shared.by_topic.lock();
        loop {
            let sender = by_topic.entry(topic.clone()).or_insert_with(|| {
                let (sender, jobs) = mpsc::unbounded_channel();
                tokio::spawn(Arc::clone(&self.shared).send_all(topic.clone(), jobs));
                sender
            });
            match sender.send(job) {
                Ok(()) => return confirmed,
                Err(unsent) => job = unsent.0,
            }
            by_topic.remove(&topic);
        }
    }

    /// Sends a record whose order is of no matter; returns once the brokers have it.
    pub(super) async fn send(&self, record: Record) -> Result<Taken, Error> {
        let (confirm, confirmed) = oneshot::channel();
        let job = Job { record, confirm, permits: None };
        let (sent, ()) = tokio::join!(confirmed, Arc::clone(&self.shared).send_again(job));
        sent.map_err(|_| Error::closed())?
    }

    /// Why nothing was taken of late.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().clone()
    }

    pub(super) async fn close(&self, timeout: Duration) {
        self.shared.by_topic.lock().clear();
        let options = krafka::CloseOptions::new().timeout(timeout);
        if let Err(error) = self.shared.producer.close_with(options).await {
            tracing::debug!("what was not sent yet is given up: {error}");
        }
    }
}

impl Shared {
    /// Sends what is for a topic, in order.
    async fn send_all(self: Arc<Self>, topic: String, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            let job = match tokio::time::timeout(IDLE, jobs.recv()).await {
                Ok(Some(job)) => job,
                Ok(None) => return,
                Err(_) => {
                    let mut by_topic = self.by_topic.lock();
                    if jobs.is_empty() {
                        by_topic.remove(&topic);
                        return;
                    }
                    continue;
                }
            };
            if job.confirm.is_closed() {
                continue;
            }
            // What is enqueued stays in order, whoever waits for it.
            match self.producer.enqueue(job.record.clone()).await {
                Ok(delivery) => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move {
                        let delivered = delivery.await.map(drop);
                        this.settle(job, delivered).await;
                    });
                }
                Err(error) => Arc::clone(&self).settle(job, Err(error)).await,
            }
        }
    }

    /// Tells whoever waits, or sends a record again.
    async fn settle(self: Arc<Self>, job: Job, delivered: Result<(), KrafkaError>) {
        match self.answer(&job.record.topic, delivered) {
            Then::Tell(answer) => drop(job.confirm.send(answer)),
            Then::Nothing => {}
            Then::SendAgain => {
                tokio::time::sleep(SEND_AGAIN).await;
                Box::pin(self.send_again(job)).await;
            }
        }
    }

    /// Sends a record until the brokers have it, or nobody waits for it.
    async fn send_again(self: Arc<Self>, job: Job) {
        let Job { record, mut confirm, permits } = job;
        let _permits = permits;
        loop {
            let sent = tokio::select! {
                sent = self.producer.send(record.clone()) => sent.map(drop),
                () = confirm.closed() => return,
            };
            match self.answer(&record.topic, sent) {
                Then::Tell(answer) => return drop(confirm.send(answer)),
                Then::Nothing => return,
                Then::SendAgain => tokio::time::sleep(SEND_AGAIN).await,
            }
        }
    }

    fn answer(&self, topic: &str, delivered: Result<(), KrafkaError>) -> Then {
        let error = match delivered {
            Ok(()) => {
                self.trouble.lock().take();
                return Then::Tell(Ok(Taken::Stored));
            }
            Err(KrafkaError::Closed { .. }) => return Then::Nothing,
            Err(error) => error,
        };
        if is_unknown(&error) {
            self.topics.lost(topic);
            return Then::Tell(Ok(Taken::Unroutable));
        }
        let is_passing =
            matches!(error, KrafkaError::DeliveryTimeout { .. }) || error.is_retriable();
        if !is_passing {
            return Then::Tell(Err(refused(&format!("topic '{topic}'"), &error)));
        }
        tracing::debug!(topic, "a record is sent again: {error}");
        *self.trouble.lock() = Some(error.to_string());
        Then::SendAgain
    }
}

/// What to do once it is known whether the brokers have a record.
enum Then {
    Tell(Result<Taken, Error>),
    /// All is closed, and whoever waits finds that out.
    Nothing,
    SendAgain,
}
