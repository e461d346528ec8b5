//! A connection's outbox, into which others push what is for it.
//!
//! Any thread may push deliveries, under the one lock; the connection's own task empties it into
//! the socket and is woken once per pushed batch. Delivery tags are assigned here, under that lock,
//! so their order is the order on the wire, and an `ack multiple` never covers what the client has
//! not seen.
//!
//! *Invariant:* the amount that is pushed and not yet written is bounded: consumers reserve room
//! before a queue assigns anything (module [`consumer`](super::consumer)), and an outbox that was
//! full reports when it has room again ([`Outbox::take_stalled`]).

use std::any::Any;
use std::sync::{Arc, mpsc};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use broker::queue::{ConsumerKey, Delivery, DeliveryId};
use broker::{Message, QueueId};
use hashbrown::HashMap;

use super::consumer::ConsumerHandle;
use super::live_queue::LiveQueue;
use super::outbox_total::OutboxTotal;
use super::turns::Turns;
use super::unsettled::{Unsettled, UnsettledRing};
use crate::atomics::{AtomicBool, AtomicUsize, Ordering};
use crate::locks::{Mutex, MutexGuard, Rank};
use crate::rewrite;
use crate::sink::{Delivered, Sink};
use crate::store::Waiter;

/// The room a delivery takes besides its body.
const DELIVERY_BYTES: usize = 128;

/// See the module's documentation.
pub struct Outbox {
    /// Identifies the connection while the node lives.
    pub(crate) connection: u64,
    pub(crate) owner: Owner,
    /// Whether its session must end: its user or its virtual host is gone.
    is_ended: AtomicBool,
    state: Mutex<OutboxState>,
    waker: AtomicWaker,
    /// Whether it has been woken since its owner last looked.
    is_dirty: AtomicBool,
    /// Room taken by deliveries that are assigned or pushed but not yet written.
    reserved_bytes: AtomicUsize,
    /// The part of that which is pushed.
    total: OutboxTotal,
    /// Whether a consumer was refused room.
    stalled: AtomicBool,
    /// The turns for having room.
    pub(crate) turns: Turns,
    /// Whether a consumer waits for a shared prefetch of which something may be left.
    has_prefetch_left: AtomicBool,
    /// Whether this is registered with the store as a waiter.
    waits_for_store: AtomicBool,
    /// Whether held confirms of some channel have been decided.
    has_decided: AtomicBool,
    /// Deliveries that were not settled in time. Noted under the locks of queues, so without one.
    overdue: mpsc::Sender<Overdue>,
    overdue_left: Mutex<mpsc::Receiver<Overdue>>,
    has_overdue: AtomicBool,
    /// Nothing is read from its connection, because publishers are held.
    pub(crate) is_unheard: AtomicBool,
}

/// A delivery that has gone back into its queue because it was not settled in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overdue {
    pub channel: u16,
    pub channel_serial: u64,
    pub queue: QueueId,
    pub id: DeliveryId,
}

/// Whose a connection is, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    pub user: Arc<str>,
    /// Tells the user from others of its name.
    pub incarnation: u64,
    pub vhost: Arc<str>,
}

/// What the lock covers.
pub(crate) struct OutboxState {
    pub sink: Box<dyn Sink>,
    pub channels: HashMap<u16, ChannelOutbox>,
    /// The part of `reserved_bytes` that the sink holds.
    pushed_bytes: usize,
}

/// One channel's part of the outbox.
#[derive(Default)]
pub(crate) struct ChannelOutbox {
    /// Distinguishes a channel from an earlier one with the same number.
    pub serial: u64,
    pub last_tag: u64,
    pub unsettled: UnsettledRing,
    /// The queues to which `unsettled` refers by index.
    pub queues: Vec<Arc<LiveQueue>>,
    /// Held confirms that have been decided.
    pub decided: Vec<Decided>,
}

/// The decision about a publisher's confirm that was held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    /// The confirm's number on the channel.
    pub number: u64,
    pub is_acked: bool,
    /// Sent once the log is durable up to here.
    pub position: u64,
}

/// The key by which a report is matched to the delivery it is about: half of the id's hash, never
/// 0.
pub(crate) fn report_key(id: u128) -> u64 {
    (id as u64).max(1)
}

impl Outbox {
    pub(crate) fn new(
        connection: u64,
        owner: Owner,
        sink: Box<dyn Sink>,
        total: OutboxTotal,
    ) -> Self {
        let (overdue, overdue_left) = mpsc::channel();
        Self {
            overdue,
            overdue_left: Mutex::new(Rank::Leaf, overdue_left),
            has_overdue: AtomicBool::new(false),
            is_unheard: AtomicBool::new(false),
            connection,
            owner,
            is_ended: AtomicBool::new(false),
            state: Mutex::new(
                Rank::Outbox,
                OutboxState { sink, channels: HashMap::default(), pushed_bytes: 0 },
            ),
            waker: AtomicWaker::new(),
            is_dirty: AtomicBool::new(false),
            reserved_bytes: AtomicUsize::new(0),
            total,
            stalled: AtomicBool::new(false),
            turns: Turns::default(),
            has_prefetch_left: AtomicBool::new(false),
            waits_for_store: AtomicBool::new(false),
            has_decided: AtomicBool::new(false),
        }
    }

