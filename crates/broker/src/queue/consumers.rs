//! Who takes messages from a queue, and whose turn it is.
//!
//! Consumers with room wait in one ring per priority, highest first; one that has no room (its
//! prefetch is used up, its connection is full) is out of the ring until something is settled or
//! its connection reports room. So finding the next consumer costs the same for one consumer and
//! for ten thousand.

use std::collections::VecDeque;
use std::sync::Arc;

use outcome::SettledBy;

use super::effects::DeliveryId;
use crate::QueueId;

/// Where a consumer's messages go. The queue asks only whether there is room.
pub trait Endpoint: Clone {
    /// Reserves room for one more message of this size (channel-wide prefetch, bounded buffers). If
    /// it returns `false`, whoever makes room calls [`super::Queue::resume`].
    fn reserve(&self, body_bytes: u32) -> bool;

    /// Takes a reservation back: the message was assigned but is not delivered after all.
    fn release(&self, body_bytes: u32) {
        let _ = body_bytes;
    }

    /// A delivery was not settled in time and has gone back into the queue, though its client may still
    /// settle it. Called under the queue's lock.
    fn timed_out(&self, queue: QueueId, id: DeliveryId) {
        let _ = (queue, id);
    }

    /// Whether what its client says is not read at the moment: then a delivery that is not settled is no
    /// fault of the client's, and its time does not run out.
    fn is_unheard(&self) -> bool {
        false
    }

    /// Who counts as having settled a tracked message that nobody acks.
    fn settled_by(&self) -> Option<Arc<SettledBy>> {
        None
    }
}

/// Identifies a consumer of one queue; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsumerKey {
    slot: u32,
    serial: u32,
}

impl ConsumerKey {
    /// Not a consumer: marks a message taken by `basic.get`.
    pub const GET: ConsumerKey = ConsumerKey { slot: u32::MAX, serial: u32::MAX };
}

/// What a consumer asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumerSettings {
    /// Unsettled messages it may hold; 0 means no limit.
    pub prefetch: u32,
    /// Messages count as settled when they are sent.
    pub no_ack: bool,
    /// No other consumer may be on the queue.
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i32,
    /// `x-consumer-timeout`: how long its deliveries may stay unsettled, ms, if that is less than the
    /// queue allows.
    pub timeout_ms: Option<u64>,
}

pub(super) struct Consumer<E> {
    pub serial: u32,
    pub settings: ConsumerSettings,
    pub endpoint: E,
    pub unsettled_count: u32,
    waiting: bool,
    /// The number of the [`Outgoing`](super::Outgoing) its endpoint was last put into, and its
    /// index there.
    pub outgoing: (u64, u32),
}

pub(super) struct Consumers<E> {
    slots: Vec<Option<Consumer<E>>>,
    /// Highest priority first; each ring holds the slots with room.
    rings: Vec<(i32, VecDeque<u32>)>,
    next_serial: u32,
    count: u32,
    single_active: bool,
    active: Option<ConsumerKey>,
}

impl<E: Endpoint> Consumers<E> {
    pub(super) fn new(single_active: bool) -> Self {
        Self {
            slots: Vec::new(),
            rings: Vec::new(),
            next_serial: 0,
            count: 0,
            single_active,
            active: None,
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.slots.iter().flatten().any(|consumer| consumer.settings.exclusive)
    }

    pub(super) fn active(&self) -> Option<ConsumerKey> {
        self.active
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = (ConsumerKey, &E)> {
        self.slots.iter().zip(0u32..).filter_map(|(consumer, slot)| {
            let consumer = consumer.as_ref()?;
            Some((ConsumerKey { slot, serial: consumer.serial }, &consumer.endpoint))
        })
    }

    pub(super) fn add(&mut self, endpoint: E, settings: ConsumerSettings) -> ConsumerKey {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let consumer = Consumer {
            serial,
            settings,
            endpoint,
            unsettled_count: 0,
            waiting: false,
            outgoing: (u64::MAX, 0),
        };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = Some(consumer);
        self.count += 1;
        let key = ConsumerKey { slot: slot as u32, serial };
        if self.single_active && self.active.is_none() {
            self.active = Some(key);
        }
        self.resume(key);
        key
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) -> Option<Consumer<E>> {
        self.by_key(key)?;
        let consumer = self.slots[key.slot as usize].take()?;
        self.count -= 1;
        for (_, ring) in &mut self.rings {
            ring.retain(|&slot| slot != key.slot);
        }
        self.rings.retain(|(_, ring)| !ring.is_empty());
        if self.active == Some(key) {
            self.active = self.successor();
            if let Some(active) = self.active {
                self.resume(active);
            }
        }
        Some(consumer)
    }

    pub(super) fn by_key(&mut self, key: ConsumerKey) -> Option<&mut Consumer<E>> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|c| c.serial == key.serial)
    }

    /// Notes that one of its messages was settled.
    pub(super) fn settled(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.by_key(key) else { return };
        consumer.unsettled_count = consumer.unsettled_count.saturating_sub(1);
        if !consumer.waiting {
            self.resume(key);
        }
    }

    /// Notes that it may have room again.
    pub(super) fn resume(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.by_key(key) else { return };
        if consumer.waiting || !consumer.below_prefetch() {
            return;
        }
        consumer.waiting = true;
        let priority = consumer.settings.priority;
        let ring = match self.rings.binary_search_by(|(of, _)| priority.cmp(of)) {
            Ok(ring) => ring,
            Err(ring) => {
                self.rings.insert(ring, (priority, VecDeque::new()));
                ring
            }
        };
        self.rings[ring].1.push_back(key.slot);
    }

    /// The consumer whose turn it is, with room for one message reserved.
    pub(super) fn next(&mut self, body_bytes: u32) -> Option<ConsumerKey> {
        let mut ring = 0;
        while ring < self.rings.len() {
            while let Some(&slot) = self.rings[ring].1.front() {
                let consumer = self.slots[slot as usize].as_mut()?;
                let key = ConsumerKey { slot, serial: consumer.serial };
                let may = !self.single_active || self.active == Some(key);
                if may && consumer.below_prefetch() && consumer.endpoint.reserve(body_bytes) {
                    let ring = &mut self.rings[ring].1;
                    if ring.len() > 1 {
                        ring.rotate_left(1);
                    }
                    return Some(key);
                }
                consumer.waiting = false;
                self.rings[ring].1.pop_front();
            }
            ring += 1;
        }
        None
    }

    /// The successor of a single active consumer: highest priority, then longest there.
    fn successor(&self) -> Option<ConsumerKey> {
        self.slots
            .iter()
            .zip(0u32..)
            .filter_map(|(consumer, slot)| Some((consumer.as_ref()?, slot)))
            .min_by_key(|(consumer, _)| {
                (std::cmp::Reverse(consumer.settings.priority), consumer.serial)
            })
            .map(|(consumer, slot)| ConsumerKey { slot, serial: consumer.serial })
    }
}

impl<E> Consumer<E> {
    fn below_prefetch(&self) -> bool {
        let prefetch = self.settings.prefetch;
        prefetch == 0 || self.settings.no_ack || self.unsettled_count < prefetch
    }
}
