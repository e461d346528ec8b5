//! What became of a message, read back from the topics: nobody keeps a list by id there.
//!
//! The topic of outcomes is read from its beginning, in all partitions; if there is nothing, the queue's own topic
//! and that of its retries tell whether the message waits. So an answer takes as long as reading all that these
//! topics keep. A ledger answers at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::outcome::OutcomeMessage;
use krafka::admin::{OffsetSpec, TopicPartition};
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use krafka::{CloseOptions, ConsumerRecord, KrafkaError};
use serde_json::Value;
use tokio::time::Instant;

use super::clients::Clients;
use super::errors::refused;
use super::records;
use super::topics::{OUTCOMES, Topics, check_name, retry_topic};
use crate::error::{Error, ErrorKind};
use crate::ledger::story::{self, InQueue, Settled};
use crate::transport::making::Origin;

/// How long one read waits.
const POLL: Duration = Duration::from_millis(200);
/// How long one who has read to the end waits before reading on.
const CLOSING: Duration = Duration::from_secs(1);
const FETCH_BYTES_MAX: i32 = 16 << 20;

/// Topics that are read from the beginning, as far as they went.
struct Reading<'a> {
    topics: &'a Topics,
    consumer: Consumer,
    names: Vec<String>,
    next: HashMap<TopicPartition, i64>,
}

/// Answers what is known of an id; with `wait`, once there is an outcome or that time is up.
pub(super) async fn story(
    clients: &Clients,
    topics: &Topics,
    id: &str,
    queue: Option<&str>,
    wait: Duration,
    timeout: Duration,
) -> Result<Option<Value>, Error> {
    let reading = read_story(clients, topics, id, queue, wait);
    tokio::time::timeout(wait + timeout, reading).await.map_err(|_| {
        let text = "the topics could not be read to their end in time; ask again, or name a ledger in the URL, \
                    which answers at once";
        Error::new(ErrorKind::TimedOut, text)
    })?
}

async fn read_story(
    clients: &Clients,
    topics: &Topics,
    id: &str,
    queue: Option<&str>,
    wait: Duration,
) -> Result<Option<Value>, Error> {
    let until = Instant::now() + wait;
    let mut known: Vec<InQueue> = Vec::new();
    let mut outcomes = Reading::begin(clients, topics, vec![OUTCOMES.to_owned()]).await?;
    outcomes.read(|record| note_outcome(record, id, &mut known)).await?;
    let is_told =
        |known: &[InQueue]| known.iter().any(|it| queue.is_none_or(|queue| it.queue == queue));
    if !is_told(&known) {
        let Some(queue) = queue.filter(|queue| check_name(queue).is_ok()) else {
            outcomes.end().await;
            return match queue {
                Some(_) => Ok(None),
                None => Err(Error::new(
                    ErrorKind::NoLedger,
                    "there is no outcome of this id, and whether it waits anywhere cannot be known: attach to it \
                     in its queue, or name a ledger in the URL",
                )),
            };
        };
        let mut waiting = None;
        let all = vec![queue.to_owned(), retry_topic(queue)];
        let mut queued = Reading::begin(clients, topics, all).await?;
        queued.read(|record| note_waiting(record, queue, id, &mut waiting)).await?;
        queued.end().await;
        while waiting.is_some() && !is_told(&known) && Instant::now() < until {
            tokio::time::sleep(POLL).await;
            outcomes.read(|record| note_outcome(record, id, &mut known)).await?;
        }
        if !is_told(&known) {
            known.extend(waiting);
        }
    }
    outcomes.end().await;
    Ok(story::of(id, &known))
}

impl<'a> Reading<'a> {
    async fn begin(
        clients: &Clients,
        topics: &'a Topics,
        names: Vec<String>,
    ) -> Result<Self, Error> {
        let kafka = clients.connect().await?;
        let consumer = kafka
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .isolation_level(IsolationLevel::ReadCommitted)
            .fetch_max_wait(POLL)
            .fetch_max_bytes(FETCH_BYTES_MAX)
            .build()
            .await
            .map_err(|error| refused("a reader", &error))?;
        Ok(Self { topics, consumer, names, next: HashMap::new() })
    }

