//! What the sinks receive, checked against the model.

use amqp::OwnedProperties;

use crate::client::Held;
use crate::message::{self, number_of};
use crate::model::{Cause, Key, State};
use crate::told::Told;
use crate::topology::{Name, REPLIES};
use crate::wire::{Delivered, Event, Recorder};
use crate::world::World;

impl World {
    /// Takes everything out of the sinks until nothing more comes.
    pub(crate) fn absorb(&mut self) {
        loop {
            let mut is_quiet = true;
            for index in 0..self.clients.len() {
                let client = &mut self.clients[index];
                let taken = client.session.outbox().with_sink(|sink: &mut Recorder, pushed| {
                    (std::mem::take(&mut sink.events), std::mem::take(pushed))
                });
                let (events, pushed_bytes) = taken.expect("the sink is a recorder");
                client.session.after_write(pushed_bytes);
                for (channel, event) in events {
                    is_quiet = false;
                    self.on_event(index, channel, event);
                }
            }
            if is_quiet {
                break;
            }
        }
        for client in &self.clients {
            assert!(client.returns.is_empty(), "not returned: {:?}", client.returns);
            assert!(client.cancels.is_empty(), "not cancelled: {:?}", client.cancels);
        }
    }

    fn on_event(&mut self, index: usize, number: u16, event: Event) {
        match event {
            Event::Delivered(delivered) => self.on_delivery(index, number, &delivered),
            Event::Returned { properties, body } => {
                self.on_return(index, number, &properties, &body)
            }
            Event::Confirmed { tag, multiple, is_ack } => {
                self.on_confirm(index, number, tag, multiple, is_ack);
            }
            Event::Cancelled { consumer } => {
                let cancels = &mut self.clients[index].cancels;
                let at =
                    cancels.iter().position(|expected| *expected == (number, consumer.clone()));
                let at = at.unwrap_or_else(|| panic!("{consumer} is cancelled without a reason"));
                cancels.swap_remove(at);
            }
        }
    }

    fn on_delivery(&mut self, index: usize, number: u16, delivered: &Delivered) {
        let client_id = self.clients[index].id;
        let channel = self.clients[index].channels.get_mut(&number).expect("an open channel");
        assert_eq!(delivered.tag, channel.last_tag + 1, "delivery tags are dense");
        channel.last_tag = delivered.tag;
        let (queue, no_ack) = match &delivered.consumer {
            None => self.getting.take().expect("somebody gets"),
            Some(tag) => {
                let consumer = channel.consumers.get(tag);
                let consumer = consumer.unwrap_or_else(|| panic!("no consumer {tag}"));
                if !consumer.no_ack {
                    let room = consumer.prefetch == 0 || channel.held_by(tag) < consumer.prefetch;
                    assert!(room, "more than {} for {tag}", consumer.prefetch);
                    let shared = channel.shared_prefetch;
                    let room = shared == 0 || channel.counted() < shared;
                    assert!(room, "more than {shared} on channel {number}");
                }
                (consumer.queue, consumer.no_ack)
            }
        };
        let told = (queue == REPLIES).then(|| Told::read(delivered));
        let seen = match &told {
            Some(told) => told.seen(),
            None => message::read(delivered, &self.model.messages),
        };
        self.note(|| {
            let to = delivered.consumer.as_deref().unwrap_or("get");
            let (tag, message, history) = (delivered.tag, seen.number, seen.history());
            let again = if delivered.redelivered { "again" } else { "" };
            format!("    c{client_id}.{number} {to} #{tag} <- {queue} m{message} {history} {again}")
        });
        let key = match &told {
            Some(told) => self.model.observe_told(told),
            None => self.model.observe(queue, &seen),
        };
        let item = &self.model.items[&key];
        let before = item.was_delivered || item.was_restored;
        assert!(!item.was_delivered || delivered.redelivered, "{key:?} is not marked redelivered");
        assert!(before || !delivered.redelivered, "{key:?} is marked redelivered and is not");
        self.check_order(index, number, &key, delivered.consumer.as_deref());
        if let Some(tag) = &delivered.consumer {
            self.check_active(queue, (client_id, number, tag.clone()));
        }
        let item = self.model.items.get_mut(&key).expect("just seen");
        item.was_delivered = true;
        item.delivery_count += 1;
        if no_ack {
            self.model.remove(&key, Cause::Taken);
            return;
        }
        item.state = State::Held;
        let channel = self.clients[index].channels.get_mut(&number).expect("an open channel");
        let held = Held {
            key,
            consumer: delivered.consumer.clone(),
            is_counted: delivered.consumer.is_some(),
            delivered_at_ms: self.model.now_ms,
            is_void: false,
            report: None,
            in_transaction: false,
        };
        channel.held.insert(delivered.tag, held);
    }

