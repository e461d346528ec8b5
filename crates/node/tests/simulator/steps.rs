//! Random commands: each is given to the node and to the model.

use amqp::FieldTable;
use node::{Consume, DeclareQueue, Destination};

use crate::client::{Channel, Confirms, Consumer, Gathered, Promise};
use crate::model::Key;
use crate::topology::{
    EXCHANGES, EXCLUSIVE, KEYS, Kind, Name, PLAIN, QUEUES, QueueState, REPLIES, exchange_options,
};
use crate::world::World;

/// The most connections at a time.
const CLIENTS_MAX: usize = 2;
/// The most channels of a connection.
const CHANNELS_MAX: u16 = 2;

impl World {
    /// One step of a history.
    pub(crate) fn step(&mut self) {
        self.model.step += 1;
        match self.random.below(1000) {
            0..=269 => self.publish_and_settle(),
            270..=419 => self.settle_only(),
            420..=489 => self.declare_queue(),
            490..=499 => self.delete_queue(),
            500..=539 => self.bind(),
            540..=554 => self.unbind(),
            555..=564 => self.purge(),
            565..=629 => self.consume(),
            630..=649 => self.cancel(),
            650..=689 => self.get(),
            690..=699 => self.recover(),
            700..=714 => self.close_channel(),
            715..=721 => self.close_client(),
            722..=759 => self.finish_transaction(),
            760..=774 => self.set_prefetch(),
            775..=779 => self.change_exchange(),
            780..=809 => self.pass_time(),
            810..=889 => self.commit(),
            890..=929 => self.maintain(),
            930..=939 => self.audit_now(),
            _ => self.fault(),
        }
        assert!(self.getting.is_none(), "basic.get was not answered");
        self.look_at_a_queue();
        // Looking may make something expire, and then its dead letter is delivered.
        self.absorb();
    }

    /// An open channel; opens a connection and a channel if there is none.
    pub(crate) fn channel(&mut self) -> (usize, u16) {
        let index = match self.random.below(CLIENTS_MAX as u64) as usize {
            index if index < self.clients.len() => index,
            _ => self.connect(),
        };
        let number = 1 + self.random.below(CHANNELS_MAX.into()) as u16;
        if !self.clients[index].channels.contains_key(&number) {
            let mut channel = Channel { id: self.id(), ..Channel::default() };
            let mode = self.random.below(10);
            let client = &mut self.clients[index];
            client.session.open_channel(number).expect("not open yet");
            if mode < 3 {
                client.session.select_confirms(number).expect("a new channel");
                channel.confirms = Some(Confirms::default());
            } else if mode < 6 {
                client.session.select_transactions(number).expect("a new channel");
                channel.transaction = Some(Gathered::default());
            }
            client.channels.insert(number, channel);
            let id = client.id;
            self.note(|| format!("c{id}.{number} opens, mode {mode}"));
        }
        (index, number)
    }

    /// A queue that this client may use: one of the shared names, or its own.
    fn queue_for(&mut self, index: usize) -> Name {
        let own = self.clients[index].own_queue;
        let owner = self.model.topology.queues.get(own).and_then(|queue| queue.owner);
        if owner == Some(self.clients[index].id) && self.random.chance(20) {
            return own;
        }
        self.random.pick(&QUEUES)
    }

    /// The same, or the queue for outcome messages.
    fn queue_to_read(&mut self, index: usize) -> Name {
        if self.random.chance(15) { REPLIES } else { self.queue_for(index) }
    }

    pub(crate) fn declare_queue(&mut self) {
        let (index, _) = self.channel();
        let id = self.clients[index].id;
        let is_exclusive = self.random.chance(6);
        let own_queue = self.clients[index].own_queue;
        let name = if is_exclusive { own_queue } else { self.random.pick(&QUEUES) };
        let kind = match is_exclusive {
            true => Kind { durable: false, ..PLAIN },
            false => self.kinds[name],
        };
        self.note(|| format!("c{id} declares {name}"));
        let session = &mut self.clients[index].session;
        session.declare_queue(name, &kind.options(is_exclusive)).expect("the same every time");
        let (step, now_ms) = (self.model.step, self.model.now_ms);
        match self.model.topology.queues.get_mut(name) {
            // Whoever declared it has the promise.
            Some(queue) => queue.last_used_ms = now_ms,
            None => {
                let queue = QueueState {
                    kind,
                    owner: is_exclusive.then_some(id),
                    is_stored: false,
                    emptied_at_step: step,
                    last_used_ms: now_ms,
                    consumers: Vec::new(),
                };
                self.model.topology.queues.insert(name, queue);
                self.promise(index, Promise::QueueDeclared(name));
            }
        }
        self.absorb();
    }

