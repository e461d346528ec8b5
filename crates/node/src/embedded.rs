//! The broker in process: a [`Node`] and its sessions without sockets or frames.
//!
//! ```
//! use node::embedded::{Event, Link};
//! use node::{Consume, Node, Options, Properties, Publish, DeclareQueue, Settlement};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let node = Node::open(Options { data: directory.path().into(), ..Options::default() })?;
//! let mut link = Link::open(&node, "/", "guest")?;
//! let channel = link.open_channel()?;
//! link.select_confirms(channel)?;
//! link.declare_queue("tasks", &DeclareQueue { durable: true, ..DeclareQueue::default() })?;
//!
//! let persistent = Properties { delivery_mode: Some(2), ..Properties::default() };
//! link.publish(channel, "", "tasks", &persistent, b"Hello World!")?;
//! link.wait_for_confirms(channel)?; // on disk now
//!
//! link.consume(channel, "tasks", &Consume { tag: "worker", ..Consume::default() })?;
//! let Some(Event::Delivered(delivery)) = link.next_event(None) else { panic!("there is one") };
//! assert_eq!(delivery.message.body(), b"Hello World!");
//! link.settle(channel, delivery.tag, Settlement::Ack)?;
//! link.close();
//! node.close();
//! # Ok(())
//! # }
//! ```
//!
//! A [`Link`] blocks the thread that calls it, never the node. [`Link::publish`] waits while the
//! node has too much to write, or holds publishers because it is short of disk or memory. A
//! publisher that must not wait, above all one whose thread also consumes what would make room,
//! uses [`Link::try_publish`]; an event loop has [`Link::poll_ready`].
//!
//! For anything that it does not offer (transactions, exchanges) use a [`Session`] with a [`Sink`]
//! directly: that is all the AMQP server does, too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use amqp::{BString, Properties};
use broker::queue::Settlement;
use broker::{BrokerError, Message};

use crate::node::Node;
use crate::session::{ChannelError, Consume, DeclareQueue, Publish, QueueDeclared, Session};
use crate::sink::{Delivered, Got, Returned, Sink};

/// The longest a wait sleeps before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;

/// What arrives for a link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message for one of its consumers.
    Delivered(Delivery),
    /// A mandatory message that reached no queue.
    Returned {
        /// The channel it was published on.
        channel: u16,
        /// Its routing key.
        routing_key: BString,
        /// Its body.
        body: Vec<u8>,
    },
    /// The queue of a consumer has been deleted.
    Cancelled {
        /// The consumer's channel.
        channel: u16,
        /// The consumer's tag.
        tag: String,
    },
}

/// A message delivered to a consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The consumer's channel.
    pub channel: u16,
    /// The consumer's tag; empty for what [`Link::get`] took.
    pub consumer_tag: String,
    /// The tag by which it is settled.
    pub tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The message.
    pub message: Message,
}

/// A session that blocks its caller. See the module's documentation.
pub struct Link {
    session: Session,
    next_channel: u16,
    events: VecDeque<Event>,
    /// Numbers of published, confirmed and refused messages, by channel.
    confirms: HashMap<u16, Confirmed>,
}

#[derive(Default)]
struct Confirmed {
    published: u64,
    confirmed: u64,
    refused: Vec<u64>,
}

/// Collects what arrives; the link takes it from here.
#[derive(Default)]
struct Inbox {
    events: Vec<Event>,
    /// Channel, number, whether it covers all up to the number, whether accepted.
    confirms: Vec<(u16, u64, bool, bool)>,
    got: Option<Delivery>,
}

impl Link {
    /// Opens a link as a user for whom the embedding program vouches.
    ///
    /// # Errors
    /// `NOT_ALLOWED` when there is no such virtual host or the user may not enter it.
    pub fn open(node: &Arc<Node>, vhost: &str, user: &str) -> Result<Self, BrokerError> {
        let session = node.open_session(vhost, user, Box::<Inbox>::default())?;
        Ok(Self { session, next_channel: 1, events: VecDeque::new(), confirms: HashMap::new() })
    }

