//! The partition of the topic of outcomes in which those of this process come.
//!
//! Several processes may share a partition: what is not awaited here is somebody else's.

use std::sync::{Arc, Weak};
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use krafka::{ConsumerRecord, KrafkaError};

use super::KafkaTransport;
use super::clients::Clients;
use super::errors::{is_unknown, refused};
use super::records;
use super::topics::{OUTCOMES, Topics};
use crate::error::Error;
use crate::transport::properties::{self, Told};

const POLL: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub(super) struct Replies {
    consumer: Consumer,
    partition: i32,
}

impl Replies {
    /// Begins at the end: what is told from now on is not missed.
    pub(super) async fn begin(
        clients: &Clients,
        topics: &Topics,
        place: u64,
    ) -> Result<Self, Error> {
        let count = topics.ensure_outcomes().await?;
        let partition = i32::try_from(place % count.max(1).unsigned_abs() as u64).unwrap_or(0);
        let failed = |error: &KrafkaError| refused("the topic for outcomes", error);
        let kafka = clients.connect().await?;
        let consumer = kafka
            .consumer_without_group()
            // Only if Kafka has thrown away what was not read yet.
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .isolation_level(IsolationLevel::ReadCommitted)
            .fetch_max_wait(POLL)
            .build()
            .await
            .map_err(|error| failed(&error))?;
        consumer.assign(OUTCOMES, vec![partition]).await.map_err(|error| failed(&error))?;
        let end = topics.end_of(OUTCOMES, partition).await?;
        consumer.seek(OUTCOMES, partition, end).await.map_err(|error| failed(&error))?;
        Ok(Self { consumer, partition })
    }

    /// As producers name it in `reply_to`.
    pub(super) fn name(&self) -> String {
        records::ReplyTo { topic: OUTCOMES.into(), partition: Some(self.partition) }.to_string()
    }

    /// Reads until the end of all.
    pub(super) async fn read(self: Arc<Self>, transport: Weak<KafkaTransport>) {
        loop {
            let polled = self.consumer.poll(POLL).await;
            let Some(transport) = transport.upgrade() else { return };
            match polled {
                Ok(records) => records.iter().for_each(|record| tell(record, &transport)),
                Err(KrafkaError::Closed { .. }) => return,
                Err(error) => {
                    tracing::debug!("outcomes cannot be read for now: {error}");
                    if is_unknown(&error) {
                        transport.restore_outcomes().await;
                        let _ = self.consumer.seek_to_beginning(OUTCOMES, self.partition).await;
                    }
                    drop(transport);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    pub(super) async fn close(&self, timeout: Duration) {
        self.consumer.wakeup();
        let _ = self.consumer.close_with(krafka::CloseOptions::new().timeout(timeout)).await;
    }
}

fn tell(record: &ConsumerRecord, transport: &KafkaTransport) {
    let encoded = records::properties(record, None);
    match properties::told(&encoded, record.value.as_deref().unwrap_or_default()) {
        Ok(Told::Outcome(settled)) => {
            transport.maker.told(&settled);
            transport.outcomes.settled(*settled);
        }
        Ok(Told::Progress(progressed)) => transport.outcomes.progressed(progressed),
        Err(error) => tracing::debug!("a record in the topic for outcomes: {error}"),
    }
}
