//! A share group (Kafka 4.2 and later): the broker hands each message to one member at a time, and takes an answer
//! for each.
//!
//! The client gives a member its next messages only when it has answered all it had. So a worker is several
//! members, *lanes*: while one waits for a message that takes long, others go on. A lane is made when all there are
//! have something to do, up to as many as there are messages at a time.
//!
//! *Invariants:* a message that was delivered almost as often as the broker delivers one at all is sent anew before
//! it is worked on, with its attempts counted, so that the broker never drops one in silence. What is worked on for
//! long is held by renewing its lock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use krafka::share_consumer::{AcknowledgementMode, AcquireMode, ShareConsumer};
use krafka::{CloseOptions, ConsumerRecord, KrafkaError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clients::Clients;
use super::errors::refused;
use super::publishing::Publisher;
use super::records::{self, number};
use super::topics::Topics;
use crate::error::Error;
use crate::transport::Taken as Sent;
use crate::transport::properties::ATTEMPTS;

const POLL: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(3);
const CLOSING: Duration = Duration::from_secs(5);
/// Kafka's own limit is 5 unless configured otherwise (`group.share.delivery.count.limit`, 2 at least): the last
/// one but one is for sending it anew.
const DELIVERIES_MAX: u32 = 4;
/// Members of this worker.
const LANES_MAX: usize = 16;
/// So many are read at once.
const READ_MAX: usize = 500;
/// How long all lanes are busy before there is another, unless more is waiting: should this process end, the broker
/// may hand what one lane had to another that is about to end, too, and count that.
const BUSY: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(super) struct Share {
    clients: Clients,
    topics: Arc<Topics>,
    publisher: Publisher,
    topic: String,
    prefetch: usize,
    batch: usize,
    state: Mutex<State>,
    changed: Notify,
    hand: Hand,
    is_stopped: AtomicBool,
}

type Hand = Box<dyn Fn(&Arc<Share>, Result<Taken, Error>) + Send + Sync>;

#[derive(Default)]
struct State {
    /// Lanes that are there or being made.
    lanes: usize,
    next_lane: usize,
    /// Those that wait for messages.
    idle: usize,
    /// What each has: the next is read when there is none.
    held: HashMap<Place, (ShareConsumer, ConsumerRecord)>,
    by_lane: HashMap<usize, usize>,
    is_released: bool,
}

/// Which delivery it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    lane: usize,
    number: u64,
}

/// A message that was handed out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) record: ConsumerRecord,
    pub(super) deliveries_before: u32,
    pub(super) place: Place,
}

/// What the broker is told of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Accept,
    /// Somebody else is to have it.
    Release,
    /// Nobody is to have it.
    Reject,
}

impl Share {
    /// Joins; `hand` gets the messages, at most so many that are not answered, or few more.
    pub(super) async fn join(
        clients: &Clients,
        topics: &Arc<Topics>,
        publisher: &Publisher,
        topic: &str,
        prefetch: usize,
        hand: impl Fn(&Arc<Self>, Result<Taken, Error>) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        let share = Arc::new(Self {
            clients: clients.clone(),
            topics: Arc::clone(topics),
            publisher: publisher.clone(),
            topic: topic.to_owned(),
            prefetch,
            batch: (prefetch / 4).clamp(1, READ_MAX),
            state: Mutex::default(),
            changed: Notify::new(),
            hand: Box::new(hand),
            is_stopped: AtomicBool::new(false),
        });
        let consumer = share.member().await?;
        {
            let mut state = share.state.lock();
            (state.lanes, state.next_lane) = (1, 1);
        }
        tokio::spawn(Arc::clone(&share).read(0, consumer));
        Ok(share)
    }

    fn what(&self) -> String {
        format!("group '{}'", self.topic)
    }

    async fn member(&self) -> Result<ShareConsumer, Error> {
        let failed = |error: &KrafkaError| refused(&self.what(), error);
        let consumer = self
            .clients
            .connect()
            .await?
            .share_consumer(&*self.topic)
            .acknowledgement_mode(AcknowledgementMode::Explicit)
            .acquire_mode(AcquireMode::RecordLimit)
            .max_poll_records(i32::try_from(self.batch).unwrap_or(i32::MAX))
            .acknowledgement_commit_callback(|commit| {
                // It is delivered again, and known by its id.
                if let Err(error) = &commit.result {
                    tracing::debug!(topic = commit.topic, "an answer was not taken: {error}");
                }
            })
            .build()
            .await
            .map_err(|error| failed(&error))?;
        consumer.subscribe([&*self.topic]).await.map_err(|error| failed(&error))?;
        Ok(consumer)
    }

