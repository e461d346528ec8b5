//! What is to be tried again later: it waits in a topic of its own, from which workers on its queue bring it back.

use std::sync::Arc;
use std::time::Duration;

use krafka::Record;

use super::clients::Clients;
use super::group::{Group, Taken};
use super::publishing::Publisher;
use super::records::{self, RETRY_AT, number};
use super::topics::{Topics, retry_topic};
use crate::clock::now_ms;
use crate::error::Error;
use crate::transport::properties::ATTEMPTS;

/// Messages that a process reads ahead of their time; those behind them wait until one of them has gone back.
const AHEAD_MAX: usize = 10_000;

/// The record that waits.
pub(super) fn waiting(
    original: &krafka::ConsumerRecord,
    queue: &str,
    attempts: u32,
    after: Duration,
) -> Record {
    let mut record = records::copy(original, retry_topic(queue), attempts);
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    records::set(&mut record, RETRY_AT, &now_ms().saturating_add(after_ms).to_string());
    record
}

/// Begins to bring back what waits for its next attempt.
pub(super) async fn bring_back(
    clients: &Clients,
    topics: &Arc<Topics>,
    publisher: &Publisher,
    queue: &str,
) -> Result<Arc<Group>, Error> {
    let (topic, queue) = (retry_topic(queue), queue.to_owned());
    let hand = move |group: &Arc<Group>, taken: Result<Taken, Error>| {
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => return tracing::error!("nothing is tried again: {error}"),
        };
        let (group, queue) = (Arc::clone(group), queue.clone());
        tokio::spawn(async move {
            let at = number(&taken.record, RETRY_AT).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(at.saturating_sub(now_ms()))).await;
            let attempts = number(&taken.record, ATTEMPTS).and_then(|it| u32::try_from(it).ok());
            let back = records::copy(&taken.record, queue, attempts.unwrap_or(1));
            // If it is another member's by now, that one does it.
            group.finish(taken.place, vec![back]).await;
        });
    };
    Group::join(clients, topics, publisher, &topic, AHEAD_MAX, hand).await
}
