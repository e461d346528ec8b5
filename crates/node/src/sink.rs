//! What a session's owner is told as it happens, by whatever thread it happens on: deliveries,
//! confirms, returns, the end of a consumer. What a method of the session answers it returns instead.
//!
//! An owner that encodes (the AMQP server) does so right here, under the outbox's lock: so the order
//! of delivery tags is the order on the wire.

use std::any::Any;

use amqp::ReplyCode;
use broker::Message;

/// Takes a session's events. Called under the outbox's lock: take them and return.
///
/// Each event comes only to who asked for such: the default is for those who did not.
pub trait Sink: Any + Send {
    /// A message published on a channel in confirm mode is where it must be; with `multiple` all up
    /// to it. Messages are numbered from 1.
    fn confirmed(&mut self, channel: u16, number: u64, multiple: bool) {
        let _ = (channel, number, multiple);
    }

    /// One that was not taken, or not done with as was asked.
    fn refused(&mut self, channel: u16, number: u64) {
        let _ = (channel, number);
    }

    /// A mandatory message comes back: it reached no queue.
    fn returned(&mut self, channel: u16, returned: &Returned<'_>) {
        let _ = (channel, returned);
    }

    /// The node has cancelled a consumer: its queue is gone.
    fn cancelled(&mut self, channel: u16, consumer_tag: &str) {
        let _ = (channel, consumer_tag);
    }

    /// A message for a consumer.
    fn delivered(&mut self, delivered: &Delivered<'_>) {
        let _ = delivered;
    }

    /// What [`Session::get`](crate::Session::get) found. It comes this way because its tag takes its
    /// place among those of deliveries.
    fn got(&mut self, channel: u16, got: &Got<'_>) {
        let _ = (channel, got);
    }
}

/// A message for a consumer.
pub struct Delivered<'a> {
    /// Channel number.
    pub channel: u16,
    /// The consumer's tag.
    pub consumer_tag: &'a str,
    /// To settle it by.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Encoded properties: the message's own unless something had to be added.
    pub properties: &'a [u8],
    /// The message.
    pub message: &'a Message,
}

/// A message that was asked for.
pub struct Got<'a> {
    /// To settle it by.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Ready messages that are left in the queue.
    pub message_count: u32,
    /// Encoded properties: the message's own unless something had to be added.
    pub properties: &'a [u8],
    /// The message.
    pub message: &'a Message,
}

/// A message that comes back.
pub struct Returned<'a> {
    /// Why, as AMQP has it.
    pub code: ReplyCode,
    /// The same for people.
    pub text: &'a str,
    /// The exchange it was published to.
    pub exchange: &'a str,
    /// Its routing key.
    pub routing_key: &'a str,
    /// Encoded properties, as it was published.
    pub properties: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}
