//! Consumers, `basic.get`, prefetch, and direct reply-to.

use std::sync::Arc;

use amqp::{ByteSlice, FieldTable};
use broker::queue::{ConsumerKey, ConsumerSettings, Delivery, Settlement};
use broker::{BrokerError, Message};
use outcome::SettledBy;
use segment_log::LogError;

use crate::atomics::{AtomicBool, Ordering};
use crate::auth::Access;
use crate::engine::Engine;
use crate::names::REPLY_TO;
use crate::registry::{ConsumerEndpoint, ConsumerHandle, LiveQueue, Place, in_turn};
use crate::session::channel::{Channel, Consumer, Source};
use crate::session::publishes::Publish;
use crate::session::state::Session;
use crate::session::worker_name::BASIC_GET;
use crate::sink::Got;

/// What `basic.consume` asks for.
#[derive(Debug, Clone, Default)]
pub struct Consume<'a> {
    /// The consumer's tag on its channel; if empty, the server chooses one.
    pub tag: &'a str,
    /// Messages count as settled when they are sent.
    pub no_ack: bool,
    /// No other consumer may be on the queue.
    pub exclusive: bool,
    /// `x-priority`, `x-consumer-timeout`.
    pub arguments: FieldTable,
}

/// A consumer that was added. It takes nothing until this is dropped, so that its client can be
/// told about it before the first delivery arrives.
pub struct Consuming<'a> {
    engine: &'a Engine,
    handle: Arc<ConsumerHandle>,
    /// `None` for direct reply-to.
    source: Option<(Arc<LiveQueue>, ConsumerKey)>,
}

impl Consuming<'_> {
    /// The consumer's tag on its channel.
    pub fn tag(&self) -> &str {
        &self.handle.tag
    }
}

impl Drop for Consuming<'_> {
    fn drop(&mut self) {
        let Some((queue, key)) = &self.source else { return };
        self.handle.is_active.store(true, Ordering::SeqCst);
        let now_ms = self.engine.now_ms();
        let resumed = self.engine.with_queue(queue, now_ms, |core, _| core.resume(*key));
        if resumed.is_none() {
            // Its queue was deleted in the meantime, before the client could be told of that.
            self.handle.tell_cancelled();
        }
    }
}

impl Session {
    /// `basic.qos`: how many unsettled messages consumers may hold; 0 means no limit. With `global`
    /// all consumers of the channel share the limit, otherwise each new consumer has its own.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when the channel is not open.
    pub fn set_prefetch(
        &mut self,
        number: u16,
        count: u16,
        global: bool,
    ) -> Result<(), BrokerError> {
        self.flush_channel(number)?;
        let channel = self.channel(number)?;
        if global {
            channel.shared_prefetch.limit.store(u32::from(count), Ordering::SeqCst);
            channel.limit(u32::from(count));
        } else {
            channel.prefetch = u32::from(count);
            // As in RabbitMQ, this also ends a shared limit.
            channel.shared_prefetch.limit.store(0, Ordering::SeqCst);
        }
        self.give_prefetch(Some(number));
        Ok(())
    }

