//! Consumers, each on a channel of its own: what closes one closes no other.
//!
//! A consumer is known by a number that no other ever has; its channel's number is used again once the
//! broker has closed the channel. A queue that is missing when a consumer comes back on a new socket (the
//! broker lost it, or it expired meanwhile) is told as such: the consumer waits until it is
//! [resumed](Link::resume).

use std::collections::BTreeMap;

use amqp::{OwnedProperties, Properties, write_body, write_content_header};
use bytes::Bytes;

use super::{CONSUMING, Event, Link, Refusal, Token};

/// The exchange that takes reports of workers.
const REPORTS: &str = "amq.wilco.report";
/// The exchange that takes questions.
const QUERIES: &str = "amq.wilco.query";
/// The pseudo queue of direct reply-to.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Every consumer is alone on its channel.
const CONSUMER_TAG: &str = "wilco";
/// `NOT_FOUND`
const NOT_FOUND: u16 = 404;
/// `PRECONDITION_FAILED`
const PRECONDITION_FAILED: u16 = 406;

/// A consumer of this link, on every socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerId(u64);

impl ConsumerId {
    /// It, as a number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The one with that number.
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// What to consume.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub queue: String,
    /// Deliveries that may be unsettled at a time.
    pub prefetch: u16,
    /// Messages count as settled when they are sent.
    pub no_ack: bool,
}

impl Consumer {
    /// Of a queue.
    pub(crate) fn of(queue: &str, prefetch: u16) -> Self {
        Self { queue: queue.to_owned(), prefetch, no_ack: false }
    }

    /// Of the answers to questions that are asked on its channel.
    pub(crate) fn of_answers() -> Self {
        Self { queue: REPLY_TO.to_owned(), prefetch: 0, no_ack: true }
    }
}

/// Names a delivery on the socket that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeliveryTag {
    pub(super) epoch: u64,
    pub(super) channel: u16,
    pub(super) consumer: ConsumerId,
    /// How often the consumer had been started on that socket.
    pub(super) start: u32,
    pub(super) tag: u64,
}

impl DeliveryTag {
    /// Whose it is.
    pub(crate) fn consumer(self) -> ConsumerId {
        self.consumer
    }
}

/// A message for a consumer.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub tag: DeliveryTag,
    /// It may have been delivered before.
    pub is_redelivered: bool,
    /// Encoded.
    pub properties: Bytes,
    pub body: Bytes,
}

/// What is to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It is done.
    Ack,
    /// It has failed for good.
    Reject,
    /// Somebody is to try again.
    Requeue,
}

impl Refusal {
    /// Whether a delivery has been unsettled for longer than the broker lets it be.
    fn is_delivery_timeout(&self) -> bool {
        self.code == PRECONDITION_FAILED && self.text.contains("timed out")
    }
}

struct Slot {
    id: ConsumerId,
    consumer: Consumer,
    state: State,
    /// How often it was started.
    starts: u32,
    /// It has consumed before, on whatever socket.
    has_consumed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Asked for on this socket.
    Starting,
    Consuming,
    /// Gets nothing more, and still settles what it has.
    Cancelled,
    /// Its queue is not there; its channel is closed.
    Missing,
}

#[derive(Default)]
pub(super) struct Consumers {
    by_channel: BTreeMap<u16, Slot>,
    /// Channels that we have closed; their numbers are free when the broker has said so.
    closing: BTreeMap<u16, ConsumerId>,
    next_id: u64,
}

impl Consumers {
    /// What they had is back in its queue. Returns those that are gone with the socket.
    pub(super) fn disconnected(&mut self) -> Vec<ConsumerId> {
        let cancelled = self.by_channel.extract_if(.., |_, slot| slot.state == State::Cancelled);
        let mut gone: Vec<_> = cancelled.map(|(_, slot)| slot.id).collect();
        gone.extend(std::mem::take(&mut self.closing).into_values());
        gone
    }

    fn free_channel(&self, channel_max: u16) -> Option<u16> {
        (CONSUMING..=channel_max).find(|channel| {
            !self.by_channel.contains_key(channel) && !self.closing.contains_key(channel)
        })
    }

    fn channel_of(&self, id: ConsumerId) -> Option<u16> {
        self.by_channel.iter().find(|(_, slot)| slot.id == id).map(|(channel, _)| *channel)
    }

