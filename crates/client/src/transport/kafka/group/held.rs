//! What this member of the group has: its partitions, and what of them is handed out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use krafka::ConsumerRecord;
use krafka::consumer::{ConsumerRebalanceListener, TopicPartition};
use krafka::producer::TopicPartitionOffset;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::offsets::{Handed, Offsets};
use super::super::topics::Topics;
use super::committing::Done;
use super::{AGAIN, Place, Taken};

/// How long a partition that another member is to get waits for what is being worked on.
const HANDOVER: Duration = Duration::from_secs(10);

/// A message that has not ended its worker by then will not, it is assumed.
const LONG: Duration = Duration::from_secs(2);

/// What this member has.
pub(super) struct Held {
    pub(super) topics: Arc<Topics>,
    pub(super) group: String,
    pub(super) state: Mutex<State>,
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) partitions: HashMap<i32, Owned>,
    epoch: u64,
    /// Handed out and not done.
    pub(super) open: usize,
    /// Done and not committed.
    pub(super) uncommitted: usize,
    /// Handing over waits for nobody any more.
    pub(super) is_released: bool,
}

/// A partition that this member has.
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) offsets: Offsets,
    pub(super) open: usize,
    pub(super) uncommitted: usize,
    pub(super) is_noted: bool,
}

impl State {
    /// Whether somebody had this message who ended before it was done. That may be because of it, so it is worked
    /// on by itself: else those beside it would be thought to have ended their worker, too.
    pub(super) fn is_suspect(&self, record: &ConsumerRecord) -> bool {
        let owned = self.partitions.get(&record.partition);
        owned.is_some_and(|owned| owned.offsets.was_begun(record.offset))
    }

    /// A message is about to be handed out. `None`: it is done already, or somebody else's.
    pub(super) fn begin(&mut self, record: ConsumerRecord) -> Option<Taken> {
        let owned = self.partitions.get_mut(&record.partition)?;
        let Handed::Work { attempts_before } = owned.offsets.begin(record.offset) else {
            return None;
        };
        owned.open += 1;
        owned.is_noted = false;
        let (partition, offset, epoch) = (record.partition, record.offset, owned.epoch);
        self.open += 1;
        Some(Taken { record, attempts_before, place: Place { partition, offset, epoch } })
    }

    pub(super) fn holds(&self, place: Place) -> bool {
        self.partitions.get(&place.partition).is_some_and(|it| it.epoch == place.epoch)
    }

    pub(super) fn owned(&mut self, place: Place) -> Option<&mut Owned> {
        self.partitions.get_mut(&place.partition).filter(|it| it.epoch == place.epoch)
    }

    fn remove(&mut self, partition: i32) {
        if let Some(owned) = self.partitions.remove(&partition) {
            self.open = self.open.saturating_sub(owned.open);
            self.uncommitted = self.uncommitted.saturating_sub(owned.uncommitted);
        }
    }
}

impl Held {
    /// The offsets that are to be committed with what is done.
    pub(super) fn to_commit(&self, done: &[Done]) -> Vec<TopicPartitionOffset> {
        let mut by_partition = HashMap::<i32, HashSet<i64>>::new();
        for Done { place, .. } in done {
            by_partition.entry(place.partition).or_default().insert(place.offset);
        }
        let state = self.state.lock();
        let next = |(partition, done): (i32, HashSet<i64>)| {
            let at = state.partitions.get(&partition)?.offsets.committed_with(&done);
            Some(TopicPartitionOffset::new(&*self.group, partition, at))
        };
        by_partition.into_iter().filter_map(next).collect()
    }

    /// These are committed: there is room for others.
    pub(super) fn finish(&self, done: &[Done]) {
        let mut state = self.state.lock();
        for Done { place, .. } in done {
            if let Some(owned) = state.owned(*place) {
                owned.offsets.finish(place.offset);
                owned.is_noted = false;
                owned.uncommitted = owned.uncommitted.saturating_sub(1);
                state.uncommitted = state.uncommitted.saturating_sub(1);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until nothing is handed out, and all that was done is committed; but not for what takes long, which ends
    /// no worker at once.
    pub(super) async fn alone(&self) {
        let alone =
            self.until(|state| state.is_released || (state.open == 0 && state.uncommitted == 0));
        let _ = tokio::time::timeout(LONG, alone).await;
    }

    pub(super) async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl ConsumerRebalanceListener for Held {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        let mut attempts_left = 10;
        let committed = loop {
            attempts_left -= 1;
            match self.topics.committed(&self.group, partitions).await {
                Ok(committed) => break committed,
                Err(error) if attempts_left == 0 => {
                    tracing::warn!(group = self.group, "it is not known what was begun: {error}");
                    break Vec::new();
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let mut state = self.state.lock();
        for partition in partitions {
            state.remove(partition.partition);
            let known = committed.iter().find(|(it, ..)| it == partition);
            let offsets = match known {
                Some((_, Some(offset), text)) => Offsets::new(*offset, text),
                _ => Offsets::default(),
            };
            state.epoch += 1;
            let epoch = state.epoch;
            let owned = Owned { epoch, offsets, open: 0, uncommitted: 0, is_noted: true };
            state.partitions.insert(partition.partition, owned);
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        let of_them = |state: &State| {
            let counts = partitions.iter().filter_map(|it| state.partitions.get(&it.partition));
            counts.map(|owned| owned.open + owned.uncommitted).sum::<usize>()
        };
        // So that nobody begins it a second time.
        let finished = self.until(|state| of_them(state) == 0 || state.is_released);
        let _ = tokio::time::timeout(HANDOVER, finished).await;
        self.on_partitions_lost(partitions).await;
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        let mut state = self.state.lock();
        partitions.iter().for_each(|it| state.remove(it.partition));
        drop(state);
        self.changed.notify_waiters();
    }
}