    /// Reads no more.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Gives back all that has no answer.
    pub(super) fn release(&self) {
        self.stop();
        let mut state = self.state.lock();
        state.is_released = true;
        for (_, (consumer, record)) in state.held.drain() {
            let _ = consumer.release(&record);
        }
        state.by_lane.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Completes once all members have left.
    pub(super) async fn released(&self) {
        self.until(|state| state.lanes == 0).await;
    }

    /// Whether a message is still this worker's.
    pub(super) fn holds(&self, place: Place) -> bool {
        self.state.lock().held.contains_key(&place)
    }

    /// Tells the broker. `false`: the message is somebody else's by now.
    pub(super) fn answer(&self, place: Place, answer: Answer) -> bool {
        let mut state = self.state.lock();
        let Some((consumer, record)) = state.held.remove(&place) else { return false };
        let left = state.by_lane.entry(place.lane).or_default();
        *left = left.saturating_sub(1);
        drop(state);
        let told = match answer {
            Answer::Accept => consumer.ack(&record),
            Answer::Release => consumer.release(&record),
            Answer::Reject => consumer.reject(&record),
        };
        self.changed.notify_waiters();
        if let Err(error) = &told {
            tracing::debug!(topic = self.topic, "a message is not this worker's any more: {error}");
        }
        told.is_ok()
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// One lane, until the end.
    async fn read(self: Arc<Self>, lane: usize, consumer: ShareConsumer) {
        let renewing = tokio::spawn(Arc::clone(&self).renew(lane, consumer.clone()));
        let mut next = 0;
        let mut again = AGAIN;
        loop {
            let may_read = |state: &State| {
                state.by_lane.get(&lane).is_none_or(|held| *held == 0)
                    && (state.held.len() < self.prefetch || state.is_released)
            };
            self.until(|state| may_read(state) || self.is_stopped()).await;
            if self.is_stopped() {
                break;
            }
            self.state.lock().idle += 1;
            let polled = tokio::select! {
                polled = consumer.poll(POLL) => polled,
                () = self.until(|_| self.is_stopped()) => Ok(Vec::new()),
            };
            self.state.lock().idle -= 1;
            match polled {
                Ok(records) => {
                    again = AGAIN;
                    let taken = self.take(lane, &consumer, records, &mut next).await;
                    self.hand_out(taken);
                }
                Err(KrafkaError::Closed { .. }) => break,
                Err(error) => {
                    if let Err(error) = self.topics.recover(&self.topic, &error).await {
                        (self.hand)(&self, Err(error));
                        break;
                    }
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(AGAIN_MAX);
                }
            }
        }
        self.until(|state| state.is_released).await;
        renewing.abort();
        if let Err(error) = consumer.close_with(CloseOptions::new().timeout(CLOSING)).await {
            tracing::debug!("the group finds out that this member has left: {error}");
        }
        self.state.lock().lanes -= 1;
        self.changed.notify_waiters();
    }

    /// Notes what has come; what was delivered too often is sent anew.
    async fn take(
        &self,
        lane: usize,
        consumer: &ShareConsumer,
        records: Vec<ConsumerRecord>,
        next: &mut u64,
    ) -> Vec<Taken> {
        let mut taken = Vec::new();
        for record in records {
            let deliveries =
                record.delivery_count.and_then(|it| u32::try_from(it).ok()).unwrap_or(1);
            if deliveries >= DELIVERIES_MAX {
                self.send_anew(consumer, &record, deliveries - 1).await;
                continue;
            }
            *next += 1;
            let place = Place { lane, number: *next };
            let mut state = self.state.lock();
            state.held.insert(place, (consumer.clone(), record.clone()));
            *state.by_lane.entry(lane).or_default() += 1;
            drop(state);
            taken.push(Taken { record, deliveries_before: deliveries.saturating_sub(1), place });
        }
        taken
    }

    async fn send_anew(&self, consumer: &ShareConsumer, record: &ConsumerRecord, deliveries: u32) {
        let before = number(record, ATTEMPTS).and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
        let copy = records::copy(record, &*self.topic, before.saturating_add(deliveries));
        let told = match self.publisher.send(copy).await {
            Ok(Sent::Stored) => consumer.ack(record),
            Ok(Sent::Unroutable) | Err(_) => consumer.release(record),
        };
        if let Err(error) = told {
            tracing::debug!(topic = self.topic, "a message may come twice, under its id: {error}");
        }
    }

    fn hand_out(self: &Arc<Self>, taken: Vec<Taken>) {
        if taken.is_empty() {
            return;
        }
        let is_full = taken.len() >= self.batch;
        taken.into_iter().for_each(|taken| (self.hand)(self, Ok(taken)));
        let mut state = self.state.lock();
        if state.idle == 0 && state.lanes < self.prefetch.min(LANES_MAX) && !self.is_stopped() {
            let lane = state.next_lane;
            (state.lanes, state.next_lane) = (state.lanes + 1, lane + 1);
            let after = if is_full { Duration::ZERO } else { BUSY };
            tokio::spawn(Arc::clone(self).add(lane, after));
        }
    }

    /// Boxed, as a lane makes the next.
    fn add(
        self: Arc<Self>,
        lane: usize,
        after: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            tokio::time::sleep(after).await;
            match self.member().await {
                Ok(consumer) => self.read(lane, consumer).await,
                Err(error) => {
                    // The others go on; the next one who finds all busy tries again.
                    tracing::debug!(topic = self.topic, "no further member: {error}");
                    tokio::time::sleep(AGAIN_MAX).await;
                    self.state.lock().lanes -= 1;
                    self.changed.notify_waiters();
                }
            }
        })
    }

    /// Holds what is being worked on.
    async fn renew(self: Arc<Self>, lane: usize, consumer: ShareConsumer) {
        loop {
            let lock = consumer.acquisition_lock_timeout().unwrap_or(Duration::from_secs(15));
            tokio::time::sleep(lock / 3).await;
            let held: Vec<_> = {
                let state = self.state.lock();
                let of_lane = state.held.iter().filter(|(place, _)| place.lane == lane);
                of_lane.map(|(_, (_, record))| record.clone()).collect()
            };
            for record in held {
                if let Err(error) = consumer.renew(&record) {
                    tracing::debug!(topic = self.topic, "a message cannot be held: {error}");
                }
            }
        }
    }
}