    fn delete_queue(&mut self) {
        let (index, _) = self.channel();
        let name = self.queue_for(index);
        let id = self.clients[index].id;
        self.note(|| format!("c{id} deletes {name}"));
        let keys = self.keys_in(name);
        let session = &mut self.clients[index].session;
        session.delete_queue(name, false, false).expect("its own or everybody's");
        let was_there = self.model.topology.queues.contains_key(name);
        self.queue_is_gone(name);
        if was_there {
            self.promise(index, Promise::QueueDeleted(name));
            drop(keys);
        }
        self.absorb();
    }

    pub(crate) fn keys_in(&self, queue: Name) -> Vec<Key> {
        self.model.items_in(queue).map(|(key, _)| key.clone()).collect()
    }

    /// The model's side of a deletion, whatever the reason.
    pub(crate) fn queue_is_gone(&mut self, name: Name) {
        let present = |(_, item): &(&Key, &crate::model::Item)| {
            !matches!(item.state, crate::model::State::Gone { .. })
        };
        let keys: Vec<Key> =
            self.model.items_in(name).filter(present).map(|(key, _)| key.clone()).collect();
        self.model.free_ids(&keys);
        self.model.empty_queue(name, true);
        let Some(queue) = self.model.topology.delete_queue(name) else { return };
        for client in &mut self.clients {
            for (number, channel) in &mut client.channels {
                let of_queue = channel.held.values_mut().filter(|held| held.key.1 == name);
                of_queue.for_each(|held| held.is_void = true);
                if let Some(gathered) = &mut channel.transaction {
                    gathered.published.iter_mut().for_each(|(_, queues)| {
                        queues.remove(name);
                    });
                }
                for (of, at, tag) in &queue.consumers {
                    if *of == client.id && at == number {
                        channel.consumers.remove(tag);
                        client.cancels.push((*number, tag.clone()));
                    }
                }
            }
        }
    }

    pub(crate) fn bind(&mut self) {
        let (index, _) = self.channel();
        let (exchange, ..) = self.random.pick(&EXCHANGES);
        let (queue, key) = (self.queue_for(index), self.random.pick(&KEYS));
        let id = self.clients[index].id;
        self.note(|| format!("c{id} binds {queue} to {exchange} by {key}"));
        let topology = &mut self.model.topology;
        let can = topology.queues.contains_key(queue) && topology.exchanges.contains_key(exchange);
        let session = &mut self.clients[index].session;
        let bound = session.bind(exchange, &Destination::queue(queue), key, &FieldTable::new());
        assert_eq!(bound.is_ok(), can, "{bound:?}");
        if can {
            let binding = (exchange, queue, key);
            if topology.bindings.contains_key(&binding) {
                return;
            }
            topology.bindings.insert(binding, false);
            self.promise(index, Promise::Bound(binding));
        }
        self.absorb();
    }

    fn unbind(&mut self) {
        let (index, _) = self.channel();
        let bindings: Vec<_> = self.model.topology.bindings.keys().copied().collect();
        let Some(binding) = self.random.pick_some(&bindings) else { return };
        let (exchange, queue, key) = binding;
        if EXCLUSIVE.contains(&queue) {
            return;
        }
        let id = self.clients[index].id;
        self.note(|| format!("c{id} unbinds {queue} from {exchange} by {key}"));
        let session = &mut self.clients[index].session;
        let destination = Destination::queue(queue);
        session.unbind(exchange, &destination, key, &FieldTable::new()).expect("it is there");
        self.model.topology.unbind_all(|other| *other == binding);
        self.promise(index, Promise::Unbound(binding));
        self.absorb();
    }

    fn purge(&mut self) {
        let (index, _) = self.channel();
        let name = self.queue_for(index);
        let id = self.clients[index].id;
        self.note(|| format!("c{id} purges {name}"));
        let is_there = self.model.topology.queues.contains_key(name);
        let purged = self.clients[index].session.purge_queue(name);
        assert_eq!(purged.is_ok(), is_there, "{purged:?}");
        if is_there {
            let ready =
                |(_, item): &(&Key, &crate::model::Item)| item.state == crate::model::State::Ready;
            let items = self.model.items_in(name).filter(ready);
            let keys: Vec<Key> = items.map(|(key, _)| key.clone()).collect();
            self.model.free_ids(&keys);
            self.model.empty_queue(name, false);
            self.promise(index, Promise::Removed(keys));
        }
        self.absorb();
    }

