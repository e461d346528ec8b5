//! A classic group: each partition is read by one member at a time, and what is done is committed together with
//! what is to be told of it, in one transaction.
//!
//! ```text
//!  reader ──records──▶ Offsets::begin ──▶ note: a text beside the committed offset ──▶ handed out
//!  finish ──▶ committer: a transaction of records and offsets ──▶ Offsets::finish
//! ```
//!
//! Messages of a partition are worked on at the same time; what is committed is all before the first that is not
//! done ([`Offsets`]). Many are committed at once, and who has finished one need not wait for that: should this
//! process end before, they are handed out again, and known by their ids.
//!
//! *Invariants:* nothing is handed out before its beginning is noted; an offset is committed together with what is
//! to be told of the messages before it, and no note takes it back; what belongs to a partition that somebody else
//! has by now is never committed.

mod committing;
mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel, PartitionAssignmentStrategy};
use krafka::{CloseOptions, ConsumerRecord, KrafkaError, Record};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use self::committing::{COMMIT_MAX, Done};
use self::held::Held;
use super::clients::Clients;
use super::errors::refused;
use super::publishing::Publisher;
use super::topics::Topics;
use crate::error::Error;

const POLL: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(3);
/// How long the group waits for a member that says nothing.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long messages wait for it to be noted that they are begun.
const NOTING: Duration = Duration::from_secs(5);
/// So many are read at once.
const READ_MAX: usize = 500;
const FETCH_BYTES_MAX: i32 = 16 << 20;

/// See the module's documentation.
pub(super) struct Group {
    consumer: Consumer,
    clients: Clients,
    publisher: Publisher,
    topic: String,
    prefetch: usize,
    held: Arc<Held>,
    done: mpsc::UnboundedSender<Done>,
    /// Held by a note and by the end of a transaction: each says anew what the group has committed.
    committing: tokio::sync::Mutex<()>,
    is_stopped: AtomicBool,
    is_released: watch::Sender<bool>,
}

/// Where a message is, and since which time this member has that partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    partition: i32,
    offset: i64,
    epoch: u64,
}

/// A message that was handed out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) record: ConsumerRecord,
    /// It was begun before so often.
    pub(super) attempts_before: u32,
    pub(super) place: Place,
}

