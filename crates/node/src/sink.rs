//! Events for a session's owner, on whatever thread they happen: deliveries, confirms, returns, the
//! end of a consumer. Answers of the session's methods are returned instead.
//!
//! An owner that encodes (the AMQP server) does so right here, under the outbox's lock, so the
//! order of delivery tags is the order on the wire.

use std::any::Any;

use amqp::{BStr, ReplyCode};
use broker::Message;

/// Receives a session's events. Called under the outbox's lock, so take them and return.
///
/// Each kind of event comes only to owners that asked for it; the others can leave the default.
pub trait Sink: Any + Send {
    /// A message published on a channel in confirm mode is safe; with `multiple` all up to it are.
    /// Messages are numbered from 1.
    fn confirmed(&mut self, channel: u16, number: u64, multiple: bool) {
        let _ = (channel, number, multiple);
    }

    /// A message was not taken, or it was not processed as the publisher required.
    fn refused(&mut self, channel: u16, number: u64) {
        let _ = (channel, number);
    }

    /// A mandatory message reached no queue and is returned.
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

    /// What [`Session::get`](crate::Session::get) found. It comes this way because its tag must be
    /// in order among those of deliveries.
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
    /// The tag by which it is settled.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Encoded properties: the message's own, unless something had to be added.
    pub properties: &'a [u8],
    /// The message.
    pub message: &'a Message,
}

/// A message taken by `basic.get`.
pub struct Got<'a> {
    /// The tag by which it is settled.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// How many ready messages are left in the queue.
    pub message_count: u32,
    /// Encoded properties: the message's own, unless something had to be added.
    pub properties: &'a [u8],
    /// The message.
    pub message: &'a Message,
}

/// A message that is returned.
pub struct Returned<'a> {
    /// The reason, as an AMQP reply code.
    pub code: ReplyCode,
    /// The reason as text.
    pub text: &'a str,
    /// The exchange it was published to.
    pub exchange: &'a str,
    /// Its routing key.
    pub routing_key: &'a BStr,
    /// Encoded properties, as published.
    pub properties: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}