    /// `basic.consume`. Deliveries begin when the returned value is dropped.
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED` (permission, exclusive use), `RESOURCE_LOCKED`,
    /// `NOT_ALLOWED` for a tag in use.
    pub fn consume(
        &mut self,
        number: u16,
        queue: &str,
        options: &Consume<'_>,
    ) -> Result<Consuming<'_>, BrokerError> {
        self.flush_channel(number)?;
        let tag = self.consumer_tag(number, options.tag)?;
        if queue == REPLY_TO {
            return self.consume_replies(number, tag, options);
        }
        self.check(Access::Read, "queue", queue)?;
        let live = self.live_queue(queue)?;
        let handle = self.consumer_handle(number, &tag, options.no_ack)?;
        let asked = ConsumerSettings {
            prefetch: self.channel(number)?.prefetch,
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            priority: consumer_priority(&options.arguments)?,
            timeout_ms: consumer_timeout_ms(&options.arguments)?,
        };
        let now_ms = self.engine.now_ms();
        let added = self.engine.with_queue(&live, now_ms, |core, _| {
            core.add_consumer(now_ms, ConsumerEndpoint(Arc::clone(&handle)), asked)
        });
        let key = match added {
            Some(Ok(key)) => key,
            Some(Err(_)) => {
                return Err(self.vhost.state.read().topology.queue_in_exclusive_use(queue));
            }
            None => return Err(self.vhost.state.read().topology.no_queue(queue)),
        };
        let source = Source::Queue(Arc::clone(&live), key);
        let consumer = Consumer { handle: Arc::clone(&handle), source };
        let channel = self.channel(number)?;
        channel.consumers.insert(tag, consumer);
        if !options.no_ack {
            channel.limit(channel.prefetch);
        }
        Ok(Consuming { engine: &self.engine, handle, source: Some((live, key)) })
    }

    /// `basic.cancel`. An unknown tag is not an error.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when the channel is not open.
    pub fn cancel(&mut self, number: u16, tag: &str) -> Result<(), BrokerError> {
        self.flush_channel(number)?;
        if let Some(consumer) = self.channel(number)?.consumers.remove(tag) {
            self.drop_consumer(consumer);
        }
        Ok(())
    }

    /// `basic.get`: `true` when there was a message, which went to the sink ([`Sink::got`]).
    ///
    /// [`Sink::got`]: crate::Sink::got
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED`, `RESOURCE_LOCKED`, `INTERNAL_ERROR` for a body that cannot be
    /// read.
    pub fn get(&mut self, number: u16, queue: &str, no_ack: bool) -> Result<bool, BrokerError> {
        self.flush_channel(number)?;
        self.check(Access::Read, "queue", queue)?;
        let live = self.live_queue(queue)?;
        let now_ms = self.engine.now_ms();
        let by = self.settled_by_get();
        let mut missing = None;
        loop {
            let got = self.engine.with_queue(&live, now_ms, |core, effects| {
                // Settled only after its body has been read, since the log must keep the body until
                // then.
                let delivery = core.get(now_ms, false, effects);
                delivery.map(|delivery| (delivery, core.depth().ready_count))
            });
            let Some((mut delivery, left_count)) = got.flatten() else { return Ok(false) };
            let read = self.engine.load(delivery.message.clone(), delivery.position);
            let settle = |settlement: Settlement| {
                self.engine.with_queue(&live, now_ms, |core, effects| {
                    let (id, key) = (delivery.id, ConsumerKey::GET);
                    core.settle_by(now_ms, id, key, settlement, Some(&by), effects);
                });
            };
            match read {
                Ok(message) => {
                    delivery.message = Some(message.clone());
                    self.engine.note_delivered(&live, &by.worker, std::slice::from_ref(&delivery));
                    if no_ack {
                        settle(Settlement::AutoAck);
                    }
                    self.send_got(number, &live, &delivery, &message, no_ack, left_count);
                    return Ok(true);
                }
                // Compaction moved it meanwhile; its entry knows the new position.
                Err(LogError::NotFound(position)) if missing != Some(position) => {
                    missing = Some(position);
                    settle(Settlement::Undelivered);
                }
                Err(error) => {
                    settle(Settlement::Undelivered);
                    let text = format!("a message cannot be read: {error}");
                    return Err(BrokerError::internal_error(text));
                }
            }
        }
    }

    /// The worker that takes and settles messages with `basic.get`.
    fn settled_by_get(&self) -> Arc<SettledBy> {
        Arc::new(SettledBy { worker: self.worker.of(BASIC_GET), report: None })
    }

    fn send_got(
        &self,
        number: u16,
        queue: &Arc<LiveQueue>,
        delivery: &Delivery,
        message: &Message,
        no_ack: bool,
        left_count: u64,
    ) {
        let mut outbox = self.outbox.lock();
        let Some(channel) = outbox.channels.get_mut(&number) else { return };
        let delivery_tag = channel.got(queue, delivery, message, no_ack);
        let count = queue.count_to_tell(delivery);
        let properties = &*crate::rewrite::for_receiver(message, count);
        let message_count = u32::try_from(left_count).unwrap_or(u32::MAX);
        let redelivered = delivery.redelivered;
        let got = Got { delivery_tag, redelivered, message_count, properties, message };
        outbox.sink.got(number, &got);
    }

