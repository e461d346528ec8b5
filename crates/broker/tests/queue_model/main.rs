//! Random commands on a queue and on a naive model of it: after each, both must agree.

mod commands;
mod model;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use amqp::Properties;
use broker::queue::{
    ConsumerKey, Delivery, Effects, Endpoint, EntryRef, Incoming, Noted, Outgoing, Published,
    Queue, Restored, Settings, Settlement, Tick,
};
use broker::{Message, Position, QueueId, Tracking};
use outcome::SettledBy;
use proptest::prelude::*;

use commands::{Command, Publication};
use model::{Delivered, Gone, Model, Stage};

/// An endpoint with room for this many messages.
#[derive(Clone)]
struct Port(Rc<Cell<u32>>);

impl Endpoint for Port {
    fn reserve(&self, _body_bytes: u32) -> bool {
        let room = self.0.get();
        self.0.set(room.saturating_sub(1));
        room > 0
    }

    fn release(&self, _body_bytes: u32) {
        self.0.set(self.0.get() + 1);
    }

    fn settled_by(&self) -> Option<Arc<SettledBy>> {
        Some(worker())
    }
}

/// Everybody has the same name.
fn worker() -> Arc<SettledBy> {
    Arc::new(SettledBy { worker: "worker".into(), report: None })
}