    /// The session underneath, for anything the link has no method for. Call
    /// [`Link::wait_until_durable`] after a method whose effect must be durable.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Opens a channel and returns its number.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when 65,535 are open.
    pub fn open_channel(&mut self) -> Result<u16, BrokerError> {
        let number = self.next_channel;
        self.session.open_channel(number)?;
        self.next_channel = number.checked_add(1).unwrap_or(1);
        Ok(number)
    }

    /// Declares a queue; returns when that is durable.
    ///
    /// # Errors
    /// As [`Session::declare_queue`].
    pub fn declare_queue(
        &mut self,
        name: &str,
        options: &DeclareQueue,
    ) -> Result<QueueDeclared, BrokerError> {
        let declared = self.session.declare_queue(name, options)?;
        self.wait_until_durable()?;
        Ok(declared)
    }

    /// Puts a channel into confirm mode.
    ///
    /// # Errors
    /// As [`Session::select_confirms`].
    pub fn select_confirms(&mut self, channel: u16) -> Result<(), BrokerError> {
        self.session.select_confirms(channel)?;
        self.confirms.entry(channel).or_default();
        Ok(())
    }

    /// Publishes a message, after waiting until the node can take it.
    ///
    /// # Errors
    /// As [`Session::publish`]; `INTERNAL_ERROR` when the store has failed.
    pub fn publish(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        properties: &Properties<'_>,
        body: &[u8],
    ) -> Result<(), BrokerError> {
        self.wait_until_ready()?;
        self.publish_now(channel, exchange, routing_key, properties, body)
    }