    fn consumer_tag(&mut self, number: u16, asked: &str) -> Result<String, BrokerError> {
        let serial = self.engine.registry.connections.next_serial();
        let connection = self.outbox.connection;
        let channel = self.channel(number)?;
        // Consumers that the server cancelled no longer exist.
        channel.consumers.retain(|_, c| !c.handle.is_cancelled.load(Ordering::Acquire));
        if asked.is_empty() {
            return Ok(format!("amq.ctag-{connection:x}-{serial:x}"));
        }
        if channel.consumers.contains_key(asked) {
            let text = format!("attempt to reuse consumer tag '{asked}'");
            return Err(BrokerError::not_allowed(text));
        }
        Ok(asked.to_owned())
    }

    fn consumer_handle(
        &mut self,
        number: u16,
        tag: &str,
        no_ack: bool,
    ) -> Result<Arc<ConsumerHandle>, BrokerError> {
        let outbox = Arc::clone(&self.outbox);
        let notifies_cancel = self.notifies_cancel;
        let by = Arc::new(SettledBy { worker: self.worker.of(tag), report: None });
        let channel = self.channel(number)?;
        Ok(Arc::new(ConsumerHandle {
            outbox,
            channel: number,
            channel_serial: channel.serial,
            tag: tag.to_owned(),
            no_ack,
            notifies_cancel,
            is_active: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            shared_prefetch: Arc::clone(&channel.shared_prefetch),
            room_place: Place::default(),
            prefetch_place: Place::default(),
            by,
        }))
    }

    /// Gives consumers that wait for room their turns, each with a share of the room.
    pub(super) fn give_room(&self) {
        let consumers = self.channels.values().flat_map(|channel| channel.consumers.values());
        let waiting = in_turn(consumers, |consumer| &consumer.handle.room_place);
        if waiting.is_empty() {
            return;
        }
        let share = (self.outbox.room() / waiting.len()).max(1) as u64;
        for consumer in waiting {
            if self.outbox.is_full() {
                // The others keep their places.
                self.outbox.note_stalled();
                return;
            }
            self.outbox.turns.begin(&consumer.handle.room_place, share);
            self.resume(consumer);
        }
    }

    /// The same for consumers that wait for their channel's shared prefetch, on one channel or on
    /// all.
    pub(super) fn give_prefetch(&self, number: Option<u16>) {
        let channels = self.channels.iter().filter(|(of, _)| number.is_none_or(|n| n == **of));
        for (_, channel) in channels {
            let prefetch = &channel.shared_prefetch;
            if !prefetch.turns.has_waiting() {
                continue;
            }
            let consumers = channel.consumers.values();
            let waiting = in_turn(consumers, |consumer| &consumer.handle.prefetch_place);
            let share = (prefetch.left() as usize / waiting.len().max(1)).max(1) as u64;
            for consumer in waiting {
                if prefetch.left() == 0 {
                    break;
                }
                prefetch.turns.begin(&consumer.handle.prefetch_place, share);
                self.resume(consumer);
            }
        }
    }

    fn resume(&self, consumer: &Consumer) {
        if let Source::Queue(queue, key) = &consumer.source {
            self.engine.with_queue(queue, self.engine.now_ms(), |core, _| core.resume(*key));
        }
    }

    pub(super) fn drop_consumers(&mut self, channel: Channel) {
        channel.consumers.into_values().for_each(|consumer| self.drop_consumer(consumer));
    }

    fn drop_consumer(&mut self, consumer: Consumer) {
        consumer.handle.is_cancelled.store(true, Ordering::Release);
        let (queue, key) = match consumer.source {
            Source::Queue(queue, key) => (queue, key),
            Source::Replies(token) => {
                self.engine.registry.remove_reply_consumer(&token);
                return;
            }
        };
        let now_ms = self.engine.now_ms();
        let was_there = self
            .engine
            .with_queue(&queue, now_ms, |core, effects| core.remove_consumer(now_ms, key, effects));
        consumer.handle.leave_turns();
        if was_there == Some(true) && queue.auto_delete {
            self.engine.delete_live_queue_if(&queue, |core| core.depth().consumer_count == 0);
        }
    }