    fn consume(&mut self) {
        let (index, number) = self.channel();
        let queue = self.queue_to_read(index);
        let no_ack = self.random.chance(25);
        let tag = format!("t{}", self.id());
        let id = self.clients[index].id;
        self.note(|| format!("c{id}.{number} consumes {queue} as {tag}, no_ack {no_ack}"));
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        let options = Consume { tag: &tag, no_ack, ..Consume::default() };
        let consumed = client.session.consume(number, queue, &options).map(drop);
        let state = self.model.topology.queues.get_mut(queue);
        assert_eq!(consumed.is_ok(), state.is_some(), "{consumed:?}");
        if let Some(state) = state {
            state.consumers.push((id, number, tag.clone()));
            state.last_used_ms = self.model.now_ms;
            let (prefetch, last_sequences) = (channel.prefetch, Default::default());
            channel.consumers.insert(tag, Consumer { queue, no_ack, prefetch, last_sequences });
        }
        self.absorb();
    }

    fn cancel(&mut self) {
        let (index, number) = self.channel();
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        let Some(tag) = channel.consumers.keys().next_back().cloned() else { return };
        let id = client.id;
        client.session.cancel(number, &tag).expect("open");
        self.note(|| format!("c{id}.{number} cancels {tag}"));
        self.consumer_is_gone(index, number, &tag);
        self.absorb();
    }

    /// The model's side of a cancel; an auto-delete queue is deleted with its last consumer.
    pub(crate) fn consumer_is_gone(&mut self, index: usize, number: u16, tag: &str) {
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        let Some(consumer) = channel.consumers.remove(tag) else { return };
        let id = client.id;
        let now_ms = self.model.now_ms;
        let Some(queue) = self.model.topology.queues.get_mut(consumer.queue) else { return };
        queue.last_used_ms = now_ms;
        queue.consumers.retain(|of| *of != (id, number, tag.to_owned()));
        if queue.kind.auto_delete && queue.consumers.is_empty() {
            self.queue_is_gone(consumer.queue);
        }
    }

    fn get(&mut self) {
        let (index, number) = self.channel();
        let queue = self.queue_to_read(index);
        self.get_from(index, number, queue);
    }

    /// `basic.get`; returns whether there was a message.
    pub(crate) fn get_from(&mut self, index: usize, number: u16, queue: Name) -> bool {
        let no_ack = self.random.chance(30);
        let id = self.clients[index].id;
        self.note(|| format!("c{id}.{number} gets from {queue}, no_ack {no_ack}"));
        let client = &mut self.clients[index];
        let last_tag = client.channels[&number].last_tag;
        let got = client.session.get(number, queue, no_ack);
        let state = self.model.topology.queues.get_mut(queue);
        assert_eq!(got.is_ok(), state.is_some(), "{got:?}");
        if let Some(state) = state {
            state.last_used_ms = self.model.now_ms;
            self.getting = Some((queue, no_ack));
        }
        if got == Ok(false) {
            self.on_nothing_to_get();
        }
        self.absorb();
        self.clients[index].channels[&number].last_tag > last_tag
    }

    fn recover(&mut self) {
        let (index, number) = self.channel();
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        if channel.transaction.is_some() {
            return;
        }
        let id = client.id;
        let held = std::mem::take(&mut channel.held);
        client.session.recover(number).expect("open");
        self.note(|| format!("c{id}.{number} recovers"));
        held.values().filter(|held| !held.is_void).for_each(|held| self.model.give_back(&held.key));
        self.absorb();
    }

    fn close_channel(&mut self) {
        let (index, number) = self.channel();
        let id = self.clients[index].id;
        self.note(|| format!("c{id}.{number} closes"));
        self.clients[index].session.close_channel(number).expect("nothing was wrong");
        self.channel_is_gone(index, number);
        self.absorb();
    }

    /// The model's side: consumers go first, then what the channel holds goes back.
    pub(crate) fn channel_is_gone(&mut self, index: usize, number: u16) {
        let channel = &self.clients[index].channels[&number];
        let tags: Vec<String> = channel.consumers.keys().cloned().collect();
        tags.iter().for_each(|tag| self.consumer_is_gone(index, number, tag));
        let Some(channel) = self.clients[index].channels.remove(&number) else { return };
        for held in channel.held.values().filter(|held| !held.is_void) {
            self.model.give_back(&held.key);
        }
    }

    fn close_client(&mut self) {
        if !self.clients.is_empty() {
            let index = self.random.below(self.clients.len() as u64) as usize;
            self.close_client_at(index);
        }
    }

    pub(crate) fn close_client_at(&mut self, index: usize) {
        let id = self.clients[index].id;
        self.note(|| format!("c{id} closes"));
        // Like the session: what one channel gives back may reach the next.
        let numbers: Vec<u16> = self.clients[index].channels.keys().copied().collect();
        for number in numbers {
            self.clients[index].session.close_channel(number).expect("nothing was wrong");
            self.channel_is_gone(index, number);
            self.absorb();
        }
        self.clients[index].session.close();
        let queues = self.model.topology.queues.iter();
        let own = queues.filter(|(_, queue)| queue.owner == Some(id)).map(|(name, _)| *name);
        for name in own.collect::<Vec<_>>() {
            self.queue_is_gone(name);
        }
        self.absorb();
        self.clients.remove(index);
    }

