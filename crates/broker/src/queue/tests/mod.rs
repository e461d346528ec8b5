//! A queue with everything around it in memory: consumers with settable room, a driver that
//! dispatches, and names instead of bodies.

mod attempts;
mod consumers;
mod deadlines;
mod dispatch;
mod drain;
mod dropping;
mod effects;
mod expiry;
mod index;
mod priorities;
mod retries;
mod settling;
mod stragglers;
mod timeouts;
mod tracked;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use amqp::Properties;
use outcome::{Reason, SettledBy};

use super::*;
use crate::arguments::{Overflow, QueueArguments};
use crate::{Message, Position, QueueId, Tracking};

/// Where a consumer's deliveries go: it has room for this many more.
#[derive(Clone, Default)]
struct Port(Rc<PortState>);

#[derive(Default)]
struct PortState {
    room: Cell<u32>,
    reserved_count: Cell<u32>,
    released_count: Cell<u32>,
    settled_by: RefCell<Option<Arc<SettledBy>>>,
    is_unheard: Cell<bool>,
}

impl Port {
    fn with_room(room: u32) -> Self {
        let port = Self::default();
        port.0.room.set(room);
        port
    }
}

impl Endpoint for Port {
    fn reserve(&self, _body_bytes: u32) -> bool {
        let room = self.0.room.get();
        if room == 0 {
            return false;
        }
        self.0.room.set(room - 1);
        self.0.reserved_count.set(self.0.reserved_count.get() + 1);
        true
    }

    fn release(&self, _body_bytes: u32) {
        self.0.room.set(self.0.room.get() + 1);
        self.0.released_count.set(self.0.released_count.get() + 1);
    }

    fn settled_by(&self) -> Option<Arc<SettledBy>> {
        self.0.settled_by.borrow().clone()
    }

    fn is_unheard(&self) -> bool {
        self.0.is_unheard.get()
    }
}

/// What a message is like, besides its name.
#[derive(Clone, Copy, Default)]
struct Kind {
    priority: u8,
    expiration_ms: Option<u64>,
    /// Its place in the log, with its body only there.
    position: Option<u64>,
    /// Somebody may ask for its outcome.
    is_tracked: bool,
    /// By when it must be settled, ms since the epoch; only for a tracked message.
    deadline_at_ms: u64,
}

struct Rig {
    queue: Queue<Port>,
    effects: Effects,
    now_ms: u64,
}

/// Some dead-letter exchange.
fn dlx() -> DeadLetterAddress {
    DeadLetterAddress { exchange: "dlx".to_owned(), routing_key: None }
}

/// Default settings, changed by the function.
fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings { dead_letter: Some(dlx()), ..Settings::default() };
    change(&mut settings);
    settings
}