impl Group {
    /// Joins; `hand` gets the messages, at most so many that are not done.
    pub(super) async fn join(
        clients: &Clients,
        topics: &Arc<Topics>,
        publisher: &Publisher,
        topic: &str,
        prefetch: usize,
        hand: impl Fn(&Arc<Self>, Result<Taken, Error>) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        let what = format!("group '{topic}'");
        let held = Arc::new(Held {
            topics: Arc::clone(topics),
            group: topic.to_owned(),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let batch = (prefetch / 2).clamp(1, READ_MAX);
        let consumer = clients
            .connect()
            .await?
            .consumer(topic)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .isolation_level(IsolationLevel::ReadCommitted)
            .partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
            .session_timeout(SESSION)
            .heartbeat_interval(HEARTBEAT)
            .max_poll_records(i32::try_from(batch).unwrap_or(i32::MAX))
            .fetch_max_bytes(FETCH_BYTES_MAX)
            .rebalance_listener(Arc::clone(&held))
            .build()
            .await
            .map_err(|error| refused(&what, &error))?;
        consumer.subscribe([topic]).await.map_err(|error| refused(&what, &error))?;
        let (done, to_commit) = mpsc::unbounded_channel();
        let (is_released, _) = watch::channel(false);
        let group = Arc::new(Self {
            consumer,
            clients: clients.clone(),
            publisher: publisher.clone(),
            topic: topic.to_owned(),
            prefetch,
            held,
            done,
            committing: tokio::sync::Mutex::default(),
            is_stopped: AtomicBool::new(false),
            is_released,
        });
        tokio::spawn(Arc::clone(&group).read(batch, hand));
        tokio::spawn(Arc::clone(&group).commit_all(to_commit));
        Ok(group)
    }

    /// Reads no more.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.held.changed.notify_waiters();
        self.consumer.wakeup();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Gives up all that is not done.
    pub(super) fn release(self: &Arc<Self>) {
        self.stop();
        // Whoever drops it last may have no runtime any more, and then nobody is there to be told.
        if !self.is_released.send_replace(true)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let this = Arc::clone(self);
            runtime.spawn(async move {
                let committed = this.held.until(|state| state.uncommitted == 0);
                let _ = tokio::time::timeout(NOTING, committed).await;
                this.held.state.lock().is_released = true;
                this.held.changed.notify_waiters();
                let options = CloseOptions::new().timeout(NOTING);
                if let Err(error) = this.consumer.close_with(options).await {
                    tracing::debug!("the group finds out that this member has left: {error}");
                }
                this.held.state.lock().partitions.clear();
                this.held.changed.notify_waiters();
            });
        }
    }

    /// Completes once all is given up.
    pub(super) async fn released(&self) {
        self.held.until(|state| state.is_released && state.partitions.is_empty()).await;
    }

    /// Whether a message is still this member's.
    pub(super) fn holds(&self, place: Place) -> bool {
        self.held.state.lock().holds(place)
    }

    /// A message is done, and these records go out together with that, soon. `false`: it is another member's by now.
    pub(super) async fn finish(&self, place: Place, records: Vec<Record>) -> bool {
        self.held.until(|state| state.uncommitted < COMMIT_MAX || !state.holds(place)).await;
        let mut state = self.held.state.lock();
        let Some(owned) = state.owned(place) else { return false };
        owned.open = owned.open.saturating_sub(1);
        owned.uncommitted += 1;
        state.open = state.open.saturating_sub(1);
        state.uncommitted += 1;
        drop(state);
        self.held.changed.notify_waiters();
        self.done.send(Done { place, records }).is_ok()
    }

    /// A message was not even begun, and nobody works on it here.
    pub(super) fn give_back(&self, place: Place) -> bool {
        let mut state = self.held.state.lock();
        let Some(owned) = state.owned(place) else { return false };
        owned.offsets.give_back(place.offset);
        owned.open = owned.open.saturating_sub(1);
        state.open = state.open.saturating_sub(1);
        drop(state);
        self.held.changed.notify_waiters();
        true
    }

    async fn read(self: Arc<Self>, batch: usize, hand: impl Fn(&Arc<Self>, Result<Taken, Error>)) {
        let mut is_paused = false;
        let mut again = AGAIN;
        while !self.is_stopped() {
            let changed = self.held.changed.notified();
            let room = self.prefetch.saturating_sub(self.held.state.lock().open);
            let has_room = room > 0;
            if is_paused == has_room {
                // Whoever does not ask is taken for dead, so it asks for nothing.
                for (topic, partitions) in self.consumer.assignment().await {
                    match has_room {
                        true => self.consumer.resume(&topic, &partitions).await,
                        false => self.consumer.pause(&topic, &partitions).await,
                    }
                }
                is_paused = !has_room;
            }
            let polled = tokio::select! {
                polled = self.poll(room >= batch) => polled,
                () = changed, if is_paused => continue,
            };
            match polled {
                Ok(records) => {
                    again = AGAIN;
                    self.hand_out(records, &hand).await;
                }
                Err(KrafkaError::Wakeup) => {}
                Err(KrafkaError::Closed { .. }) => return,
                Err(error) => {
                    if let Err(error) = self.held.topics.recover(&self.topic, &error).await {
                        hand(&self, Err(error));
                        break;
                    }
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(AGAIN_MAX);
                }
            }
        }
        // Until it is released, the group is to know that this member is alive.
        let mut released = self.is_released.subscribe();
        loop {
            for (topic, partitions) in self.consumer.assignment().await {
                self.consumer.pause(&topic, &partitions).await;
            }
            tokio::select! {
                () = until_true(&mut released) => return,
                polled = self.consumer.poll(POLL) => match polled {
                    Err(KrafkaError::Closed { .. }) => return,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                    // Whoever gets the partition reads them again.
                    Ok(_) => {}
                },
            }
        }
    }

    /// What comes next; only one, if there is no room for as many as are read at once.
    async fn poll(&self, takes_many: bool) -> Result<Vec<ConsumerRecord>, KrafkaError> {
        if takes_many {
            return self.consumer.poll(POLL).await;
        }
        match tokio::time::timeout(POLL, self.consumer.recv()).await {
            Ok(Ok(Some(record))) => Ok(vec![record]),
            Ok(Ok(None)) => Err(KrafkaError::closed("the group is left")),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn hand_out(
        self: &Arc<Self>,
        records: Vec<ConsumerRecord>,
        hand: &impl Fn(&Arc<Self>, Result<Taken, Error>),
    ) {
        let (mut begun, mut records) = (Vec::new(), records.into_iter().peekable());
        while let Some(record) = records.next() {
            let is_suspect = self.held.state.lock().is_suspect(&record);
            if is_suspect && !begun.is_empty() {
                self.hand_begun(std::mem::take(&mut begun), hand).await;
            }
            if is_suspect {
                self.held.alone().await;
            }
            begun.extend(self.held.state.lock().begin(record));
            if is_suspect {
                self.hand_begun(std::mem::take(&mut begun), hand).await;
                if records.peek().is_some() {
                    self.held.alone().await;
                }
            }
        }
        self.hand_begun(begun, hand).await;
    }

    async fn hand_begun(
        self: &Arc<Self>,
        begun: Vec<Taken>,
        hand: &impl Fn(&Arc<Self>, Result<Taken, Error>),
    ) {
        if begun.is_empty() {
            return;
        }
        self.note().await;
        for taken in begun {
            hand(self, Ok(taken));
        }
    }
}

async fn until_true(flag: &mut watch::Receiver<bool>) {
    // Whoever could change it is there as long as this runs.
    let _ = flag.wait_for(|is_true| *is_true).await;
}
