//! Messages in and settlements back: batches, transactions, and the effects of time.

use std::collections::BTreeSet;

use node::{Publish, Settlement};
use outcome::Notify;

use crate::client::{Channel, Gathered, Promise, Unconfirmed};
use crate::message::{Asks, Published};
use crate::model::{Cause, Group, Key};
use crate::told::Report;
use crate::topology::{EXCHANGES, NOWHERE, Name, Overflow, QUEUES, REPLIES};
use crate::world::World;

/// The deadline of a confirm that waits for an ack when none is given, ms.
const DEADLINE_MS: u64 = 30_000;

impl World {
    /// A batch of publishes and settlements of one connection, flushed together.
    pub(crate) fn publish_and_settle(&mut self) {
        let (index, number) = self.channel();
        if self.clients[index].session.is_held() {
            return;
        }
        let mut published = Vec::new();
        for _ in 0..=self.random.below(4) {
            published.extend(self.publish(index, number));
        }
        // Publishes take effect before settlements.
        for (message, queues) in published {
            self.model.enqueue(message, &queues);
        }
        if self.random.chance(30) {
            // Not everything: a message just published may be delivered first.
            self.settle(index, false);
        }
        self.flush(index);
    }

    pub(crate) fn settle_only(&mut self) {
        let (index, _) = self.channel();
        for _ in 0..=self.random.below(3) {
            self.settle(index, true);
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let errors = self.clients[index].session.flush();
        assert!(errors.is_empty(), "{errors:?}");
        if self.random.chance(50) {
            self.clients[index].session.release_confirms();
        }
        self.absorb();
    }

    /// Gives one message to the session; returns its number and queues, unless a transaction keeps
    /// it.
    fn publish(&mut self, index: usize, number: u16) -> Option<(u32, BTreeSet<Name>)> {
        let (exchange, routing_key) = match self.random.below(20) {
            0 => ("", NOWHERE),
            1..=5 => {
                let (exchange, ..) = self.random.pick(&EXCHANGES);
                (exchange, self.random.pick(&["k0", "k1", "k2"]))
            }
            _ => ("", self.random.pick(&QUEUES)),
        };
        let body_bytes = match self.random.below(20) {
            0 => 3000,
            1..=3 => 300,
            _ => self.random.below(40) as usize,
        };
        let channel = &self.clients[index].channels[&number];
        let persistent = self.random.chance(75);
        let topology = &self.model.topology;
        let queues = topology.route(exchange, routing_key);
        let has_confirms = channel.confirms.is_some();
        let (channel_id, sequence) = (channel.id, channel.published_count);
        let message_number = self.model.messages.len() as u32;
        let id = match self.random.below(20) {
            0..=7 => None,
            8..=10 => {
                let known: Vec<&String> = self.model.ids.keys().rev().take(8).collect();
                self.random.pick_some(&known).cloned()
            }
            _ => Some(format!("id{message_number}")),
        };
        let asks = self.asks(id.is_some(), has_confirms);
        let topology = &self.model.topology;
        let kinds = || queues.iter().map(|name| topology.queues[name].kind);
        // Queues delay and mark only messages that are addressed to them by name; any publisher that
        // gives an address is notified.
        let asking = || kinds().filter(|_| exchange.is_empty());
        let notifies = || asks.reply_to && kinds().any(|kind| kind.notify.is_some());
        let is_tracked =
            id.is_some() || asks.is_any() || asking().any(|kind| kind.asks()) || notifies();
        let now_ms = self.model.now_ms;
        let deadline_ms =
            asks.deadline_ms.or_else(|| asking().filter_map(|kind| kind.deadline_ms).min());
        let message = Published {
            number: message_number,
            asks,
            is_tracked,
            routed: queues.iter().copied().collect(),
            queue_count: queues.len(),
            deadline_at_ms: deadline_ms.map_or(0, |ms| now_ms + ms),
            persistent,
            is_kept: persistent || is_tracked || kinds().any(|kind| kind.is_quorum),
            id,
            priority: self.random.chance(30).then(|| self.random.below(5) as u8),
            expiration_ms: self.random.chance(8).then(|| self.random.below(60)),
            body_bytes,
            has_headers: self.random.chance(30),
            exchange,
            routing_key,
            channel: channel_id,
            sequence,
            published_at_ms: self.model.now_ms,
        };
        let mandatory = self.random.chance(20);
        let (properties, body) = (message.encoded_properties(), message.body());
        let publish = Publish {
            exchange,
            routing_key: routing_key.into(),
            mandatory,
            properties: &properties,
            body: &body,
        };
        let result = self.clients[index].session.publish(number, &publish);
        let topology = &self.model.topology;
        let can = exchange.is_empty() || topology.exchanges.contains_key(exchange);
        assert_eq!(result.is_ok(), can, "{result:?}");
        if !can {
            return None;
        }
        self.note(|| {
            format!("c{index}.{number} publishes {message:?}, {mandatory}, to {queues:?}")
        });
        self.keep_in_mind(index, number, message, mandatory, queues)
    }

    fn asks(&mut self, has_id: bool, has_confirms: bool) -> Asks {
        if !self.random.chance(if has_id { 60 } else { 8 }) {
            return Asks { reply_to: self.random.chance(20), ..Asks::default() };
        }
        let notifies = [Notify::All, Notify::All, Notify::Processed, Notify::Failed];
        let notify = self.random.chance(75).then(|| self.random.pick(&notifies));
        Asks {
            notify,
            confirm_on_ack: self.random.chance(if has_confirms { 40 } else { 5 }),
            deadline_ms: self.random.chance(15).then(|| 1 + self.random.below(80)),
            reply_to: notify.is_some() || self.random.chance(40),
        }
    }

    fn keep_in_mind(
        &mut self,
        index: usize,
        number: u16,
        message: Published,
        mandatory: bool,
        queues: BTreeSet<Name>,
    ) -> Option<(u32, BTreeSet<Name>)> {
        let id = message.number;
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        channel.published_count += 1;
        if mandatory && queues.is_empty() {
            match &mut channel.transaction {
                Some(gathered) => gathered.returns.push(id),
                None => client.returns.push_back((number, id)),
            }
        }
        if let Some(confirms) = &mut channel.confirms {
            confirms.last += 1;
            let states = || queues.iter().filter_map(|name| self.model.topology.queues.get(name));
            let is_known = |name: &Name| {
                let key = message.id.clone().map(|id| (id, *name));
                key.is_some_and(|key| self.model.window.contains_key(&key))
            };
            let deadline_ms = message.published_at_ms + DEADLINE_MS;
            let unconfirmed = Unconfirmed {
                message: Some(id),
                held_until_ms: message.asks.confirm_on_ack.then_some(
                    match message.deadline_at_ms {
                        0 => deadline_ms,
                        at_ms => at_ms,
                    },
                ),
                needs_store: message.is_kept
                    && states().any(|queue| queue.is_durable())
                    && !queues.iter().any(is_known),
                may_be_refused: states().any(|queue| queue.kind.overflow != Overflow::DropHead),
                commit_count: self.commit_count,
            };
            confirms.waiting.insert(confirms.last, unconfirmed);
        }
        if let Some(of) = &message.id {
            self.model.ids.entry(of.clone()).or_default().push(id);
        }
        self.model.messages.push(message);
        match &mut channel.transaction {
            Some(gathered) => {
                gathered.published.push((id, queues));
                None
            }
            None => Some((id, queues)),
        }
    }

    /// One settlement on a channel that holds something, given to the session and the model.
    fn settle(&mut self, index: usize, may_be_all: bool) {
        let channels = self.clients[index].channels.iter();
        let open = channels.filter(|(_, channel)| !channel.tags(0, true).is_empty());
        let numbers: Vec<u16> = open.map(|(number, _)| *number).collect();
        let Some(number) = self.random.pick_some(&numbers) else { return };
        let settlement = match self.random.below(10) {
            0..=5 => Settlement::Ack,
            6..=7 => Settlement::Requeue,
            _ => Settlement::Reject,
        };
        let multiple = self.random.chance(25);
        let channel = self.clients[index].channels.get_mut(&number).expect("open");
        let tag = self.random.pick(&channel.tags(0, true));
        let is_all = multiple && may_be_all && self.random.chance(20);
        let tag = if is_all { 0 } else { tag };
        let tags = channel.tags(tag, multiple);
        if self.random.chance(30) {
            self.report(index, number, tags[0]);
        }
        self.clients[index].session.settle(number, tag, multiple, settlement).expect("open");
        self.note(|| format!("c{index}.{number} {settlement:?} {tags:?}"));
        let channel = self.clients[index].channels.get_mut(&number).expect("open");
        for tag in tags {
            if let Some(gathered) = &mut channel.transaction {
                gathered.settled.push((tag, settlement));
                let held = channel.held.get_mut(&tag).expect("one of them");
                held.in_transaction = true;
            } else if let Some(held) = channel.held.remove(&tag).filter(|held| !held.is_void) {
                settle_in_model(&mut self.model, &held.key, settlement);
                let is_outcome = matches!(settlement, Settlement::Ack | Settlement::Reject);
                if let Some(report) = held.report.filter(|_| is_outcome) {
                    self.model.reports.insert((held.key.0, held.key.1), report);
                }
            }
        }
    }

    /// A worker reports on a message that it is about to settle.
    fn report(&mut self, index: usize, number: u16, tag: u64) {
        let messages = &self.model.messages;
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        let id_of = |key: &Key| messages[key.0 as usize].id.clone().filter(|_| key.1 != REPLIES);
        let held = &channel.held[&tag];
        let Some(id) = id_of(&held.key).filter(|_| !held.is_void && held.key.2.is_empty()) else {
            return;
        };
        let same = channel.held.values().filter(|held| id_of(&held.key).as_ref() == Some(&id));
        if same.count() > 1 || channel.transaction.is_some() {
            return;
        }
        let (is_error, number_of_report) = (self.random.chance(40), self.next_id);
        self.next_id += 1;
        let text = format!("report {number_of_report}");
        let mut headers = amqp::FieldTable::new();
        if is_error {
            headers.insert("x-outcome", "failed");
        }
        let properties = amqp::OwnedProperties { headers: Some(headers), ..Default::default() };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let publish = Publish {
            exchange: "amq.wilco.report",
            routing_key: id.as_str().into(),
            mandatory: true,
            properties: &encoded,
            body: text.as_bytes(),
        };
        client.session.publish(number, &publish).expect("it is held here");
        if let Some(confirms) = &mut channel.confirms {
            confirms.last += 1;
            let unconfirmed = Unconfirmed {
                message: None,
                needs_store: false,
                may_be_refused: false,
                held_until_ms: None,
                commit_count: self.commit_count,
            };
            confirms.waiting.insert(confirms.last, unconfirmed);
        }
        channel.held.get_mut(&tag).expect("just seen").report = Some(Report { is_error, text });
        self.note(|| format!("c{index}.{number} reports on {id}, is_error {is_error}"));
    }

    pub(crate) fn finish_transaction(&mut self) {
        let mut open = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            let has_gathered = |channel: &Channel| {
                let gathered = channel.transaction.as_ref();
                gathered.is_some_and(|g| !g.published.is_empty() || !g.settled.is_empty())
            };
            let of_client = client.channels.iter().filter(|(_, channel)| has_gathered(channel));
            open.extend(of_client.map(|(number, _)| (index, *number)));
        }
        let Some((index, number)) = self.random.pick_some(&open) else { return };
        let channel = self.clients[index].channels.get_mut(&number).expect("open");
        let gathered = channel.transaction.as_mut().map(std::mem::take).unwrap_or_default();
        if self.random.chance(20) {
            self.note(|| format!("c{index}.{number} rolls back"));
            let Gathered { settled, .. } = gathered;
            let channel = self.clients[index].channels.get_mut(&number).expect("open");
            for (tag, _) in settled {
                channel.held.get_mut(&tag).expect("still held").in_transaction = false;
            }
            let client = &mut self.clients[index];
            client.session.rollback(number).expect("a transactional channel");
            self.absorb();
            return;
        }
        self.note(|| format!("c{index}.{number} commits {gathered:?}"));
        let mut group = Group { is_stored: false, published: Vec::new(), settled: Vec::new() };
        for (tag, settlement) in gathered.settled {
            let channel = self.clients[index].channels.get_mut(&number).expect("open");
            let held = channel.held.remove(&tag).expect("still held");
            if held.is_void {
                continue;
            }
            settle_in_model(&mut self.model, &held.key, settlement);
            match settlement {
                Settlement::Ack => group.settled.push((held.key, Cause::Taken)),
                Settlement::Reject => group.settled.push((held.key, Cause::Rejected)),
                _ => {}
            }
        }
        for (message, queues) in gathered.published {
            self.model.enqueue(message, &queues);
            let keys = queues.iter().map(|name| (message, *name, String::new()));
            group.published.extend(keys.filter(|key| self.model.items.contains_key(key)));
        }
        let client = &mut self.clients[index];
        client.returns.extend(gathered.returns.into_iter().map(|message| (number, message)));
        match client.session.commit(number) {
            Ok(_) => {
                let items = &mut self.model.items;
                for key in &group.published {
                    items.entry(key.clone()).and_modify(|item| item.may_be_refused = false);
                }
                self.model.groups.push(group);
                self.promise(index, Promise::Committed(self.model.groups.len() - 1));
            }
            Err(error) => {
                let may_be_refused = |key: &Key| self.model.items[key].may_be_refused;
                assert!(group.published.iter().any(may_be_refused), "{error}");
                self.clients[index].session.barrier();
                self.model.groups.push(group);
            }
        }
        if self.random.chance(10) {
            self.absorb();
            self.crash();
            return;
        }
        self.absorb();
    }