fn message(name: &str, kind: Kind) -> Message {
    let expiration = kind.expiration_ms.map(|ms| ms.to_string());
    let properties = Properties {
        priority: Some(kind.priority),
        expiration: expiration.as_deref().map(Into::into),
        ..Properties::default()
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let content = ("", "q", encoded.as_slice(), name.as_bytes());
    let tracking = Tracking { deadline_at_ms: kind.deadline_at_ms, ..Tracking::default() };
    let tracking = kind.is_tracked.then_some(&tracking);
    Message::tracked(0, &properties, content, tracking, &mut Vec::new())
}

/// How a worker of this name settles.
fn worker(name: &str) -> Arc<SettledBy> {
    Arc::new(SettledBy { worker: name.into(), report: None })
}

fn name_of(message: &Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let queue = Queue::new(QueueId(1), settings, 1000);
        Self { queue, effects: Effects::default(), now_ms: 1000 }
    }

    fn plain() -> Self {
        Self::new(settings(|_| ()))
    }

    fn publish(&mut self, name: &str) -> Published {
        self.publish_kind(name, Kind::default())
    }

    fn publish_all(&mut self, names: &str) {
        for name in names.split(' ') {
            self.publish(name);
        }
    }

    fn publish_kind(&mut self, name: &str, kind: Kind) -> Published {
        let incoming = Incoming {
            message: message(name, kind),
            position: kind.position.map(Position::new),
            keep_body: kind.position.is_none(),
        };
        self.queue.publish(self.now_ms, incoming, &mut self.effects)
    }

    /// A consumer with room for everything.
    fn consume(&mut self, change: impl FnOnce(&mut ConsumerSettings)) -> ConsumerKey {
        self.consume_at(Port::with_room(u32::MAX / 2), change)
    }

    fn consume_at(
        &mut self,
        port: Port,
        change: impl FnOnce(&mut ConsumerSettings),
    ) -> ConsumerKey {
        let mut settings = ConsumerSettings::default();
        change(&mut settings);
        self.queue.add_consumer(self.now_ms, port, settings).expect("the queue is free")
    }

    fn remove(&mut self, consumer: ConsumerKey) -> bool {
        self.queue.remove_consumer(self.now_ms, consumer, &mut self.effects)
    }

    fn assign(&mut self) {
        self.queue.assign(self.now_ms, &mut self.effects);
    }

    /// Assigns and dispatches until nothing is left to do.
    fn deliver(&mut self) -> Vec<Delivery> {
        let mut delivered = Vec::new();
        let mut taken = Outgoing::default();
        self.assign();
        assert!(self.queue.begin_dispatch(), "one driver at a time");
        while self.queue.take_outgoing(&mut taken) {
            delivered.append(&mut taken.deliveries);
            taken.clear();
            self.assign();
        }
        delivered
    }

    /// What is delivered now, by name.
    fn names(&mut self) -> Vec<String> {
        self.deliver().iter().map(|delivery| delivery.name()).collect()
    }

    fn settle(&mut self, delivery: &Delivery, settlement: Settlement) -> bool {
        let Delivery { id, consumer, .. } = *delivery;
        self.queue.settle(self.now_ms, id, consumer, settlement, &mut self.effects)
    }

    fn settle_by(
        &mut self,
        delivery: &Delivery,
        settlement: Settlement,
        by: &Arc<SettledBy>,
    ) -> bool {
        let Delivery { id, consumer, .. } = *delivery;
        let by = Some(by);
        self.queue.settle_by(self.now_ms, id, consumer, settlement, by, &mut self.effects)
    }

    fn get(&mut self) -> Option<Delivery> {
        self.queue.get(self.now_ms, false, &mut self.effects)
    }

    fn tick(&mut self) -> Tick {
        self.queue.tick(self.now_ms, &mut self.effects)
    }

    /// What has left the queue since the last call: name and reason.
    fn gone(&mut self) -> Vec<(String, Reason)> {
        let gone = self.effects.removed.drain(..);
        gone.map(|removed| (removed.name(), removed.reason)).collect()
    }

    /// The entries of all messages that are in the log.
    fn standings(&self) -> Vec<EntryRef> {
        let mut found = Vec::new();
        let mut at = Some((0, 0));
        while let Some(from) = at {
            at = self.queue.positions_in(&|_| true, from, 100, &mut found);
        }
        found
    }

    /// The entry of the message at this place in the log.
    fn entry(&self, position: u64) -> EntryRef {
        let mut found = self.standings().into_iter();
        found.find(|entry| entry.position == position).expect("it is there")
    }

    /// Ready, unsettled, delayed.
    fn counts(&self) -> (u64, u64, u64) {
        let Depth { ready_count, unsettled_count, delayed_count, .. } = self.queue.depth();
        (ready_count, unsettled_count, delayed_count)
    }

    fn ready(&self) -> u64 {
        self.queue.depth().ready_count
    }

    fn unsettled(&self) -> u64 {
        self.queue.depth().unsettled_count
    }

    /// Takes everything that is ready for good; returns the names.
    fn drain(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(delivery) = self.queue.get(self.now_ms, true, &mut self.effects) {
            names.push(delivery.name());
        }
        names
    }
}

/// The name of a message, or its place in the log.
trait Named {
    fn name(&self) -> String;
}

impl Named for Delivery {
    fn name(&self) -> String {
        self.message
            .as_ref()
            .map_or_else(|| format!("@{}", self.position.map_or(0, Position::get)), name_of)
    }
}

impl Named for Noted {
    fn name(&self) -> String {
        self.message
            .as_ref()
            .map_or_else(|| format!("@{}", self.position.map_or(0, Position::get)), name_of)
    }
}

impl Named for Removed {
    fn name(&self) -> String {
        self.message
            .as_ref()
            .map_or_else(|| format!("@{}", self.position.map_or(0, Position::get)), name_of)
    }
}

fn reasons(names: &str, reason: Reason) -> Vec<(String, Reason)> {
    names.split(' ').map(|name| (name.to_owned(), reason)).collect()
}