    /// Reads on to where the topics end now.
    async fn read(&mut self, mut note: impl FnMut(&ConsumerRecord)) -> Result<(), Error> {
        let failed = |error: &KrafkaError| refused("reading back", error);
        let mut ends = HashMap::new();
        for name in &self.names {
            let listed = match self.topics.ends(name, OffsetSpec::Latest).await {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                listed => listed?,
            };
            let partitions: Vec<i32> = listed.iter().map(|(it, _)| it.partition).collect();
            let begins: HashMap<_, _> =
                self.topics.ends(name, OffsetSpec::Earliest).await?.into_iter().collect();
            self.consumer.assign(name, partitions).await.map_err(|error| failed(&error))?;
            for (partition, end) in listed {
                let begin = begins.get(&partition).copied().unwrap_or(0);
                let next = self.next.entry(partition.clone()).or_insert(begin);
                *next = (*next).max(begin);
                let seek = self.consumer.seek(name, partition.partition, *next);
                seek.await.map_err(|error| failed(&error))?;
                ends.insert(partition, end);
            }
        }
        let mut open: HashSet<_> = ends
            .iter()
            .filter(|(it, end)| self.next[*it] < **end)
            .map(|(it, _)| it.clone())
            .collect();
        while !open.is_empty() {
            let records = self.consumer.poll(POLL).await.map_err(|error| failed(&error))?;
            records.iter().for_each(&mut note);
            let mut closed = Vec::new();
            for partition in &open {
                // Behind the last record there may be one that ends a transaction, which nobody gets to see.
                let at = self.consumer.position(&partition.topic, partition.partition).await;
                let fetched =
                    self.consumer.fetch_position(&partition.topic, partition.partition).await;
                if at.max(fetched.filter(|_| records.is_empty())) >= ends.get(partition).copied() {
                    closed.push(partition.clone());
                }
            }
            for partition in closed {
                let end = ends[&partition];
                self.next.insert(partition.clone(), end);
                open.remove(&partition);
            }
        }
        Ok(())
    }

    async fn end(self) {
        let _ = self.consumer.close_with(CloseOptions::new().timeout(CLOSING)).await;
    }
}

fn note_outcome(record: &ConsumerRecord, id: &str, known: &mut Vec<InQueue>) {
    if record.header_str("x-message-id") != Some(id) {
        return;
    }
    let encoded = records::properties(record, None);
    let Ok(properties) = ::amqp::Properties::decode(&encoded) else { return };
    let body = record.value.as_deref().unwrap_or_default();
    let Ok(message) = OutcomeMessage::decode(&properties, body) else { return };
    if message.verdict.is_duplicate() && known.iter().any(|it| it.queue == message.queue) {
        return;
    }
    known.retain(|it| it.queue != message.queue);
    let OutcomeMessage { verdict, details, queue, settled_at_ms, .. } = message;
    known.push(InQueue {
        queue: queue.into_owned(),
        id: id.to_owned(),
        published_at_ms: verdict.published_at_ms,
        attempts: verdict.attempts,
        worker: ::outcome::Worker::parse(&details.worker).name.to_owned(),
        is_claimed: false,
        settled: Some(Settled {
            outcome: verdict.outcome,
            reason: verdict.reason,
            error: details.error.as_deref().map(|it| it.to_vec()),
            content_type: details.content_type.as_deref().map(ToString::to_string),
            result: details.result.as_deref().map(<[u8]>::to_vec),
            is_late: verdict.is_late(),
            settled_at_ms,
        }),
    });
}

fn note_waiting(record: &ConsumerRecord, queue: &str, id: &str, waiting: &mut Option<InQueue>) {
    if record.header_str("message_id") != Some(id) {
        return;
    }
    let origin = Origin::read(queue, &records::properties(record, None));
    let attempts = records::number(record, crate::transport::properties::ATTEMPTS).unwrap_or(0);
    *waiting = Some(InQueue {
        queue: queue.to_owned(),
        id: id.to_owned(),
        published_at_ms: origin.published_at_ms,
        attempts: u16::try_from(attempts).unwrap_or(u16::MAX),
        worker: String::new(),
        is_claimed: false,
        settled: None,
    });
}