    /// Who consumes on a channel, and how often it was started.
    pub(super) fn on(&self, channel: u16) -> Option<(ConsumerId, u32)> {
        self.by_channel.get(&channel).map(|slot| (slot.id, slot.starts))
    }
}

impl<P: Token, C: Token> Link<P, C> {
    /// Adds a consumer. `None`: the link has as many as the broker lets it have.
    pub(crate) fn consume(&mut self, consumer: Consumer) -> Option<ConsumerId> {
        let channel = self.consumers.free_channel(self.channel_max)?;
        let id = ConsumerId(self.consumers.next_id);
        self.consumers.next_id += 1;
        let slot = Slot { id, consumer, state: State::Starting, starts: 0, has_consumed: false };
        self.consumers.by_channel.insert(channel, slot);
        if self.is_open() {
            self.start_consumer(channel);
        }
        Some(id)
    }

    /// Consumes again from a queue that was missing and is there now.
    pub(crate) fn resume(&mut self, id: ConsumerId) {
        let Some(channel) = self.consumers.channel_of(id) else { return };
        let Some(slot) = self.consumers.by_channel.get_mut(&channel) else { return };
        if slot.state == State::Missing {
            slot.state = State::Starting;
            if self.is_open() {
                self.start_consumer(channel);
            }
        }
    }

    /// Takes nothing more; what is under way is still delivered and can be settled. The event
    /// `Cancelled` says when no more comes.
    pub(crate) fn cancel(&mut self, id: ConsumerId) {
        let Some(channel) = self.consumers.channel_of(id) else { return };
        let is_open = self.is_open();
        let Some(slot) = self.consumers.by_channel.get_mut(&channel) else { return };
        match slot.state {
            State::Starting | State::Consuming if is_open => {
                slot.state = State::Cancelled;
                self.send(
                    channel,
                    amqp::BasicCancel { consumer_tag: CONSUMER_TAG, no_wait: false },
                );
            }
            State::Cancelled => {}
            State::Starting | State::Consuming | State::Missing => {
                self.consumers.by_channel.remove(&channel);
                self.events.push(Event::Cancelled { consumer: id, why: None });
            }
        }
    }

    /// Closes the channel of a consumer: what it has not settled goes back to its queue. The event
    /// `Released` says when the broker has heard of it, and of all that was settled before.
    pub(crate) fn release(&mut self, id: ConsumerId) {
        let slot = self.consumers.channel_of(id);
        let slot =
            slot.and_then(|channel| Some((channel, self.consumers.by_channel.remove(&channel)?)));
        match slot {
            Some((channel, slot)) if self.is_open() && slot.state != State::Missing => {
                self.close_channel(channel, id);
            }
            Some(_) => self.events.push(Event::Released(id)),
            None if self.consumers.closing.values().any(|closing| *closing == id) => {}
            None => self.events.push(Event::Released(id)),
        }
    }

    fn close_channel(&mut self, channel: u16, id: ConsumerId) {
        self.consumers.closing.insert(channel, id);
        let close =
            amqp::ChannelClose { reply_code: 200, reply_text: "done", ..Default::default() };
        self.send(channel, close);
    }

    pub(super) fn channel_is_free(&mut self, channel: u16) {
        if let Some(id) = self.consumers.closing.remove(&channel) {
            self.events.push(Event::Released(id));
        }
    }

    /// Settles a delivery. `false`: its socket or its channel is gone, and its message back in its
    /// queue.
    pub(crate) fn settle(&mut self, tag: DeliveryTag, settlement: Settlement) -> bool {
        let DeliveryTag { channel, tag: delivery_tag, .. } = tag;
        if !self.holds(tag) {
            return false;
        }
        match settlement {
            Settlement::Ack => {
                self.send(channel, amqp::BasicAck { delivery_tag, multiple: false });
            }
            Settlement::Reject => {
                self.send(channel, amqp::BasicReject { delivery_tag, requeue: false });
            }
            Settlement::Requeue => {
                self.send(channel, amqp::BasicReject { delivery_tag, requeue: true });
            }
        }
        true
    }

