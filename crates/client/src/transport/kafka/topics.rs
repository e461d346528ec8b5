//! The topics that stand for queues, and those beside them.
//!
//! A queue `orders` is the topic `orders` and the group `orders` that reads it. What is to be tried again waits in
//! `orders.wilco.retry`, which has a group of the same name; what has failed for good is in `orders.wilco.dead`.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{
    AdminClient, AlterShareGroupOffsetsOptions, ConfigOp, ConfigResource, CreateTopicsOptions,
    DeleteConsumerGroupsOptions, DeleteRecordsOptions, DeleteTopicsOptions,
    DescribeFeaturesOptions, DescribeShareGroupOffsetsOptions, DescribeTopicsOptions,
    IncrementalAlterConfigsOptions, ListConsumerGroupOffsetsOptions, ListOffsetsOptions, NewTopic,
    OffsetSpec, TopicDescription, TopicPartition,
};
use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::errors::{is_unknown, refused};
use crate::error::{Error, ErrorKind};
use crate::url::Groups;

/// All outcomes come here, each producer's in the partition that it has chosen.
pub(super) const OUTCOMES: &str = "wilco.outcomes";
/// How many partitions that has: so many brokers share the work.
const OUTCOME_PARTITIONS: i32 = 12;
/// What a topic's name may have.
const NAME_BYTES_MAX: usize = 249;
/// Behind a queue's name: what is to be tried again.
const RETRY: &str = ".wilco.retry";
/// Behind a queue's name: what has failed for good.
const DEAD: &str = ".wilco.dead";
/// A message with its headers, unless the cluster is configured otherwise: Kafka's own limit is 1 MiB together.
const MESSAGE_BYTES_MAX: &str = "16777216";
/// How long a cluster may take to make a topic known to all its brokers.
const KNOWN_EVERYWHERE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module's documentation.
pub(super) struct Topics {
    admin: AdminClient,
    /// `None`: as many as the brokers make.
    partitions: Option<u16>,
    pub(super) groups: Groups,
    /// Those that were seen to be there, and how many partitions they have at least.
    seen: Mutex<HashMap<String, i32>>,
}

/// Where a queue's messages wait for their next attempt.
pub(super) fn retry_topic(queue: &str) -> String {
    format!("{queue}{RETRY}")
}

/// Where a queue's failed messages are.
pub(super) fn dead_topic(queue: &str) -> String {
    format!("{queue}{DEAD}")
}

/// Whether a queue can have this name: a topic can, and those beside it, and it is none that Kafka or this library
/// has for itself.
pub(super) fn check_name(queue: &str) -> Result<(), Error> {
    let is_own = queue == OUTCOMES || queue.ends_with(RETRY) || queue.ends_with(DEAD);
    let text = if queue.len() + RETRY.len() > NAME_BYTES_MAX {
        let most = NAME_BYTES_MAX - RETRY.len();
        format!("it has {} bytes, and on Kafka {most} are the most", queue.len())
    } else if !queue.bytes().all(is_legal) || queue.chars().all(|it| it == '.') {
        "on Kafka, names have letters of the Latin alphabet, digits, dots, _ and - only".to_owned()
    } else if is_internal(queue) {
        "names that begin with __ are Kafka's own".to_owned()
    } else if is_own {
        "this topic is made for what comes of other queues".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Invalid, format!("queue '{}': {text}", queue.escape_debug())))
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether a topic is one in which brokers keep what they need themselves.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

