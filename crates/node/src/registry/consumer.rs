//! A consumer, as its queue sees it: where to push, and what it may take.
//!
//! It makes reservations before the queue assigns anything: room in its connection's outbox, and
//! some of the prefetch that its channel's consumers share. If nothing is left, it waits for its
//! turn (module [`turns`](super::turns)).

use std::sync::Arc;

use broker::queue::{DeliveryId, Endpoint};
use broker::{Message, QueueId};
use outcome::SettledBy;

use super::outbox::{Outbox, Overdue, room_for};
use super::turns::{Place, Turns};
use crate::atomics::{AtomicBool, AtomicU32, Ordering};
use crate::sink::Delivered;

/// A consumer, as its queue sees it.
pub(crate) struct ConsumerHandle {
    pub outbox: Arc<Outbox>,
    pub channel: u16,
    pub channel_serial: u64,
    pub tag: String,
    pub no_ack: bool,
    /// Whether its client understands `basic.cancel` from the server.
    pub notifies_cancel: bool,
    /// `false` until its client may know about it.
    pub is_active: AtomicBool,
    pub is_cancelled: AtomicBool,
    /// The channel-wide prefetch (`basic.qos` with global set).
    pub shared_prefetch: Arc<SharedPrefetch>,
    /// Its places in the turns for its connection's room and for the shared prefetch.
    pub room_place: Place,
    pub prefetch_place: Place,
    /// This consumer as a worker.
    pub by: Arc<SettledBy>,
}

/// A prefetch that a channel's consumers share; 0 means no limit.
#[derive(Default)]
pub(crate) struct SharedPrefetch {
    pub limit: AtomicU32,
    pub unsettled_count: AtomicU32,
    pub turns: Turns,
}

impl ConsumerHandle {
    /// Cancels it from the server's side, and says so to a client that understands that: once, and
    /// only on the channel on which it was created.
    pub(crate) fn tell_cancelled(&self) {
        // Until its client knows about it, its creator looks after it.
        let is_known = self.is_active.load(Ordering::SeqCst);
        if !is_known || self.is_cancelled.swap(true, Ordering::AcqRel) || !self.notifies_cancel {
            return;
        }
        let mut state = self.outbox.lock();
        let channel = state.channels.get(&self.channel);
        if channel.is_some_and(|channel| channel.serial == self.channel_serial) {
            state.sink.cancelled(self.channel, &self.tag);
        }
        drop(state);
        self.outbox.wake();
    }

    /// Sends it a message that is in no queue. `false` when the consumer is gone or has no room.
    pub(crate) fn reply(&self, message: &Message) -> bool {
        // Nobody reserves room for a reply; a client that does not read its replies loses them, as
        // they are not stored.
        if self.outbox.is_full() {
            return false;
        }
        let mut outbox = self.outbox.lock();
        let outbox = &mut *outbox;
        self.outbox.take_room(outbox, message.body().len() + message.properties_bytes().len());
        let Some(channel) = outbox.channels.get_mut(&self.channel) else { return false };
        if channel.serial != self.channel_serial {
            return false;
        }
        channel.last_tag += 1;
        outbox.sink.delivered(&Delivered {
            channel: self.channel,
            consumer_tag: &self.tag,
            delivery_tag: channel.last_tag,
            redelivered: false,
            properties: message.properties_bytes(),
            message,
        });
        self.outbox.wake();
        true
    }
}

/// A consumer's handle, shared with its queue.
#[derive(Clone)]
pub(crate) struct ConsumerEndpoint(pub Arc<ConsumerHandle>);

impl std::ops::Deref for ConsumerEndpoint {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.0
    }
}

impl Endpoint for ConsumerEndpoint {
    fn settled_by(&self) -> Option<Arc<SettledBy>> {
        Some(Arc::clone(&self.by))
    }

