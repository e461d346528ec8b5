//! A worker's place in a queue, and the messages it has from there.

use std::sync::Arc;
use std::time::Duration;

use krafka::ConsumerRecord;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::clients::Clients;
use super::group::{self, Group};
use super::publishing::Publisher;
use super::records;
use super::retries;
use super::share::{self, Share};
use super::topics::Topics;
use crate::error::{Error, ErrorKind};
use crate::transport::{Incoming, Token, properties};
use crate::url::Groups;

/// Names a delivery.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryToken(pub(super) Arc<Delivery>);

pub(crate) struct Delivery {
    pub(super) record: ConsumerRecord,
    pub(super) holder: Holder,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConsumerRecord { topic, partition, offset, .. } = &self.record;
        write!(f, "{topic}/{partition}@{offset}")
    }
}

/// Who has it.
pub(super) enum Holder {
    Classic(Arc<Group>, group::Place),
    Share(Arc<Share>, share::Place),
}

impl Delivery {
    pub(super) fn is_held(&self) -> bool {
        match &self.holder {
            Holder::Classic(group, place) => group.holds(*place),
            Holder::Share(share, place) => share.holds(*place),
        }
    }
}

/// A worker's place in a queue.
pub(super) struct Subscribed {
    pub(super) workers: Workers,
    /// Brings back what is to be tried again.
    retries: Arc<Group>,
    watching: AbortHandle,
}

pub(super) enum Workers {
    Classic(Arc<Group>),
    Share(Arc<Share>),
}

impl Workers {
    pub(super) fn stop(&self) {
        match self {
            Self::Classic(group) => group.stop(),
            Self::Share(share) => share.stop(),
        }
    }

    pub(super) fn release(&self) {
        match self {
            Self::Classic(group) => group.release(),
            Self::Share(share) => share.release(),
        }
    }

    pub(super) async fn released(&self) {
        match self {
            Self::Classic(group) => group.released().await,
            Self::Share(share) => share.released().await,
        }
    }
}

impl Subscribed {
    /// Joins; the messages come in the stream.
    pub(super) async fn begin(
        clients: &Clients,
        topics: &Arc<Topics>,
        publisher: &Publisher,
        queue: &str,
        prefetch: u16,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Result<Incoming, Error>>), Error> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let watching = watch_topic(Arc::clone(topics), queue.to_owned(), sender.clone());
        let name: Arc<str> = queue.into();
        let prefetch = usize::from(prefetch).max(1);
        let joining = async || match topics.groups {
            Groups::Classic => {
                let hand = move |group: &Arc<Group>, taken: Result<group::Taken, Error>| {
                    let arrived = taken.map(|group::Taken { record, attempts_before, place }| {
                        let holder = Holder::Classic(Arc::clone(group), place);
                        arrived(&name, record, attempts_before, holder)
                    });
                    let _ = sender.send(arrived);
                };
                Group::join(clients, topics, publisher, queue, prefetch, hand)
                    .await
                    .map(Workers::Classic)
            }
            Groups::Share => {
                let hand = move |share: &Arc<Share>, taken: Result<share::Taken, Error>| {
                    let arrived = taken.map(|share::Taken { record, deliveries_before, place }| {
                        let holder = Holder::Share(Arc::clone(share), place);
                        arrived(&name, record, deliveries_before, holder)
                    });
                    let _ = sender.send(arrived);
                };
                let joining = Share::join(clients, topics, publisher, queue, prefetch, hand);
                joining.await.map(Workers::Share)
            }
        };
        // Joining takes a while.
        let retries = retries::bring_back(clients, topics, publisher, queue);
        let (workers, retries) = match tokio::join!(joining(), retries) {
            (Ok(workers), Ok(retries)) => (workers, retries),
            (Ok(workers), Err(error)) => {
                workers.release();
                return Err(error);
            }
            (Err(error), retries) => {
                retries.iter().for_each(Group::release);
                return Err(error);
            }
        };
        let watching = tokio::spawn(watching).abort_handle();
        Ok((Self { workers, retries, watching }, incoming))
    }

    pub(super) fn release(&self) {
        self.watching.abort();
        self.retries.release();
        self.workers.release();
    }

    pub(super) async fn released(&self) {
        self.workers.released().await;
        self.retries.released().await;
    }
}

/// How often it is looked whether a topic is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Says when the topic of a queue is deleted: its readers are not told, nor do they read one that is made again.
async fn watch_topic(
    topics: Arc<Topics>,
    queue: String,
    sender: mpsc::UnboundedSender<Result<Incoming, Error>>,
) {
    let mut first = None;
    loop {
        // Whoever cannot be asked now is asked again.
        match (topics.identity_of(&queue).await, first) {
            (Ok(Some(identity)), None) => first = Some(identity),
            (Ok(now), Some(_)) if now != first => {
                topics.lost(&queue);
                let text =
                    format!("queue '{queue}' was deleted; a worker that begins now makes it anew");
                let _ = sender.send(Err(Error::new(ErrorKind::NotFound, text)));
                return;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A message that has come.
fn arrived(
    queue: &Arc<str>,
    record: ConsumerRecord,
    deliveries_before: u32,
    holder: Holder,
) -> Incoming {
    let encoded = records::properties(&record, Some(deliveries_before));
    let body = record.value.clone().unwrap_or_default();
    let token = Token::Kafka(DeliveryToken(Arc::new(Delivery { record, holder })));
    properties::incoming(Arc::clone(queue), encoded, deliveries_before > 0, body, token)
}