    /// Deliveries that nobody settled in time go back when maintenance looks.
    pub(crate) fn return_overdue(&mut self) {
        let mut overdue: Vec<Key> = Vec::new();
        for channel in self.clients.iter_mut().flat_map(|client| client.channels.values_mut()) {
            for held in channel.held.values_mut().filter(|held| !held.is_void) {
                let timeout_ms = self.model.kind(held.key.1).timeout_ms;
                if timeout_ms.is_some_and(|ms| self.model.now_ms >= held.delivered_at_ms + ms) {
                    held.is_void = true;
                    overdue.push(held.key.clone());
                }
            }
        }
        overdue.iter().for_each(|key| self.model.give_back(key));
    }

    /// Unused queues are deleted when maintenance looks.
    pub(crate) fn look_for_expired_queues(&mut self) {
        let now_ms = self.model.now_ms;
        let queues = self.model.topology.queues.iter();
        let is_expired = |queue: &crate::topology::QueueState| {
            queue.consumers.is_empty()
                && queue.kind.expires_ms.is_some_and(|ms| now_ms >= queue.last_used_ms + ms)
        };
        let expired = queues.filter(|(_, queue)| is_expired(queue)).map(|(name, _)| *name);
        for name in expired.collect::<Vec<_>>() {
            self.note(|| format!("{name} has expired"));
            self.queue_is_gone(name);
        }
    }
}

fn settle_in_model(model: &mut crate::model::Model, key: &Key, settlement: Settlement) {
    match settlement {
        Settlement::Ack => model.remove(key, Cause::Taken),
        Settlement::Reject => model.remove(key, Cause::Rejected),
        _ => model.give_back(key),
    }
}