impl Topics {
    pub(super) async fn new(
        kafka: &Kafka,
        partitions: Option<u16>,
        wanted: Option<Groups>,
    ) -> Result<Self, Error> {
        let admin = kafka.admin();
        let has_share = has_share_groups(&admin).await?;
        let groups = match wanted {
            Some(Groups::Share) if !has_share => {
                let text = "groups=share: these brokers have no share groups, which come with Kafka 4.2 and can \
                            be switched off (share.version); leave the option out, or say groups=classic";
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Some(groups) => groups,
            None if has_share => Groups::Share,
            None => Groups::Classic,
        };
        Ok(Self { admin, partitions, groups, seen: Mutex::default() })
    }

    /// Makes a queue's topic, if it is not there.
    pub(super) async fn ensure(&self, queue: &str) -> Result<(), Error> {
        check_name(queue)?;
        self.ensure_beside(queue).await
    }

    /// Makes a topic that is beside a queue's, if it is not there.
    pub(super) async fn ensure_beside(&self, topic: &str) -> Result<(), Error> {
        self.ensure_topic(topic, self.partitions.map_or(-1, i32::from)).await
    }

    /// Makes all that workers on a queue need.
    pub(super) async fn ensure_worked_on(&self, queue: &str) -> Result<(), Error> {
        self.ensure(queue).await?;
        self.ensure_beside(&retry_topic(queue)).await?;
        if self.groups == Groups::Share {
            // Else the first worker would begin behind what is there already, and read what a transaction takes back.
            let changes = vec![
                ConfigOp::set("share.auto.offset.reset", "earliest"),
                ConfigOp::set("share.isolation.level", "read_committed"),
            ];
            let group = ConfigResource::group(queue);
            let options = IncrementalAlterConfigsOptions::default();
            let changed = self.admin.incremental_alter_configs([(group, changes)], options).await;
            let what = format!("the settings of group '{queue}'");
            for (_, result) in changed.map_err(|error| refused(&what, &error))? {
                result.map_err(|error| refused(&what, &error))?;
            }
        }
        Ok(())
    }

    /// Makes the topic of outcomes, if it is not there; returns how many partitions it has.
    pub(super) async fn ensure_outcomes(&self) -> Result<i32, Error> {
        self.ensure_topic(OUTCOMES, OUTCOME_PARTITIONS).await?;
        self.partition_count(OUTCOMES).await
    }

    async fn ensure_topic(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        if self.seen.lock().contains_key(topic) {
            return Ok(());
        }
        if self.partitions_of(topic).await?.is_none() {
            let what = format!("topic '{topic}'");
            let new =
                NewTopic::new(topic, partitions, -1).map_err(|error| refused(&what, &error))?;
            let new = new.with_config("max.message.bytes", MESSAGE_BYTES_MAX);
            let made = self.admin.create_topics([new], CreateTopicsOptions::default()).await;
            for (_, result) in made.map_err(|error| refused(&what, &error))? {
                match result {
                    Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. })
                    | Ok(()) => {}
                    Err(error) => return Err(refused(&what, &error)),
                }
            }
            let known = async {
                while self.partitions_of(topic).await?.is_none() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok::<_, Error>(())
            };
            // Whoever uses it waits for the rest.
            let _ = tokio::time::timeout(KNOWN_EVERYWHERE, known).await;
        }
        Ok(())
    }

    /// A group could not read its topic: makes one that is lost.
    ///
    /// # Errors
    /// It will not be able to either.
    pub(super) async fn recover(&self, topic: &str, why: &KrafkaError) -> Result<(), Error> {
        let error = refused(&format!("topic '{topic}'"), why);
        match error.kind() {
            ErrorKind::Forbidden | ErrorKind::Login => return Err(error),
            ErrorKind::NotFound => {
                tracing::warn!(topic, "the topic is lost, and made again");
                self.lost(topic);
                if let Err(error) = self.ensure_beside(topic).await {
                    tracing::warn!(topic, "it cannot be made: {error}");
                }
            }
            _ => tracing::warn!("messages cannot be read for now: {error}"),
        }
        Ok(())
    }

    /// A topic is not there any more: the next one who needs it makes it.
    pub(super) fn lost(&self, topic: &str) {
        self.seen.lock().remove(topic);
    }

    /// What the brokers say of a topic; `None`: there is none.
    async fn described(&self, topic: &str) -> Result<Option<TopicDescription>, Error> {
        let described = self.admin.describe_topics([topic], DescribeTopicsOptions::default()).await;
        let what = format!("topic '{topic}'");
        let described = described.map_err(|error| refused(&what, &error))?;
        match described.into_values().next() {
            Some(Ok(described)) => Ok(Some(described)),
            Some(Err(error)) if !is_unknown(&error) => Err(refused(&what, &error)),
            _ => Ok(None),
        }
    }

    /// How many partitions a topic has; `None`: there is none.
    pub(super) async fn partitions_of(&self, topic: &str) -> Result<Option<i32>, Error> {
        let described = self.described(topic).await?;
        let Some(described) = described.filter(|it| !it.partitions.is_empty()) else {
            return Ok(None);
        };
        let count = i32::try_from(described.partitions.len()).unwrap_or(i32::MAX);
        self.seen.lock().insert(topic.to_owned(), count);
        Ok(Some(count))
    }

    /// Which topic has this name now: another one, if it was deleted and made again.
    pub(super) async fn identity_of(&self, topic: &str) -> Result<Option<[u8; 16]>, Error> {
        Ok(self.described(topic).await?.map(|described| described.topic_id))
    }

    /// How many partitions a topic has that outcomes may be sent to, or had when it was looked at last.
    pub(super) async fn partition_count(&self, topic: &str) -> Result<i32, Error> {
        if is_internal(topic) {
            let text = format!("topic '{topic}' is Kafka's own");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let seen = self.seen.lock().get(topic).copied();
        let count = match seen {
            Some(count) => Some(count),
            None => self.partitions_of(topic).await?,
        };
        count.ok_or_else(|| no_topic(topic))
    }

    async fn all_partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let count = self.partitions_of(topic).await?.ok_or_else(|| no_topic(topic))?;
        Ok((0..count).map(|number| TopicPartition::new(topic, number)).collect())
    }

    /// The first offset of each partition of a topic, or the one behind the last.
    pub(super) async fn ends(
        &self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let partitions = self.all_partitions(topic).await?;
        let wanted: Vec<_> = partitions.into_iter().map(|it| (it, spec)).collect();
        let listed = self.admin.list_offsets(wanted, ListOffsetsOptions::default()).await;
        let what = format!("topic '{topic}'");
        let listed = listed.map_err(|error| refused(&what, &error))?;
        let mut ends = Vec::new();
        for (partition, offset) in listed {
            ends.push((partition, offset.map_err(|error| refused(&what, &error))?.offset));
        }
        Ok(ends)
    }

    /// Behind the last message of a partition. One that was made just now may not be known to every broker, and have
    /// no leader yet.
    pub(super) async fn end_of(&self, topic: &str, partition: i32) -> Result<i64, Error> {
        let began = Instant::now();
        loop {
            let ends = self.ends(topic, OffsetSpec::Latest).await;
            let end = ends.map(|ends| ends.into_iter().find(|(it, _)| it.partition == partition));
            match end {
                Ok(Some((_, end))) => return Ok(end),
                Err(error) if !error.is_temporary() && error.kind() != ErrorKind::NotFound => {
                    return Err(error);
                }
                _ if began.elapsed() < KNOWN_EVERYWHERE => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(error),
                Ok(None) => return Err(no_topic(topic)),
            }
        }
    }

    /// Removes what is in a topic; returns how many of it its group had not got to.
    pub(super) async fn purge(&self, queue: &str) -> Result<u64, Error> {
        let ends = self.ends(queue, OffsetSpec::Latest).await?;
        let count = self.ahead(queue, &ends).await?;
        let deleted =
            self.admin.delete_records(ends.clone(), DeleteRecordsOptions::default()).await;
        let what = format!("topic '{queue}'");
        for (_, result) in deleted.map_err(|error| refused(&what, &error))? {
            result.map_err(|error| refused(&what, &error))?;
        }
        if self.groups == Groups::Share {
            // It would find out by itself, but for a group that has never read.
            let options = AlterShareGroupOffsetsOptions::default();
            let _ = self.admin.alter_share_group_offsets(queue, ends, options).await;
        }
        Ok(count)
    }

    /// How many messages lie between where a group is and these ends.
    async fn ahead(&self, queue: &str, ends: &[(TopicPartition, i64)]) -> Result<u64, Error> {
        let begins = self.ends(queue, OffsetSpec::Earliest).await?;
        let what = format!("group '{queue}'");
        let mut at: HashMap<TopicPartition, i64> = begins.into_iter().collect();
        let reached: Vec<(TopicPartition, i64)> = match self.groups {
            Groups::Share => {
                let options = DescribeShareGroupOffsetsOptions::default();
                match self.admin.describe_share_group_offsets(queue, options).await {
                    Ok(offsets) => {
                        let known = offsets.into_iter();
                        known
                            .filter_map(|(it, offset)| Some((it, offset.ok()?.start_offset)))
                            .collect()
                    }
                    Err(error) if is_no_group(&error) => Vec::new(),
                    Err(error) => return Err(refused(&what, &error)),
                }
            }
            Groups::Classic => {
                let options = ListConsumerGroupOffsetsOptions::default();
                match self.admin.list_consumer_group_offsets(queue, options).await {
                    Ok(offsets) => {
                        let known = offsets.into_iter();
                        known.filter_map(|(it, offset)| Some((it, offset.ok()?.offset?))).collect()
                    }
                    Err(error) if is_no_group(&error) => Vec::new(),
                    Err(error) => return Err(refused(&what, &error)),
                }
            }
        };
        for (partition, offset) in reached {
            if let Some(at) = at.get_mut(&partition) {
                *at = (*at).max(offset);
            }
        }
        let left = |(partition, end): &(TopicPartition, i64)| {
            let at = at.get(partition).copied().unwrap_or(*end);
            u64::try_from(end - at).unwrap_or(0)
        };
        Ok(ends.iter().map(left).sum())
    }

    /// Removes a queue with all that is beside it; returns how many messages its group had not got to.
    pub(super) async fn delete(&self, queue: &str) -> Result<u64, Error> {
        check_name(queue)?;
        if self.partitions_of(queue).await?.is_none() {
            return Ok(0);
        }
        let ends = self.ends(queue, OffsetSpec::Latest).await?;
        let count = self.ahead(queue, &ends).await?;
        let (retry, dead) = (retry_topic(queue), dead_topic(queue));
        let all = [queue, &retry, &dead];
        let deleted = self.admin.delete_topics(all, DeleteTopicsOptions::default()).await;
        for (topic, result) in
            deleted.map_err(|error| refused(&format!("topic '{queue}'"), &error))?
        {
            self.lost(&topic);
            match result {
                Err(error) if !is_unknown(&error) => {
                    return Err(refused(&format!("topic '{topic}'"), &error));
                }
                _ => {}
            }
        }
        // One that workers use stays until they have gone.
        let options = DeleteConsumerGroupsOptions::default();
        let _ = self.admin.delete_consumer_groups([queue, &retry], options).await;
        Ok(count)
    }

    /// What a group has committed, with the text beside it.
    pub(super) async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>, String)>, Error> {
        let options = ListConsumerGroupOffsetsOptions::default().partitions(partitions.to_vec());
        let listed = self.admin.list_consumer_group_offsets(group, options).await;
        let what = format!("group '{group}'");
        let mut committed = Vec::new();
        for (partition, offset) in listed.map_err(|error| refused(&what, &error))? {
            let offset = offset.map_err(|error| refused(&what, &error))?;
            committed.push((partition, offset.offset, offset.metadata.unwrap_or_default()));
        }
        Ok(committed)
    }
}

fn no_topic(topic: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("topic '{topic}' does not exist"))
}

fn is_no_group(error: &KrafkaError) -> bool {
    matches!(error, KrafkaError::Broker { code: ErrorCode::GroupIdNotFound, .. })
}

async fn has_share_groups(admin: &AdminClient) -> Result<bool, Error> {
    let described = admin.describe_features(DescribeFeaturesOptions::default()).await;
    let described = described.map_err(|error| refused("the features of the brokers", &error))?;
    let is_on = |it: &krafka::admin::FinalizedFeature| {
        it.name == "share.version" && it.max_version_level >= 1
    };
    Ok(described.finalized.iter().any(is_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_topic_cannot_have_are_refused() {
        for name in ["orders", "Orders.2_a-b", &"x".repeat(200), "a.."] {
            check_name(name).expect(name);
        }
        let own = ["__consumer_offsets", "wilco.outcomes", "q.wilco.retry", "q.wilco.dead"];
        for name in own {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        for name in ["größe", "a b", "a/b", "", "..", ".", "a\0", "a*", &"x".repeat(249)] {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
}
