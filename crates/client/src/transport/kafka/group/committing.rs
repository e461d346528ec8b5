//! What is done is committed, together with what is to be told of it.

use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{OffsetAndMetadata, TopicPartition};
use krafka::producer::TransactionalProducer;
use krafka::{CloseOptions, KrafkaError, Record};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::held::Owned;
use super::{AGAIN, AGAIN_MAX, Group, NOTING, Place, until_true};
use crate::error::{Error, ErrorKind};
use crate::transport::Taken;

/// How long others wait for the transaction of a member that has ended: they read no further than that.
const TRANSACTION: Duration = Duration::from_secs(15);
/// How long a record of a transaction may be under way.
const DELIVERY: Duration = Duration::from_secs(12);
/// So often a batch is refused before it is looked which of it that is: most refusals pass.
const REFUSALS_MAX: u32 = 3;
/// So many are committed at once, and so many wait for that.
pub(super) const COMMIT_MAX: usize = 1000;

/// A message that is done.
pub(super) struct Done {
    pub(super) place: Place,
    /// What goes out together with that.
    pub(super) records: Vec<Record>,
}

impl Group {
    /// Commits what is done, in batches, until this member has left.
    pub(super) async fn commit_all(self: Arc<Self>, mut finished: mpsc::UnboundedReceiver<Done>) {
        let mut producer = None;
        let mut released = self.is_released.subscribe();
        loop {
            let first = tokio::select! {
                biased;
                done = finished.recv() => done,
                () = until_true(&mut released) => finished.try_recv().ok(),
            };
            let Some(first) = first else { break };
            let mut done = vec![first];
            while done.len() < COMMIT_MAX
                && let Ok(next) = finished.try_recv()
            {
                done.push(next);
            }
            self.commit(&mut producer, done).await;
            self.note().await;
        }
        if let Some(producer) = producer {
            let options = CloseOptions::new().timeout(NOTING);
            let _ = TransactionalProducer::close_with(&producer, options).await;
        }
    }

