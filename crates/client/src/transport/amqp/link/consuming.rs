//! Consumers, each on a channel of its own: what closes one closes no other.

use std::collections::{BTreeMap, BTreeSet};

use amqp::{OwnedProperties, write_body, write_content_header};
use bytes::Bytes;

use super::{CONSUMING, Event, Link, Refusal};

/// The exchange that takes reports of workers.
const REPORTS: &str = "amq.wilco.report";
/// Every consumer is alone on its channel.
const CONSUMER_TAG: &str = "wilco";

/// A consumer of this link, on every socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerId(u16);

impl ConsumerId {
    /// It, as a number.
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }

    /// The one with that number.
    pub(crate) fn of(number: u64) -> Self {
        Self(number as u16)
    }
}

/// What to consume.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub queue: String,
    /// Deliveries that may be unsettled at a time.
    pub prefetch: u16,
}

/// Names a delivery on the socket that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeliveryTag {
    pub(super) epoch: u64,
    pub(super) channel: u16,
    pub(super) tag: u64,
}

impl DeliveryTag {
    /// Whose it is.
    pub(crate) fn consumer(self) -> ConsumerId {
        ConsumerId(self.channel)
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

#[derive(Default)]
pub(super) struct Consumers {
    by_channel: BTreeMap<u16, Consumer>,
    /// Those that have been cancelled and still settle what they have.
    cancelled: BTreeMap<u16, Consumer>,
    /// Channels that we have closed; their numbers are free when the broker has said so.
    closing: BTreeSet<u16>,
}

impl Consumers {
    pub(super) fn disconnected(&mut self) {
        // What they had is back in its queue.
        self.cancelled.clear();
        self.closing.clear();
    }

    fn free_channel(&self) -> Option<u16> {
        (CONSUMING..=u16::MAX).find(|channel| {
            !self.by_channel.contains_key(channel)
                && !self.cancelled.contains_key(channel)
                && !self.closing.contains(channel)
        })
    }
}

impl<P, C> Link<P, C> {
    /// Adds a consumer. `None`: the link has as many as it can have.
    pub(crate) fn consume(&mut self, consumer: Consumer) -> Option<ConsumerId> {
        let channel = self.consumers.free_channel()?;
        if self.is_open() {
            self.start_consumer(channel, &consumer);
        }
        self.consumers.by_channel.insert(channel, consumer);
        Some(ConsumerId(channel))
    }

    /// Takes nothing more; what is under way is still delivered and can be settled. The event
    /// `Cancelled` says when no more comes.
    pub(crate) fn cancel(&mut self, ConsumerId(channel): ConsumerId) {
        let Some(consumer) = self.consumers.by_channel.remove(&channel) else { return };
        if self.is_open() {
            self.consumers.cancelled.insert(channel, consumer);
            self.send(channel, amqp::BasicCancel { consumer_tag: CONSUMER_TAG, no_wait: false });
        } else {
            self.events.push(Event::Cancelled { consumer: ConsumerId(channel), why: None });
        }
    }

    /// Closes the channel of a consumer: what it has not settled goes back to its queue.
    pub(crate) fn release(&mut self, ConsumerId(channel): ConsumerId) {
        let was_there = self.consumers.by_channel.remove(&channel).is_some()
            | self.consumers.cancelled.remove(&channel).is_some();
        if was_there && self.is_open() {
            self.close_channel(channel);
        }
    }

    fn close_channel(&mut self, channel: u16) {
        self.consumers.closing.insert(channel);
        let close =
            amqp::ChannelClose { reply_code: 200, reply_text: "done", ..Default::default() };
        self.send(channel, close);
    }

    pub(super) fn channel_is_free(&mut self, channel: u16) {
        self.consumers.closing.remove(&channel);
    }

    /// Settles a delivery, unless its socket is gone: then its message is back in its queue.
    pub(crate) fn settle(&mut self, tag: DeliveryTag, settlement: Settlement) {
        let DeliveryTag { channel, tag: delivery_tag, .. } = tag;
        if !self.is_held(tag) {
            return;
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
    }

    /// Tells a wilco server the result or the error text of a delivery, before it is settled.
    pub(crate) fn report(
        &mut self,
        tag: DeliveryTag,
        message_id: &str,
        properties: &OwnedProperties,
        body: &[u8],
    ) {
        if !self.is_held(tag) {
            return;
        }
        let (exchange, routing_key) = (REPORTS.into(), message_id.into());
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        self.send(tag.channel, amqp::BasicPublish { exchange, routing_key, ..Default::default() });
        write_content_header(&mut self.output, tag.channel, body.len() as u64, &encoded);
        write_body(&mut self.output, tag.channel, body, self.frame_max);
    }

    /// Whether the delivery can still be settled.
    pub(crate) fn is_held(&self, tag: DeliveryTag) -> bool {
        self.is_open()
            && tag.epoch == self.epoch
            && (self.consumers.by_channel.contains_key(&tag.channel)
                || self.consumers.cancelled.contains_key(&tag.channel))
    }

    pub(super) fn start_consumers(&mut self) {
        let consumers = std::mem::take(&mut self.consumers.by_channel);
        for (channel, consumer) in &consumers {
            self.start_consumer(*channel, consumer);
        }
        self.consumers.by_channel = consumers;
    }

    fn start_consumer(&mut self, channel: u16, consumer: &Consumer) {
        self.send(channel, amqp::ChannelOpen {});
        let prefetch_count = consumer.prefetch;
        self.send(channel, amqp::BasicQos { prefetch_size: 0, prefetch_count, global: false });
        let (queue, consumer_tag) = (consumer.queue.as_str(), CONSUMER_TAG);
        self.send(channel, amqp::BasicConsume { queue, consumer_tag, ..Default::default() });
    }

    pub(super) fn delivered(&mut self, delivery: Delivery) {
        // A consumer that was released while this was under way has given it back.
        if self.is_held(delivery.tag) {
            self.events.push(Event::Delivered(delivery));
        }
    }

    /// The broker has ended a consumer.
    pub(super) fn consumer_lost(&mut self, channel: u16, why: Refusal, is_channel_closed: bool) {
        let was_there = self.consumers.by_channel.remove(&channel).is_some()
            | self.consumers.cancelled.remove(&channel).is_some();
        if !is_channel_closed && was_there {
            self.close_channel(channel);
        }
        if was_there {
            let consumer = ConsumerId(channel);
            self.events.push(Event::Cancelled { consumer, why: Some(why) });
        }
    }

    /// It gets nothing more, as was asked for. Its channel stays for what it has not settled.
    pub(super) fn consumer_cancelled(&mut self, channel: u16) {
        self.events.push(Event::Cancelled { consumer: ConsumerId(channel), why: None });
    }
}