    fn consume_replies(
        &mut self,
        number: u16,
        tag: String,
        options: &Consume<'_>,
    ) -> Result<Consuming<'_>, BrokerError> {
        if !options.no_ack {
            let text = "reply consumer cannot acknowledge";
            return Err(BrokerError::precondition_failed(text));
        }
        if self.reply_token(number).is_some() {
            return Err(BrokerError::precondition_failed("reply consumer already set"));
        }
        let handle = self.consumer_handle(number, &tag, true)?;
        // Nobody may guess an address and send to a stranger.
        let secret = crate::auth::random_token().map_err(|error| {
            BrokerError::internal_error(format!("no address for replies: {error}"))
        })?;
        let token = format!("{:x}.{number:x}.{secret}", self.outbox.connection);
        self.engine.registry.add_reply_consumer(token.clone(), &handle);
        let source = Source::Replies(token);
        let consumer = Consumer { handle: Arc::clone(&handle), source };
        self.channel(number)?.consumers.insert(tag, consumer);
        // Nobody knows its address yet, so nothing arrives before its client tells somebody.
        Ok(Consuming { engine: &self.engine, handle, source: None })
    }

    fn reply_token(&self, number: u16) -> Option<&str> {
        let channel = self.channels.get(&number)?;
        channel.consumers.values().find_map(|consumer| match &consumer.source {
            Source::Replies(token) => Some(token.as_str()),
            Source::Queue(..) => None,
        })
    }

    /// The address that a request with `reply_to: amq.rabbitmq.reply-to` carries.
    pub(super) fn reply_address(&self, number: u16) -> Result<String, BrokerError> {
        let token = self.reply_token(number).ok_or_else(|| {
            BrokerError::precondition_failed("fast reply consumer does not exist")
        })?;
        Ok(format!("{REPLY_TO}.{token}"))
    }

    /// Sends a reply directly to the consumer that its address stands for.
    pub(super) fn publish_reply(
        &mut self,
        number: u16,
        publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        let consumer = publish.routing_key.to_str().ok();
        let consumer = consumer
            .and_then(|address| self.engine.registry.reply_consumer(&self.vhost.name, address));
        let consumer = consumer.and_then(|consumer| consumer.upgrade());
        let delivered = consumer.is_some_and(|consumer| {
            let properties = amqp::Properties::decode(publish.properties).unwrap_or_default();
            let content = (publish.exchange, publish.routing_key, publish.properties, publish.body);
            let message = Message::new(0, &properties, content, &mut Vec::new());
            consumer.reply(&message)
        });
        if !delivered && publish.mandatory {
            self.send_return(number, publish);
        }
        // Its confirm takes its turn after those of earlier messages.
        self.confirm_in_turn(number)
    }

    /// Passive `queue.declare` of a reply address: whether a consumer waits there.
    pub(super) fn has_reply_consumer(&self, name: &str) -> bool {
        self.engine.registry.reply_consumer(&self.vhost.name, name).is_some()
    }
}

fn consumer_priority(arguments: &FieldTable) -> Result<i32, BrokerError> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    let priority = value.as_i64().map(|priority| priority.clamp(i32::MIN.into(), i32::MAX.into()));
    priority.map(|priority| priority as i32).ok_or_else(|| {
        let text = "invalid arg 'x-priority' for consumer: an integer is needed";
        BrokerError::precondition_failed(text)
    })
}

/// `x-consumer-timeout`, ms.
fn consumer_timeout_ms(arguments: &FieldTable) -> Result<Option<u64>, BrokerError> {
    let Some(value) = arguments.get("x-consumer-timeout") else { return Ok(None) };
    let timeout_ms = value.as_i64().and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    timeout_ms.map(Some).ok_or_else(|| {
        let text = "invalid arg 'x-consumer-timeout' for consumer: a positive integer is needed";
        BrokerError::precondition_failed(text)
    })
}