    /// Commits what is done, however often it takes.
    async fn commit(&self, producer: &mut Option<TransactionalProducer>, mut done: Vec<Done>) {
        let (mut again, mut refusals) = (AGAIN, 0);
        loop {
            // The others are counted no more.
            done.retain(|it| self.holds(it.place));
            if done.is_empty() {
                return;
            }
            let Err(error) = self.transact(producer, &mut done).await else { return };
            // Once in a while is nothing: the group was rearranged, or a broker is away.
            match again < AGAIN_MAX {
                true => tracing::debug!(topic = self.topic, "committed again: {error}"),
                false => tracing::warn!(topic = self.topic, "it cannot be committed: {error}"),
            }
            refusals += u32::from(matches!(error, Broken::Refused(_)));
            if refusals >= REFUSALS_MAX && done.len() > 1 {
                // One of them is not taken, and the others are to know nothing of it.
                let rest = done.split_off(done.len() / 2);
                Box::pin(self.commit(producer, done)).await;
                return Box::pin(self.commit(producer, rest)).await;
            }
            if let Some(failed) = producer.take_if(|_| !matches!(error, Broken::Again)) {
                let _ = failed.close_with(CloseOptions::new().timeout(AGAIN)).await;
            }
            tokio::time::sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// One attempt at one transaction. A record that no broker takes is left out of the next.
    async fn transact(
        &self,
        producer: &mut Option<TransactionalProducer>,
        done: &mut [Done],
    ) -> Result<(), Broken> {
        let producer = match producer {
            Some(producer) => producer,
            None => producer.insert(self.producer().await?),
        };
        producer.begin()?;
        let sent = self.send(producer, done).await;
        let _committing = self.committing.lock().await;
        let committed = match sent {
            Ok(()) => producer.commit().await.map_err(Broken::from),
            Err(error) => Err(error),
        };
        if let Err(error) = committed {
            // Whatever it was, nothing of it is to be seen.
            producer.abort().await?;
            return Err(error);
        }
        self.held.finish(done);
        Ok(())
    }

    async fn send(
        &self,
        producer: &TransactionalProducer,
        done: &mut [Done],
    ) -> Result<(), Broken> {
        if let [only] = done {
            self.send_one(producer, only).await?;
        } else {
            self.send_many(producer, done).await?;
        }
        let Some(member) = self.consumer.group_metadata().await else { return Err(Broken::Again) };
        producer.send_offsets(&self.held.to_commit(done), &member).await?;
        Ok(())
    }

    async fn send_many(
        &self,
        producer: &TransactionalProducer,
        done: &[Done],
    ) -> Result<(), Broken> {
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for record in done.iter().flat_map(|it| &it.records) {
            deliveries.push(producer.enqueue(record.clone()).await);
        }
        let mut sent = Ok(());
        for delivery in deliveries {
            let delivered = match delivery {
                Ok(delivery) => delivery.await.map(drop),
                Err(error) => Err(error),
            };
            // The first says why; the others, that the transaction has failed.
            sent = sent.and(delivered);
        }
        sent.map_err(|error| Broken::of(error, began))
    }

    /// Sends what belongs to one message. What is refused within the transaction is sent without: then it is there, or
    /// it is known why it cannot be, and the transaction does without it the next time.
    async fn send_one(
        &self,
        producer: &TransactionalProducer,
        done: &mut Done,
    ) -> Result<(), Broken> {
        for at in 0..done.records.len() {
            let began = Instant::now();
            let Err(error) = producer.send(done.records[at].clone()).await else { continue };
            let broken = Broken::of(error, began);
            if matches!(broken, Broken::Refused(_)) {
                let sending = self.publisher.send(done.records[at].clone());
                match tokio::time::timeout(NOTING, sending).await {
                    Ok(Ok(Taken::Stored)) => drop(done.records.remove(at)),
                    Ok(Ok(Taken::Unroutable)) => {
                        let topic = done.records.remove(at).topic;
                        tracing::warn!(
                            topic,
                            "what is to be told cannot be: there is no such topic"
                        );
                    }
                    Ok(Err(error))
                        if !error.is_temporary() && error.kind() != ErrorKind::Closed =>
                    {
                        let topic = done.records.remove(at).topic;
                        tracing::warn!(topic, "what is to be told cannot be: {error}");
                    }
                    // Perhaps later.
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            return Err(broken);
        }
        Ok(())
    }

    async fn producer(&self) -> Result<TransactionalProducer, Broken> {
        let id = format!("wilco.{}.{}", self.topic, uuid::Uuid::now_v7());
        let producer = self.clients.connect().await?.producer().transaction_timeout(TRANSACTION);
        let producer = producer.linger(Duration::ZERO).delivery_timeout(DELIVERY).max_block(NOTING);
        Ok(producer.build_transactional(id).await?)
    }

    /// Notes beside the committed offsets what is begun, and what is done behind them. If that does not work, only
    /// the count of attempts may be wrong, should this process end.
    pub(super) async fn note(&self) {
        let _committing = self.committing.lock().await;
        let notes: Vec<(TopicPartition, OffsetAndMetadata)> = {
            let mut state = self.held.state.lock();
            let changed = state.partitions.iter_mut().filter(|(_, owned)| !owned.is_noted);
            let note = |(partition, owned): (&i32, &mut Owned)| {
                owned.is_noted = true;
                // Without one there is nothing to be said: a transaction has left none.
                let text = owned.offsets.text()?;
                let at = OffsetAndMetadata::with_metadata(owned.offsets.committed(), text);
                Some((TopicPartition::new(&*self.topic, *partition), at))
            };
            changed.filter_map(note).collect()
        };
        if notes.is_empty() {
            return;
        }
        let noted = tokio::time::timeout(NOTING, self.consumer.commit_offsets(notes)).await;
        if let Ok(Err(error)) = noted {
            tracing::debug!(topic = self.topic, "it is not noted what is begun: {error}");
        }
    }
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the group is being rearranged")]
    Again,
    /// A record was not taken at once: by its topic's broker, or as the transaction has none for now.
    #[error(transparent)]
    Refused(KrafkaError),
    #[error(transparent)]
    Kafka(#[from] KrafkaError),
    #[error(transparent)]
    Unreachable(#[from] Error),
}

impl Broken {
    /// Why a record was not sent. Within a transaction the client does not pass on the broker's code; but an answer
    /// comes at once, and what may pass is tried again for as long as a delivery may take.
    fn of(error: KrafkaError, began: Instant) -> Self {
        let is_passing =
            error.is_retriable() || matches!(error, KrafkaError::DeliveryTimeout { .. });
        let is_over = matches!(error, KrafkaError::Closed { .. } | KrafkaError::Fenced { .. });
        match is_passing || is_over || began.elapsed() > DELIVERY / 2 {
            true => Self::Kafka(error),
            false => Self::Refused(error),
        }
    }
}
