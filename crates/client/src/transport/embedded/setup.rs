//! Opening a node in memory and a session of it, and declaring what is consumed from there.

use std::sync::Arc;

use ::amqp::{FieldTable, ReplyCode};
use broker::BrokerError;
use node::{
    Consume, DeclareExchange, DeclareQueue, Destination, MemoryDisk, Node, Session, StoreOptions,
};

use super::inbox::Inbox;
use super::{CONSUMER_TAG, PUBLISHING, USER, VHOST, refused, store};
use crate::clock::Clock;
use crate::error::Error;
use crate::transport::{Source, queues};

pub(super) fn ensure_queue(session: &mut Session, queue: &str) -> Result<(), BrokerError> {
    let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
    match session.declare_queue(queue, &passive) {
        Err(error) if error.reply_code() == ReplyCode::NotFound => {
            let arguments = queues::arguments();
            let made = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
            session.declare_queue(queue, &made).map(drop)
        }
        there => there.map(drop),
    }
}

pub(super) fn ensure_subscribed(
    session: &mut Session,
    queue: &str,
    source: &Source,
) -> Result<(), BrokerError> {
    let destination = Destination::queue(queue);
    match source {
        Source::Itself => ensure_queue(session, queue),
        Source::Topic(topic) => {
            ensure_queue(session, queue)?;
            ensure_topic(session, topic)?;
            session.bind(topic, &destination, "", &FieldTable::new())
        }
        Source::Outcomes(of) => {
            let arguments = queues::watching_arguments();
            let options = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
            session.declare_queue(queue, &options)?;
            let key = queues::outcomes_key(of.as_deref());
            session.bind(queues::OUTCOMES, &destination, &key, &FieldTable::new())
        }
    }
}

pub(super) fn ensure_topic(session: &mut Session, topic: &str) -> Result<(), BrokerError> {
    let options = DeclareExchange { durable: true, ..DeclareExchange::default() };
    session.declare_exchange(topic, "fanout", &options)
}

pub(super) fn open_in_memory(disk: MemoryDisk, clock: &Clock) -> Result<Arc<Node>, Error> {
    // Nothing is kept in reserve where everything is memory.
    let store_options = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
    let mut options = node::Options { store: store_options, ..node::Options::default() };
    if let Clock::Manual(clock) = clock {
        options.clock = Arc::clone(clock) as _;
    }
    Node::open_in_memory_on(disk, options).map_err(|error| store(&error))
}

pub(super) fn open_session(node: &Node) -> Result<Session, Error> {
    let opened = node.open_session(VHOST, USER, Box::<Inbox>::default()).and_then(|mut session| {
        session.open_channel(PUBLISHING)?;
        session.select_confirms(PUBLISHING)?;
        Ok(session)
    });
    opened.map_err(|error| refused(&error))
}

pub(super) fn start_consumer(
    session: &mut Session,
    channel: u16,
    queue: &str,
    prefetch: u16,
) -> Result<(), Error> {
    let started = session.open_channel(channel).and_then(|()| {
        session.set_prefetch(channel, prefetch, false)?;
        let options = Consume { tag: CONSUMER_TAG, ..Consume::default() };
        session.consume(channel, queue, &options).map(drop)
    });
    started.map_err(|error| {
        let _ = session.close_channel(channel);
        refused(&error)
    })
}