    /// Tells a wilco server the result or the error text of a delivery, before it is settled.
    pub(crate) fn report(
        &mut self,
        tag: DeliveryTag,
        message_id: &str,
        properties: &OwnedProperties,
        body: &[u8],
    ) {
        if self.holds(tag) {
            let mut encoded = Vec::new();
            properties.encode(&mut encoded);
            self.publish_on(tag.channel, (REPORTS, message_id), &encoded, body);
        }
    }

    /// Asks a wilco server something, on the channel of a consumer of answers. Returns the number of the
    /// socket; `None`: there is none now.
    pub(crate) fn ask(
        &mut self,
        id: ConsumerId,
        subject: &str,
        correlation_id: &str,
        body: &[u8],
    ) -> Option<u64> {
        let channel = self.consumers.channel_of(id).filter(|_| self.is_open())?;
        let properties = Properties {
            content_type: Some("application/json".into()),
            correlation_id: Some(correlation_id.into()),
            reply_to: Some(REPLY_TO.into()),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        self.publish_on(channel, (QUERIES, subject), &encoded, body);
        Some(self.epoch)
    }

    fn publish_on(&mut self, channel: u16, to: (&str, &str), properties: &[u8], body: &[u8]) {
        let (exchange, routing_key) = (to.0.into(), to.1.into());
        self.send(channel, amqp::BasicPublish { exchange, routing_key, ..Default::default() });
        write_content_header(&mut self.output, channel, body.len() as u64, properties);
        write_body(&mut self.output, channel, body, self.frame_max);
    }

    /// Whether the delivery can still be settled.
    pub(crate) fn holds(&self, tag: DeliveryTag) -> bool {
        self.is_open()
            && tag.epoch == self.epoch
            && self.consumers.on(tag.channel) == Some((tag.consumer, tag.start))
    }

    pub(super) fn start_consumers(&mut self) {
        let channels: Vec<u16> = self.consumers.by_channel.keys().copied().collect();
        for channel in channels {
            self.start_consumer(channel);
        }
    }

    fn start_consumer(&mut self, channel: u16) {
        let Some(slot) = self.consumers.by_channel.get_mut(&channel) else { return };
        slot.state = State::Starting;
        slot.starts += 1;
        let consumer = slot.consumer.clone();
        self.send(channel, amqp::ChannelOpen {});
        let prefetch_count = consumer.prefetch;
        self.send(channel, amqp::BasicQos { prefetch_size: 0, prefetch_count, global: false });
        let Consumer { queue, no_ack, .. } = &consumer;
        let (consumer_tag, no_ack) = (CONSUMER_TAG, *no_ack);
        let consume = amqp::BasicConsume { queue, consumer_tag, no_ack, ..Default::default() };
        self.send(channel, consume);
    }

    pub(super) fn consumer_started(&mut self, channel: u16) {
        if let Some(slot) = self.consumers.by_channel.get_mut(&channel)
            && slot.state == State::Starting
        {
            slot.state = State::Consuming;
            slot.has_consumed = true;
        }
    }

    pub(super) fn delivered(&mut self, delivery: Delivery) {
        // A consumer that was released while this was under way has given it back.
        if self.holds(delivery.tag) {
            self.events.push(Event::Delivered(delivery));
        }
    }

    /// The broker has ended a consumer.
    pub(super) fn consumer_lost(&mut self, channel: u16, why: Refusal, is_channel_closed: bool) {
        if is_channel_closed {
            // Closes may cross.
            self.channel_is_free(channel);
        }
        let Some(slot) = self.consumers.by_channel.get_mut(&channel) else { return };
        let id = slot.id;
        if slot.state == State::Starting && slot.has_consumed && why.code == NOT_FOUND {
            slot.state = State::Missing;
            return self.events.push(Event::Missing(id));
        }
        if slot.state == State::Consuming && is_channel_closed && why.is_delivery_timeout() {
            // What it had goes back to its queue, and comes again: a worker that takes long is none the worse.
            return self.start_consumer(channel);
        }
        self.consumers.by_channel.remove(&channel);
        if !is_channel_closed {
            self.close_channel(channel, id);
        }
        self.events.push(Event::Cancelled { consumer: id, why: Some(why) });
    }

    /// It gets nothing more, as was asked for. Its channel stays for what it has not settled.
    pub(super) fn consumer_cancelled(&mut self, channel: u16) {
        if let Some((consumer, _)) = self.consumers.on(channel) {
            self.events.push(Event::Cancelled { consumer, why: None });
        }
    }
}