    /// Its session must end.
    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Notes the decision about a held confirm. `false` when its channel is closed.
    pub(crate) fn decide(&self, channel: u16, channel_serial: u64, decided: Decided) -> bool {
        let mut state = self.state.lock();
        let Some(channel) = state.channels.get_mut(&channel) else { return false };
        if channel.serial != channel_serial {
            return false;
        }
        channel.decided.push(decided);
        self.has_decided.store(true, Ordering::Release);
        true
    }

    /// Whether held confirms were decided since this was last asked.
    pub(crate) fn take_has_decided(&self) -> bool {
        self.has_decided.load(Ordering::Acquire) && self.has_decided.swap(false, Ordering::AcqRel)
    }

    /// Works on the sink, which is an `S`, and on nothing else, under the lock. The second argument
    /// is the room that pushed deliveries take: whoever takes them out of the sink takes it too,
    /// and gives it back with [`Session::after_write`](crate::Session::after_write).
    pub fn with_sink<S: Sink, R>(&self, work: impl FnOnce(&mut S, &mut usize) -> R) -> Option<R> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let sink: &mut dyn Any = &mut *state.sink;
        Some(work(sink.downcast_mut::<S>()?, &mut state.pushed_bytes))
    }

    /// Frees the room of what was pushed and has been written.
    pub(crate) fn written(&self, bytes: usize) {
        if bytes > 0 {
            self.total.sub(bytes);
            self.release(bytes);
        }
    }

    /// Frees room that was reserved.
    pub(crate) fn release(&self, bytes: usize) {
        self.reserved_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Whether consumers wait for room and there is some, so that they should be resumed. `true`
    /// only once.
    pub(crate) fn take_stalled(&self) -> bool {
        self.has_much_room()
            && self.stalled.load(Ordering::Acquire)
            && self.stalled.swap(false, Ordering::AcqRel)
    }

    /// Whether consumers wait for a shared prefetch of which something may be left, so that they
    /// should get their turns. `true` only once.
    pub(crate) fn take_has_prefetch_left(&self) -> bool {
        self.has_prefetch_left.load(Ordering::Acquire)
            && self.has_prefetch_left.swap(false, Ordering::AcqRel)
    }

    /// A delivery was not settled in time.
    pub(crate) fn note_overdue(&self, overdue: Overdue) {
        // The other end is in this outbox, too.
        let _ = self.overdue.send(overdue);
        self.has_overdue.store(true, Ordering::Release);
        self.wake();
    }

    /// Deliveries that were not settled in time no longer count against the shared prefetch of their
    /// channels, whenever their client settles them. Returns the channels with one more to give.
    pub(crate) fn uncount_overdue(&self) -> Vec<u16> {
        if !self.has_overdue.load(Ordering::Acquire)
            || !self.has_overdue.swap(false, Ordering::AcqRel)
        {
            return Vec::new();
        }
        let overdue: Vec<Overdue> = self.overdue_left.lock().try_iter().collect();
        let mut state = self.state.lock();
        let uncounted = overdue.into_iter().filter(|overdue| {
            let channel = state.channels.get_mut(&overdue.channel);
            channel
                .filter(|channel| channel.serial == overdue.channel_serial)
                .is_some_and(|channel| channel.uncount(overdue))
        });
        uncounted.map(|overdue| overdue.channel).collect()
    }

    /// Notes how many bytes of replies wait to be read by the client, besides its deliveries.
    pub fn note_replies(&self, bytes: usize) {
        self.total.set_replies(bytes);
    }

    /// How many bytes of replies may wait before nothing more is taken in from the client.
    pub fn replies_max(&self) -> usize {
        self.total.limit()
    }

    /// Room left for deliveries, bytes.
    pub(crate) fn room(&self) -> usize {
        self.total.limit().saturating_sub(self.reserved_bytes.load(Ordering::SeqCst))
    }

    /// Whether there is so much room that it is worth resuming those who wait for some.
    pub(crate) fn has_much_room(&self) -> bool {
        self.reserved_bytes.load(Ordering::SeqCst) < self.total.limit() / 2
    }

    /// Registers whom to wake when there is something to write or to look at.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes room for a delivery; the caller has checked that there is some.
    pub(crate) fn reserve(&self, bytes: usize) {
        self.reserved_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Consumers wait for a shared prefetch, of which something may be left.
    pub(crate) fn note_prefetch_left(&self) {
        self.has_prefetch_left.store(true, Ordering::SeqCst);
    }

    /// Consumers still wait for room.
    pub(crate) fn note_stalled(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    /// Whether there is no room for more; anyone without a reservation must ask.
    pub(crate) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Takes room without a reservation, under the lock.
    pub(crate) fn take_room(&self, state: &mut OutboxState, bytes: usize) {
        self.reserved_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.total.add(bytes);
        state.pushed_bytes += bytes;
    }

    /// Wakes the registered task.
    pub fn wake(&self) {
        self.is_dirty.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has been woken since this was last called.
    pub fn take_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Acquire) && self.is_dirty.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock()
    }

    /// Pushes those deliveries to one consumer whose bodies have been loaded. `false` when the
    /// consumer no longer takes any: its channel is closed, or it was cancelled. The caller must
    /// then give back the room they reserved.
    pub(crate) fn push(
        &self,
        consumer: &ConsumerHandle,
        queue: &Arc<LiveQueue>,
        deliveries: &[Delivery],
    ) -> bool {
        let mut state = self.state.lock();
        let OutboxState { sink, channels, pushed_bytes } = &mut *state;
        let is_cancelled = consumer.is_cancelled.load(Ordering::Acquire) && !consumer.no_ack;
        let channel = channels
            .get_mut(&consumer.channel)
            .filter(|channel| channel.serial == consumer.channel_serial && !is_cancelled);
        let Some(channel) = channel else { return false };
        let counted = !consumer.no_ack;
        let mut added_bytes = 0;
        let queue_index = if consumer.no_ack { 0 } else { channel.queue_index(queue) };
        for delivery in deliveries {
            let Some(message) = &delivery.message else { continue };
            channel.last_tag += 1;
            let tag = channel.last_tag;
            if !consumer.no_ack {
                let (id, consumer, queue) = (delivery.id, delivery.consumer, queue_index);
                let report = report_key_of(message);
                channel.unsettled.push(Unsettled { tag, id, consumer, queue, counted, report });
            }
            // The queue reserved room for the body; only here are the properties known.
            let properties_bytes = message.properties_bytes().len();
            self.reserved_bytes.fetch_add(properties_bytes, Ordering::AcqRel);
            added_bytes += room_for(delivery.body_bytes) + properties_bytes;
            let count = queue.count_to_tell(delivery);
            sink.delivered(&Delivered {
                channel: consumer.channel,
                consumer_tag: &consumer.tag,
                delivery_tag: tag,
                redelivered: delivery.redelivered,
                properties: &rewrite::for_receiver(message, count),
                message,
            });
        }
        *pushed_bytes += added_bytes;
        self.total.add(added_bytes);
        drop(state);
        self.wake();
        true
    }
}

impl ChannelOutbox {
    /// A delivery no longer counts against the shared prefetch. `false` if it did not.
    fn uncount(&mut self, overdue: &Overdue) -> bool {
        let queues = &self.queues;
        self.unsettled.uncount(|unsettled| {
            let queue = queues.get(unsettled.queue as usize);
            unsettled.id == overdue.id && queue.is_some_and(|queue| queue.id == overdue.queue)
        })
    }

    /// The index by which `unsettled` refers to a queue.
    pub(crate) fn queue_index(&mut self, queue: &Arc<LiveQueue>) -> u32 {
        if self.unsettled.is_empty() {
            // Nothing refers to them: forget queues that are no longer used.
            self.queues.clear();
        }
        self.index_of(queue)
    }

    /// The same, while something that is not in `unsettled` at the moment still refers to queues by
    /// index.
    pub(crate) fn index_of(&mut self, queue: &Arc<LiveQueue>) -> u32 {
        let found = self.queues.iter().rposition(|known| Arc::ptr_eq(known, queue));
        found.unwrap_or_else(|| {
            self.queues.push(Arc::clone(queue));
            self.queues.len() - 1
        }) as u32
    }

    /// Notes a message taken by `basic.get`; returns its tag.
    pub(crate) fn got(
        &mut self,
        queue: &Arc<LiveQueue>,
        delivery: &Delivery,
        message: &Message,
        no_ack: bool,
    ) -> u64 {
        self.last_tag += 1;
        if !no_ack {
            let queue = self.queue_index(queue);
            let (tag, id, consumer) = (self.last_tag, delivery.id, ConsumerKey::GET);
            let report = report_key_of(message);
            self.unsettled.push(Unsettled { tag, id, consumer, queue, counted: false, report });
        }
        self.last_tag
    }
}

impl Waiter for Outbox {
    fn begin_waiting(&self) -> bool {
        !self.waits_for_store.swap(true, Ordering::AcqRel)
    }

    fn taken(&self) {
        self.waits_for_store.store(false, Ordering::Release);
    }

    fn committed(&self) {
        self.wake();
    }
}

/// The key by which a report about a message is matched; 0 when there can be none.
fn report_key_of(message: &Message) -> u64 {
    message.followed().map_or(0, |tracking| report_key(tracking.id))
}

/// The room that a delivery with a body of this size takes.
pub(crate) fn room_for(body_bytes: u32) -> usize {
    body_bytes as usize + DELIVERY_BYTES
}
