//! How a message ends: what is to be told goes out first, or together with the end.

use std::time::Duration;

use async_trait::async_trait;
use krafka::Record;

use super::KafkaTransport;
use super::records::{self, ReplyTo};
use super::retries;
use super::share::Answer;
use super::subscribed::{Delivery, DeliveryToken, Holder};
use super::topics::dead_topic;
use crate::error::{Error, ErrorKind};
use crate::transport::making::{Ending, Settling, Telling};
use crate::transport::{Incoming, Taken, properties};

/// Headers are read as a whole by whoever reads the record.
const REASON_BYTES_MAX: usize = 1024;

#[async_trait]
impl Settling for KafkaTransport {
    async fn finish(&self, delivery: &Incoming, ending: Ending) -> bool {
        let Some(DeliveryToken(token)) = delivery.token.kafka() else { return false };
        let answer = match ending.error {
            None => Answer::Accept,
            Some(_) => Answer::Reject,
        };
        let records = self.records(token, &delivery.queue, ending).await;
        match &token.holder {
            Holder::Classic(group, place) => group.finish(*place, records).await,
            Holder::Share(share, place) => {
                // First what is told: a crash in between repeats the message, which is known by its id.
                let sent = records.into_iter().map(|record| self.publisher.send(record));
                for sent in futures_util::future::join_all(sent).await {
                    match sent {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::Closed => return false,
                        Err(error) => {
                            let queue = &*delivery.queue;
                            tracing::warn!(queue, "what is to be told cannot be: {error}");
                        }
                    }
                }
                share.answer(*place, answer)
            }
        }
    }

    async fn again(&self, delivery: &Incoming, attempts: u32, after: Duration) -> bool {
        let Some(DeliveryToken(token)) = delivery.token.kafka() else { return false };
        let queue = &*delivery.queue;
        let later = || retries::waiting(&token.record, queue, attempts, after);
        match &token.holder {
            Holder::Classic(group, place) if after.is_zero() && group.is_stopped() => {
                group.give_back(*place)
            }
            Holder::Classic(group, place) if after.is_zero() => {
                let record = records::copy(&token.record, queue, attempts);
                group.finish(*place, vec![record]).await
            }
            Holder::Classic(group, place) => group.finish(*place, vec![later()]).await,
            Holder::Share(share, place) if after.is_zero() => share.answer(*place, Answer::Release),
            Holder::Share(share, place) => match self.publisher.send(later()).await {
                Ok(Taken::Stored) => share.answer(*place, Answer::Accept),
                Err(error) if error.kind() == ErrorKind::Closed => false,
                _ => {
                    tracing::debug!(queue, "a message waits in its worker");
                    tokio::time::sleep(after).await;
                    share.answer(*place, Answer::Release)
                }
            },
        }
    }
}

impl KafkaTransport {
    /// The records that go out when a message is done.
    async fn records(&self, delivery: &Delivery, queue: &str, ending: Ending) -> Vec<Record> {
        let Ending { error, telling } = ending;
        let mut records = Vec::new();
        if let Some(Telling { reply_to, properties, body }) = telling {
            let ReplyTo { topic, partition } = ReplyTo::parse(&reply_to);
            match self.partition_in(&topic, partition).await {
                Ok(partition) => {
                    let mut record = records::record(&*topic, &properties, body);
                    record.partition = partition;
                    records.push(record);
                }
                Err(error) => tracing::warn!(queue, "a producer is not told an outcome: {error}"),
            }
        }
        if let Some(error) = error {
            let dead = dead_topic(queue);
            match self.topics.ensure_beside(&dead).await {
                Ok(()) => {
                    let attempts = records::number(&delivery.record, properties::ATTEMPTS);
                    let attempts = attempts.and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
                    let mut record = records::copy(&delivery.record, dead, attempts);
                    let reason = &error[..error.floor_char_boundary(REASON_BYTES_MAX)];
                    records::set(&mut record, records::DEAD_BECAUSE, reason);
                    records.push(record);
                }
                Err(error) => tracing::warn!(queue, "a failed message is not kept: {error}"),
            }
        }
        records
    }

    /// The partition that a producer has named, if its topic has it: nobody else's messages wait for one that it
    /// has not.
    pub(super) async fn partition_in(
        &self,
        topic: &str,
        partition: Option<i32>,
    ) -> Result<Option<i32>, Error> {
        let count = self.topics.partition_count(topic).await?;
        match partition {
            Some(partition) if !(0..count).contains(&partition) => {
                let text = format!("topic '{topic}' has no partition {partition}");
                Err(Error::new(ErrorKind::NotFound, text))
            }
            partition => Ok(partition),
        }
    }
}