/// The queue and its model, side by side.
struct Pair {
    queue: Queue<Port>,
    model: Model,
    effects: Effects,
    now_ms: u64,
    /// Consumers, by the model's numbers.
    keys: Vec<ConsumerKey>,
    ports: Vec<Port>,
    /// A dispatch under way.
    in_flight: Option<Vec<(Delivery, Delivered)>>,
    /// Deliveries that reached a consumer.
    got: Vec<(Delivery, Delivered)>,
    next_position: u64,
    /// Messages whose missed deadline was reported.
    told: BTreeSet<usize>,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        Self {
            queue: Queue::new(QueueId(1), settings.clone(), 1000),
            model: Model::new(settings, 1000),
            effects: Effects::default(),
            now_ms: 1000,
            keys: Vec::new(),
            ports: Vec::new(),
            in_flight: None,
            got: Vec::new(),
            next_position: 0,
            told: BTreeSet::new(),
        }
    }

    /// A body that says which message it is.
    fn body(&self, body_bytes: usize) -> Vec<u8> {
        let mut body = (self.model.messages.len() as u32).to_le_bytes().to_vec();
        body.resize(4 + body_bytes, b'.');
        body
    }

    fn next_position(&mut self) -> u64 {
        self.next_position += 1;
        self.next_position
    }

    fn restore(&mut self, publication: &Publication, attempts: u16, missed_deadline: bool) {
        let published_at_ms = self.now_ms - 10;
        let position = self.next_position();
        let body_bytes = publication.body_bytes as u32;
        let Publication { priority, expiration_ms, is_tracked, deadline_ms, .. } = *publication;
        let deadline_at_ms = deadline_ms.map(|ms| published_at_ms + ms);
        let missed_deadline = missed_deadline && deadline_ms.is_some();
        self.queue.restore(&Restored {
            position,
            published_at_ms,
            expiration_ms,
            body_bytes,
            priority,
            attempts,
            is_tracked,
            deadline_at_ms: deadline_at_ms.unwrap_or(0),
            missed_deadline,
        });
        let message = model::Message {
            level: priority,
            body_bytes: u64::from(body_bytes),
            memory_bytes: None,
            position: Some(Position::new(position)),
            expires_at_ms: None,
            attempts,
            redelivered: true,
            is_tracked,
            deadline_at_ms,
            missed_deadline,
            stage: Stage::Ready,
        };
        self.model.restore(published_at_ms, message, expiration_ms);
    }

    fn publish(&mut self, publication: &Publication) {
        let Publication { priority, expiration_ms, body_bytes, is_tracked, .. } = *publication;
        let expiration = expiration_ms.map(|ms| ms.to_string());
        let properties = Properties {
            priority: Some(priority),
            expiration: expiration.as_deref().map(Into::into),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let body = self.body(body_bytes);
        let content = ("", "q", encoded.as_slice(), body.as_slice());
        let deadline_at_ms = publication.deadline_ms.map(|ms| self.now_ms + ms);
        let tracking =
            Tracking { deadline_at_ms: deadline_at_ms.unwrap_or(0), ..Tracking::default() };
        let tracking = is_tracked.then_some(&tracking);
        let message =
            Message::tracked(self.now_ms, &properties, content, tracking, &mut Vec::new());
        let position = Some(Position::new(self.next_position())).filter(|_| publication.is_logged);
        let keep_body = publication.keep_body || !publication.is_logged;
        let expected = model::Message {
            level: priority,
            body_bytes: body.len() as u64,
            memory_bytes: keep_body.then_some(message.memory_bytes() as u64),
            position,
            expires_at_ms: None,
            attempts: 0,
            redelivered: false,
            is_tracked,
            deadline_at_ms,
            missed_deadline: false,
            stage: Stage::Ready,
        };
        let incoming = Incoming { message, position, keep_body };
        let published = self.queue.publish(self.now_ms, incoming, &mut self.effects);
        let expected = self.model.publish(self.now_ms, expected, expiration_ms);
        assert_eq!(published, expected);
        if published == Published::Refused {
            let refused = self.effects.removed.last().expect("it is among the effects");
            assert!(refused.message.is_some());
        }
    }

    fn run(&mut self, command: &Command) {
        let now_ms = self.now_ms;
        match command {
            Command::Publish(publication) => self.publish(publication),
            Command::PublishMany(publication, count) => {
                (0..*count).for_each(|_| self.publish(publication));
            }
            Command::Assign => {
                self.queue.assign(now_ms, &mut self.effects);
                self.model.assign(now_ms);
            }
            Command::Take => {
                let begun = self.queue.begin_dispatch();
                assert_eq!(begun, self.in_flight.is_none());
                if begun {
                    self.take();
                }
            }
            Command::Dispatch(unreached) => self.dispatch(*unreached),
            Command::Settle(pick, settlement) => {
                let Some(pick) = self.got.len().checked_sub(pick + 1) else { return };
                let (Delivery { id, consumer, .. }, expected) = &self.got[pick];
                let (by, effects) = (worker(), &mut self.effects);
                let settled =
                    self.queue.settle_by(now_ms, *id, *consumer, *settlement, Some(&by), effects);
                assert_eq!(settled, self.model.settle(now_ms, expected, *settlement, true));
            }
            Command::Get { no_ack } => {
                let delivery = self.queue.get(now_ms, *no_ack, &mut self.effects);
                let expected = self.model.get(now_ms, *no_ack);
                assert_eq!(delivery.is_some(), expected.is_some());
                if let (Some(delivery), Some(expected)) = (delivery, expected) {
                    assert_eq!(delivery.consumer, ConsumerKey::GET);
                    self.check_delivery(&delivery, &expected);
                    self.got.push((delivery, expected));
                }
            }
            Command::AddConsumer(settings, room) => {
                let port = Port(Rc::new(Cell::new(*room)));
                let added = self.queue.add_consumer(now_ms, port.clone(), *settings);
                assert_eq!(added.is_ok(), self.model.add_consumer(now_ms, *settings, *room));
                if let Ok(key) = added {
                    assert!(!self.keys.contains(&key), "a key is never used again");
                    self.keys.push(key);
                    self.ports.push(port);
                }
            }
            Command::RemoveConsumer(pick) => {
                let Some(consumer) = self.pick_consumer(*pick) else { return };
                let key = self.keys[consumer];
                let removed = self.queue.remove_consumer(now_ms, key, &mut self.effects);
                assert_eq!(removed, self.model.remove_consumer(now_ms, consumer));
            }
            Command::MakeRoom(pick, room, is_told) => {
                let Some(consumer) = self.pick_consumer(*pick) else { return };
                self.ports[consumer].0.set(*room);
                self.model.consumers[consumer].room = *room;
                if *is_told {
                    self.queue.resume(self.keys[consumer]);
                    self.model.resume(consumer);
                }
            }
            Command::Purge => {
                assert_eq!(self.queue.purge(&mut self.effects), self.model.purge());
            }
            Command::Tick => self.tick(),
            Command::Wait(ms) => self.now_ms += ms,
            Command::Touch => {
                self.queue.touch(now_ms);
                self.model.touch(now_ms);
            }
            Command::Relocate(pick) => self.relocate(*pick),
            Command::Cancel(pick, knows_place) => self.cancel(*pick, *knows_place),
        }
    }

    /// Any consumer there ever was, the latest first.
    fn pick_consumer(&self, pick: usize) -> Option<usize> {
        self.keys.len().checked_sub(pick + 1)
    }

    fn take(&mut self) {
        let mut taken = Outgoing::default();
        let is_taken = self.queue.take_outgoing(&mut taken);
        let expected = std::mem::take(&mut self.model.outgoing);
        assert_eq!(is_taken, !expected.is_empty());
        assert_eq!(taken.deliveries.len(), expected.len());
        for (delivery, expected) in taken.deliveries.iter().zip(&expected) {
            self.check_delivery(delivery, expected);
            let consumer = expected.consumer.expect("a consumer's");
            let endpoint = &taken.endpoints[delivery.endpoint as usize];
            assert!(Rc::ptr_eq(&endpoint.0, &self.ports[consumer].0));
        }
        self.in_flight = is_taken.then(|| taken.deliveries.into_iter().zip(expected).collect());
    }

    fn dispatch(&mut self, unreached: u64) {
        let Some(in_flight) = self.in_flight.take() else { return };
        for (place, (delivery, expected)) in in_flight.into_iter().enumerate() {
            let settlement = match unreached >> (place % 64) & 1 {
                1 => Settlement::Undelivered,
                _ if delivery.settle_after => Settlement::AutoAck,
                _ => {
                    self.got.push((delivery, expected));
                    continue;
                }
            };
            let Delivery { id, consumer, .. } = delivery;
            let settled =
                self.queue.settle(self.now_ms, id, consumer, settlement, &mut self.effects);
            assert_eq!(settled, self.model.settle(self.now_ms, &expected, settlement, false));
        }
        self.take();
    }

    fn tick(&mut self) {
        let tick = self.queue.tick(self.now_ms, &mut self.effects);
        if self.model.tick(self.now_ms) {
            assert_eq!(tick, Tick::QueueExpired);
            return;
        }
        let Tick::Again(again_at_ms) = tick else { panic!("expired too early") };
        assert!(again_at_ms.is_none_or(|at_ms| at_ms > self.now_ms), "all that was due is done");
    }

    fn relocate(&mut self, pick: usize) {
        let mut found = Vec::new();
        self.queue.positions_in(&|_| true, (0, 0), usize::MAX, &mut found);
        let Some(EntryRef { id, position: from, .. }) = found.get(pick).copied() else { return };
        let to = self.next_position();
        assert!(!self.queue.relocate(id, to, from));
        assert!(self.queue.relocate(id, from, to));
        let moved = self
            .model
            .messages
            .iter_mut()
            .find(|message| message.position == Some(Position::new(from)));
        let moved = moved.expect("the model knows it");
        assert!(!matches!(moved.stage, Stage::Removed(_)));
        moved.position = Some(Position::new(to));
    }

    fn cancel(&mut self, pick: usize, knows_place: bool) {
        let mut found = Vec::new();
        self.queue.positions_in(&|_| true, (0, 0), usize::MAX, &mut found);
        let Some(mut entry) = found.get(pick).copied() else { return };
        let of_position =
            |message: &model::Message| message.position == Some(Position::new(entry.position));
        let index = self.model.messages.iter().position(of_position);
        if !knows_place {
            entry.position += 1000;
            assert_eq!(self.queue.cancel(entry, &mut self.effects), None);
            return;
        }
        let cancelled = self.queue.cancel(entry, &mut self.effects);
        assert_eq!(cancelled, self.model.cancel(index.expect("the model knows it")));
        if cancelled == Some(true) {
            assert_eq!(self.queue.cancel(entry, &mut self.effects), None);
        }
    }

    fn check_delivery(&self, delivery: &Delivery, expected: &Delivered) {
        let message = &self.model.messages[expected.message];
        assert_eq!(delivery.message.is_some(), message.memory_bytes.is_some());
        assert_eq!(u64::from(delivery.body_bytes), message.body_bytes);
        if let Some(message) = &delivery.message {
            assert_eq!(number_of(message), expected.message);
        } else if delivery.position != message.position {
            // Compaction has moved it since it was assigned.
            assert!(delivery.position < message.position);
        }
        assert_eq!(delivery.redelivered, expected.redelivered);
        assert_eq!(delivery.attempts_before, expected.attempts_before);
        assert_eq!(delivery.id.attempt(), expected.attempts_before + 1);
        assert_eq!(delivery.settle_after, expected.settle_after);
        let consumer = expected.consumer.map_or(ConsumerKey::GET, |consumer| self.keys[consumer]);
        assert_eq!(delivery.consumer, consumer);
    }

    /// Checks that everything visible from outside is the same.
    fn check(&mut self) {
        let depth = self.queue.depth();
        assert_eq!(depth.ready_count, self.model.ready().len() as u64);
        assert_eq!(depth.unsettled_count, self.model.unsettled().len() as u64);
        assert_eq!(depth.delayed_count, self.model.delayed().len() as u64);
        assert_eq!(depth.ready_bytes, self.model.ready_bytes());
        assert_eq!(depth.consumer_count as usize, self.model.consumer_count());
        assert_eq!(self.queue.cached_bytes(), self.model.cached_bytes());
        let active = self.model.active.map(|consumer| self.keys[consumer]);
        assert_eq!(self.queue.active_consumer(), active);
        for (port, consumer) in self.ports.iter().zip(&self.model.consumers) {
            assert_eq!(port.0.get(), consumer.room);
        }
        self.check_effects();
        self.check_order();
        let deadline_ms = self.model.deadline_ms();
        let looks_at_ms = self.queue.next_deadline_ms();
        assert!(deadline_ms.is_none_or(|at_ms| looks_at_ms.is_some_and(|looks| looks <= at_ms)));
        assert!(deadline_ms.is_none() || self.queue.has_deadlines());
    }

    fn check_effects(&mut self) {
        let removed: Vec<_> = self.model.removed.drain(..).collect();
        assert_eq!(self.effects.removed.len(), removed.len());
        let specials = self.effects.removed.iter().filter(|r| r.is_tracked || r.dead_letter);
        assert_eq!(std::mem::take(&mut self.effects.special_count), specials.count());
        for (actual, gone) in self.effects.removed.drain(..).zip(removed) {
            let Gone { message: index, reason, is_sent_on, has_settler } = gone;
            let expected = &self.model.messages[index];
            assert_eq!(actual.position, expected.position);
            assert_eq!((actual.reason, actual.dead_letter), (reason, is_sent_on));
            assert_eq!(actual.is_tracked, expected.is_tracked);
            assert_eq!(actual.missed_deadline, expected.missed_deadline);
            assert_eq!(actual.attempts, expected.attempts);
            assert_eq!(actual.by.is_some(), has_settler && expected.is_tracked);
            match &actual.message {
                Some(message) => assert_eq!(number_of(message), index),
                None => assert_eq!(expected.memory_bytes, None),
            }
        }
        let attempts: Vec<_> =
            self.effects.attempts.drain(..).map(|a| (a.position, a.count)).collect();
        assert_eq!(attempts, std::mem::take(&mut self.model.attempts));
        let requeued = std::mem::take(&mut self.model.requeued);
        assert_eq!(self.effects.requeued.len(), requeued.len());
        for (noted, (index, attempts, retry_at_ms)) in self.effects.requeued.iter().zip(requeued) {
            self.check_noted(noted, index);
            assert_eq!((noted.attempts, noted.retry_at_ms), (attempts, retry_at_ms));
        }
        let missed = std::mem::take(&mut self.model.missed);
        assert_eq!(self.effects.missed.len(), missed.len());
        for (noted, (index, attempts)) in self.effects.missed.iter().zip(missed) {
            self.check_noted(noted, index);
            assert_eq!((noted.attempts, noted.retry_at_ms), (attempts, 0));
            assert!(self.told.insert(index), "a deadline is told once");
        }
        self.effects.requeued.clear();
        self.effects.missed.clear();
        assert!(self.effects.is_empty());
    }

    fn check_noted(&self, noted: &Noted, index: usize) {
        let expected = &self.model.messages[index];
        assert!(expected.is_tracked);
        assert_eq!(noted.position, expected.position);
        assert_eq!(noted.message.as_ref().map(number_of), expected.memory_bytes.map(|_| index));
    }

    /// Checks the order of all logged messages, whatever their stage, and what is reported of them.
    fn check_order(&self) {
        let mut found = Vec::new();
        let mut at = Some((0, 0));
        while let Some(from) = at {
            at = self.queue.positions_in(&|_| true, from, 100, &mut found);
        }
        let mut expected: Vec<_> = self.model.live();
        expected.retain(|&index| self.model.messages[index].position.is_some());
        expected.sort_by_key(|&index| (self.model.messages[index].level, index));
        assert_eq!(found.len(), expected.len());
        for (entry, index) in found.iter().zip(expected) {
            let message = &self.model.messages[index];
            assert_eq!(Some(Position::new(entry.position)), message.position);
            assert_eq!(entry.id.attempt(), message.attempts);
            assert_eq!(entry.missed_deadline, message.missed_deadline);
        }
    }

    /// Takes what is left in order, or all at once.
    fn finish(mut self, clear: bool) {
        if clear {
            assert_eq!(self.queue.clear(&mut self.effects), self.model.clear());
            self.check();
        }
        self.run(&Command::Take);
        while self.in_flight.is_some() {
            self.run(&Command::Dispatch(0));
        }
        self.check();
        while self.queue.depth().ready_count > 0 {
            self.run(&Command::Get { no_ack: true });
            self.check();
        }
        for pick in 0..self.got.len() {
            self.run(&Command::Settle(pick, Settlement::Ack));
        }
        for consumer in 0..self.keys.len() {
            self.run(&Command::RemoveConsumer(consumer));
        }
        self.run(&Command::Purge);
        self.check();
        assert_eq!(self.queue.depth(), Default::default(), "nothing is left");
        assert_eq!(self.queue.cached_bytes(), 0);
        let is_gone = |message: &model::Message| matches!(message.stage, Stage::Removed(_));
        assert!(self.model.messages.iter().all(is_gone));
    }
}

fn number_of(message: &Message) -> usize {
    let bytes = message.body()[..4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes) as usize
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_queue_does_what_its_model_does(
        settings in commands::settings(),
        restored in prop::collection::vec(commands::restored(), 0..4),
        commands in prop::collection::vec(commands::command(), 1..120),
        clear in prop::bool::weighted(0.2),
    ) {
        let mut pair = Pair::new(settings);
        for (publication, attempts, missed_deadline) in &restored {
            pair.restore(publication, *attempts, *missed_deadline);
        }
        pair.check();
        for command in &commands {
            pair.run(command);
            pair.check();
        }
        pair.finish(clear);
    }
}