    fn reserve(&self, body_bytes: u32) -> bool {
        let is_open = self.is_active.load(Ordering::Acquire);
        if !is_open || self.is_cancelled.load(Ordering::Acquire) {
            return false;
        }
        let bytes = room_for(body_bytes);
        if !self.may_take_room(bytes) {
            return false;
        }
        // A consumer that does not ack takes none of the prefetch, but while nothing is left of it
        // the whole channel is held.
        let may_have = match self.no_ack {
            true => self.shared_prefetch.is_left(&self.prefetch_place),
            false => self.shared_prefetch.reserve(&self.prefetch_place),
        };
        if !may_have {
            self.wait_for_prefetch();
            return false;
        }
        self.outbox.reserve(bytes);
        true
    }

    fn timed_out(&self, queue: QueueId, id: DeliveryId) {
        let (channel, channel_serial) = (self.channel, self.channel_serial);
        self.outbox.note_overdue(Overdue { channel, channel_serial, queue, id });
    }

    fn is_unheard(&self) -> bool {
        self.outbox.is_unheard.load(Ordering::Relaxed)
    }

    fn release(&self, body_bytes: u32) {
        if !self.no_ack {
            self.shared_prefetch.release(1);
        }
        self.outbox.release(room_for(body_bytes));
        // Nothing is written for it, so its owner must check by itself who waits for room.
        self.outbox.note_stalled();
        self.outbox.note_prefetch_left();
        self.outbox.wake();
    }
}

impl ConsumerHandle {
    /// Whether there is room for a delivery and it may have it; otherwise it waits for its turn.
    fn may_take_room(&self, bytes: usize) -> bool {
        let outbox = &self.outbox;
        if outbox.room() > 0 && outbox.turns.may_take(&self.room_place, bytes as u64) {
            outbox.turns.leave(&self.room_place);
            return true;
        }
        outbox.turns.wait(&self.room_place);
        outbox.note_stalled();
        // Room that was made before the marks were set did not see them, and perhaps nothing more
        // is written.
        if outbox.has_much_room() {
            outbox.wake();
        }
        false
    }

    /// Waits for its turn to have some of the shared prefetch.
    fn wait_for_prefetch(&self) {
        self.shared_prefetch.turns.wait(&self.prefetch_place);
        // Prefetch that was given back before the mark was set did not see it.
        if self.shared_prefetch.left() > 0 {
            self.outbox.note_prefetch_left();
            self.outbox.wake();
        }
    }

    /// It has left its queue and takes no more turns.
    pub(crate) fn leave_turns(&self) {
        self.outbox.turns.leave(&self.room_place);
        self.shared_prefetch.turns.leave(&self.prefetch_place);
    }
}

/// If the server cancelled it, its session drops it without saying so.
impl Drop for ConsumerHandle {
    fn drop(&mut self) {
        self.leave_turns();
    }
}

impl SharedPrefetch {
    /// What is left of it; practically unlimited when there is no limit.
    pub(crate) fn left(&self) -> u32 {
        match self.limit.load(Ordering::SeqCst) {
            0 => u32::MAX,
            limit => limit.saturating_sub(self.unsettled_count.load(Ordering::SeqCst)),
        }
    }

    /// Whether something is left of it, for a consumer that takes nothing of it.
    fn is_left(&self, place: &Place) -> bool {
        let is_left = self.left() > 0;
        if is_left {
            self.turns.leave(place);
        }
        is_left
    }

    fn reserve(&self, place: &Place) -> bool {
        // Counted even without a limit, so that a limit set later starts from the right number.
        let limit = self.limit.load(Ordering::SeqCst);
        if limit > 0 && !(self.left() > 0 && self.turns.may_take(place, 1)) {
            return false;
        }
        let reserve = |count| (limit == 0 || count < limit).then_some(count + 1);
        let counted = &self.unsettled_count;
        let taken = counted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, reserve).is_ok();
        if taken {
            self.turns.leave(place);
        }
        taken
    }

    pub(crate) fn release(&self, count: u32) {
        let release = |now: u32| Some(now.saturating_sub(count));
        let _ = self.unsettled_count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, release);
    }
}