    fn set_prefetch(&mut self) {
        let (index, number) = self.channel();
        let (count, global) = (self.random.below(4) as u16, self.random.chance(40));
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&number).expect("open");
        match global {
            true => channel.shared_prefetch = count.into(),
            // This also ends a shared limit.
            false => (channel.prefetch, channel.shared_prefetch) = (count.into(), 0),
        }
        client.session.set_prefetch(number, count, global).expect("open");
        let id = client.id;
        self.note(|| format!("c{id}.{number} prefetch {count}, global {global}"));
        self.absorb();
    }

    fn change_exchange(&mut self) {
        let (index, _) = self.channel();
        let (name, kind, durable) = self.random.pick(&EXCHANGES);
        let is_there = self.model.topology.exchanges.contains_key(name);
        if is_there && self.random.chance(70) {
            return;
        }
        let id = self.clients[index].id;
        self.note(|| format!("c{id} changes {name}, there {is_there}"));
        let session = &mut self.clients[index].session;
        if is_there {
            session.delete_exchange(name, false).expect("it is there");
            self.model.topology.delete_exchange(name);
            self.promise(index, Promise::ExchangeDeleted(name));
        } else {
            session.declare_exchange(name, kind, &exchange_options(durable)).expect("a new name");
            self.model.topology.exchanges.insert(name, false);
            self.promise(index, Promise::ExchangeDeclared(name));
        }
        self.absorb();
    }

    fn pass_time(&mut self) {
        self.model.now_ms += 1 + self.random.below(50);
        self.clock.set(self.model.now_ms);
        let now_ms = self.model.now_ms;
        self.note(|| format!("it is {now_ms} ms"));
        if self.random.chance(60) {
            self.maintain();
        }
    }

    fn fault(&mut self) {
        if self.is_poisoned && self.random.chance(40) {
            self.crash();
            return;
        }
        if self.is_capacity_limited && self.random.chance(60) {
            self.note(|| "there is room again".to_owned());
            self.disk.set_capacity_bytes(None);
            self.is_capacity_limited = false;
            return;
        }
        match self.random.below(20) {
            0..=7 => self.crash(),
            8..=13 => {
                let sync = 1 + self.random.below(10);
                self.note(|| format!("the machine will stop at sync {sync}"));
                self.disk.set_crash_at_sync(sync);
                self.is_faulty = true;
            }
            14 => {
                self.note(|| "the next sync will fail".to_owned());
                self.disk.fail_next_sync();
                self.is_faulty = true;
            }
            15..=17 => {
                let used: usize = crate::world::image(&self.disk).iter().map(|f| f.1.len()).sum();
                let room = self.random.below(6000);
                self.note(|| format!("{room} bytes of room are left"));
                self.disk.set_capacity_bytes(Some(used as u64 + room));
                self.is_capacity_limited = true;
            }
            _ => {}
        }
    }

    /// Counts a queue's messages, and checks that no consumer waits for nothing.
    fn look_at_a_queue(&mut self) {
        let name = self.random.pick(&QUEUES);
        let Some(queue) = self.model.topology.queues.get(name) else { return };
        let kind = queue.kind;
        if kind.expires_ms.is_some() {
            return;
        }
        let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
        let monitor = self.monitor.as_mut().expect("open");
        let count = monitor.declare_queue(name, &passive).expect("it is there").message_count;
        let items = || self.model.items_in(name);
        let least = items().filter(|(key, item)| self.model.is_certain(key, item)).count();
        assert!(count as usize >= least, "{name} has {count} messages, not {least}");
        let is_ready = |item: &crate::model::Item| item.state == crate::model::State::Ready;
        let most = items().filter(|(_, item)| is_ready(item)).count();
        let leads_here = |kind: &Kind| match kind.dead_letter {
            Some(("", Some(key))) => key == name,
            Some(_) => true,
            None => false,
        };
        if !self.kinds.values().any(leads_here) {
            assert!(count as usize <= most, "{name} has {count} messages, not {most}");
        }
        let is_idle = queue.consumers.iter().any(|consumer| self.has_room(consumer));
        if is_idle && !(kind.single_active && queue.consumers.len() > 1) {
            assert_eq!(count, 0, "messages wait in {name} although a consumer has room");
        }
    }

    fn has_room(&self, (id, number, tag): &(u64, u16, String)) -> bool {
        let client = self.clients.iter().find(|client| client.id == *id).expect("connected");
        let channel = &client.channels[number];
        let consumer = &channel.consumers[tag];
        let has_own =
            consumer.no_ack || consumer.prefetch == 0 || channel.held_by(tag) < consumer.prefetch;
        has_own && (channel.shared_prefetch == 0 || channel.counted() < channel.shared_prefetch)
    }
}