    /// Publishes a message if the node can take it now. `false`: it cannot, and nothing has
    /// happened.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub fn try_publish(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        properties: &Properties<'_>,
        body: &[u8],
    ) -> Result<bool, BrokerError> {
        self.session.will_publish();
        self.session.check_store()?;
        if !self.session.is_ready() {
            return Ok(false);
        }
        self.publish_now(channel, exchange, routing_key, properties, body)?;
        Ok(true)
    }

    /// Ready when [`Link::try_publish`] would publish; otherwise the task is woken when it is worth
    /// asking again. A link has one waker: blocking in another of its methods replaces it.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the store has failed.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BrokerError>> {
        self.session.will_publish();
        self.session.check_store()?;
        self.session.poll_ready(cx).map(Ok)
    }

    fn wait_until_ready(&mut self) -> Result<(), BrokerError> {
        self.session.will_publish();
        if self.session.is_ready() {
            return self.session.check_store();
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while self.poll_ready(&mut Context::from_waker(&waker))?.is_pending() {
            std::thread::park_timeout(LOOK_AGAIN);
        }
        Ok(())
    }

    fn publish_now(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        properties: &Properties<'_>,
        body: &[u8],
    ) -> Result<(), BrokerError> {
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let routing_key = routing_key.into();
        let publish =
            Publish { exchange, routing_key, mandatory: false, properties: &encoded, body };
        self.session.publish(channel, &publish)?;
        if let Some(confirms) = self.confirms.get_mut(&channel) {
            confirms.published += 1;
        }
        self.session.flush_channel(channel)
    }

    /// Waits until everything published on a channel in confirm mode is confirmed. Returns the
    /// numbers, from 1 in order of publishing, of messages that a full queue has refused.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the store has failed.
    pub fn wait_for_confirms(&mut self, channel: u16) -> Result<Vec<u64>, BrokerError> {
        loop {
            self.session.release_confirms();
            self.receive();
            let Some(confirms) = self.confirms.get_mut(&channel) else { return Ok(Vec::new()) };
            if confirms.confirmed >= confirms.published {
                return Ok(std::mem::take(&mut confirms.refused));
            }
            // Also reports a store that has failed.
            self.session.is_settled_in_store()?;
            self.sleep(LOOK_AGAIN);
        }
    }

    /// Adds a consumer; its messages arrive as events ([`Link::next_event`]).
    ///
    /// # Errors
    /// As [`Session::consume`].
    pub fn consume(
        &mut self,
        channel: u16,
        queue: &str,
        options: &Consume<'_>,
    ) -> Result<(), BrokerError> {
        self.session.consume(channel, queue, options)?;
        Ok(())
    }

    /// Takes one message out of a queue, to be settled like any other; `None` when there is none.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub fn get(
        &mut self,
        channel: u16,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<Delivery>, BrokerError> {
        self.session.get(channel, queue, no_ack)?;
        let outbox = self.session.outbox();
        Ok(outbox.with_sink::<Inbox, _>(|inbox, _| inbox.got.take()).flatten())
    }

    /// Settles a delivery.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` for an unknown tag.
    pub fn settle(
        &mut self,
        channel: u16,
        tag: u64,
        settlement: Settlement,
    ) -> Result<(), BrokerError> {
        self.session.settle(channel, tag, false, settlement)?;
        self.session.flush_channel(channel)
    }

    /// The next event; waits for it, at most for the given time. `None`: there was none in time.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Option<Event> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            self.receive();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => LOOK_AGAIN,
            };
            if left.is_zero() {
                return None;
            }
            self.sleep(left.min(LOOK_AGAIN));
        }
    }

    /// Waits until the changes of the last method are durable.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the store has failed.
    pub fn wait_until_durable(&mut self) -> Result<(), BrokerError> {
        let Some(barrier) = self.session.barrier() else { return Ok(()) };
        while !self.session.is_durable(barrier)? {
            self.sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Closes the link: its unsettled messages go back to their queues. Returns errors on its
    /// channels that have not been reported yet.
    pub fn close(mut self) -> Vec<ChannelError> {
        self.session.close()
    }

    /// Takes what has arrived.
    fn receive(&mut self) {
        let outbox = Arc::clone(self.session.outbox());
        let taken = outbox.with_sink::<Inbox, _>(|inbox, room| {
            let events = std::mem::take(&mut inbox.events);
            (events, std::mem::take(&mut inbox.confirms), std::mem::take(room))
        });
        let Some((events, confirms, room)) = taken else { return };
        self.events.extend(events);
        for (channel, number, multiple, accepted) in confirms {
            let confirmed = self.confirms.entry(channel).or_default();
            confirmed.confirmed = confirmed.confirmed.max(number);
            debug_assert!(accepted || !multiple, "the node refuses messages one by one");
            if !accepted {
                confirmed.refused.push(number);
            }
        }
        self.session.after_write(room);
    }

    fn sleep(&self, at_most: Duration) {
        let outbox = self.session.outbox();
        outbox.register(&Waker::from(Arc::new(Unpark(std::thread::current()))));
        if !outbox.take_dirty() {
            std::thread::park_timeout(at_most);
        }
    }
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Sink for Inbox {
    fn confirmed(&mut self, channel: u16, number: u64, multiple: bool) {
        self.confirms.push((channel, number, multiple, true));
    }

    fn refused(&mut self, channel: u16, number: u64) {
        self.confirms.push((channel, number, false, false));
    }

    fn returned(&mut self, channel: u16, returned: &Returned<'_>) {
        let (routing_key, body) = (returned.routing_key.to_owned(), returned.body.to_vec());
        self.events.push(Event::Returned { channel, routing_key, body });
    }

    fn cancelled(&mut self, channel: u16, consumer_tag: &str) {
        self.events.push(Event::Cancelled { channel, tag: consumer_tag.to_owned() });
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        self.events.push(Event::Delivered(Delivery {
            channel: delivered.channel,
            consumer_tag: delivered.consumer_tag.to_owned(),
            tag: delivered.delivery_tag,
            redelivered: delivered.redelivered,
            message: delivered.message.clone(),
        }));
    }

    fn got(&mut self, channel: u16, got: &Got<'_>) {
        self.got = Some(Delivery {
            channel,
            consumer_tag: String::new(),
            tag: got.delivery_tag,
            redelivered: got.redelivered,
            message: got.message.clone(),
        });
    }
}