    /// Messages from one publishing channel come in order: when first delivered to a consumer, and
    /// always to a client that gets them one by one.
    fn check_order(&mut self, index: usize, number: u16, key: &Key, consumer: Option<&str>) {
        if !key.2.is_empty() {
            return;
        }
        let message = &self.model.messages[key.0 as usize];
        let kind = self.model.kind(key.1);
        let (level, sequence) = (message.level(kind.priority_max), message.sequence);
        let line = (message.channel, level);
        if let Some(tag) = consumer {
            if self.model.items[key].was_delivered {
                return;
            }
            let channel = self.clients[index].channels.get_mut(&number).expect("open");
            let consumer = channel.consumers.get_mut(tag).expect("checked");
            let last = consumer.last_sequences.insert(line, sequence);
            assert!(last < Some(sequence), "{key:?} comes after a later message");
            return;
        }
        for (other, item) in self.model.items_in(key.1) {
            if other == key || !self.model.is_certain(other, item) {
                continue;
            }
            let ahead = &self.model.messages[other.0 as usize];
            let level_ahead = ahead.level(kind.priority_max);
            assert!(level_ahead <= level, "{key:?} comes before {other:?} of higher priority");
            let same_line = other.2.is_empty() && (ahead.channel, level_ahead) == line;
            assert!(!same_line || ahead.sequence > sequence, "{key:?} comes before {other:?}");
        }
    }

    /// A queue with a single active consumer delivers to the consumer that came first.
    fn check_active(&self, queue: Name, consumer: (u64, u16, String)) {
        if let Some(state) = self.model.topology.queues.get(queue)
            && state.kind.single_active
        {
            assert_eq!(state.consumers.first(), Some(&consumer), "the active consumer of {queue}");
        }
    }

    pub(crate) fn on_nothing_to_get(&mut self) {
        let (queue, _) = self.getting.take().expect("somebody gets");
        for (key, item) in self.model.items_in(queue) {
            assert!(!self.model.is_certain(key, item), "{key:?} is not there any more: {item:?}");
        }
    }

    /// A confirm that waited for the message to be acked gives the right answer.
    fn on_held_confirm(&mut self, message: u32, until_ms: u64, is_ack: bool) {
        self.note(|| format!("    m{message} {} at last", if is_ack { "acked" } else { "nacked" }));
        let keys = self.model.covered(message);
        let is_late = self.model.now_ms >= until_ms;
        let mut has_failed = self.model.messages[message as usize].queue_count == 0 || is_late;
        for key in &keys {
            let may_have_died = self.model.may_have_died(key, &self.model.items[key]);
            let Some(item) = self.model.items.get_mut(key) else { continue };
            if item.may_be_duplicate {
                has_failed = true;
                continue;
            }
            match &mut item.state {
                State::Gone { cause: Cause::Taken | Cause::Lost, is_stored } => {
                    *is_stored |= is_ack || !is_late;
                }
                state if is_ack => panic!("m{message} is acked and {key:?} is {state:?}"),
                State::Gone { is_stored, .. } => {
                    has_failed = true;
                    *is_stored |= !is_late;
                }
                State::Ready if may_have_died || item.may_be_refused => {
                    has_failed = true;
                    if !is_late {
                        item.state = State::Gone { cause: Cause::Died, is_stored: true };
                    }
                }
                state => assert!(is_late, "m{message} is nacked and {key:?} is {state:?}"),
            }
        }
        assert!(is_ack || has_failed || keys.is_empty(), "m{message} is nacked for no reason");
    }

    fn on_return(&mut self, index: usize, number: u16, properties: &[u8], body: &[u8]) {
        let properties = OwnedProperties::decode(properties).expect("well-formed");
        let message = number_of(&properties);
        let expected = self.clients[index].returns.pop_front();
        assert_eq!(expected, Some((number, message)), "what comes back");
        assert_eq!(body, self.model.messages[message as usize].body(), "the body of m{message}");
    }

    fn on_confirm(&mut self, index: usize, number: u16, tag: u64, multiple: bool, is_ack: bool) {
        assert!(!self.is_poisoned, "a confirm after the store failed");
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("an open channel");
        let confirms = channel.confirms.as_mut().expect("a channel with confirms");
        let mut confirmed = Vec::new();
        let unconfirmed = confirms.waiting.remove(&tag);
        let last = unconfirmed.unwrap_or_else(|| panic!("#{tag} is confirmed for no reason"));
        if multiple {
            let later = confirms.waiting.split_off(&tag);
            confirmed.extend(std::mem::replace(&mut confirms.waiting, later).into_values());
        }
        confirmed.push(last);
        for one in confirmed {
            let Some(message) = one.message else {
                assert!(is_ack, "a report is refused");
                continue;
            };
            if let Some(until_ms) = one.held_until_ms {
                self.on_held_confirm(message, until_ms, is_ack);
                continue;
            }
            assert!(is_ack || one.may_be_refused, "m{message} is refused for no reason");
            let returns = &self.clients[index].returns;
            assert!(returns.iter().all(|(_, r)| *r != message), "m{message} comes back too late");
            let due = !one.needs_store || self.commit_count > one.commit_count;
            assert!(due || !self.checks_due, "m{message} is confirmed before it is stored");
            self.model.confirm(message, is_ack);
            self.note(|| format!("    m{message} {}", if is_ack { "acked" } else { "nacked" }));
        }
    }
}
