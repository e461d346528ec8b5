//! Publishing, a batch at a time: log once, lock each queue once, confirm once.

use std::sync::Arc;

use amqp::Properties;
use broker::queue::{Incoming, Published};
use broker::{BrokerError, Message, Position};
use hashbrown::HashMap;

use super::headers::Headers;
use super::routes::Route;
use super::{NO_ROUTE, Session};
use crate::auth::Access;
use crate::engine::Engine;
use crate::engine::outcomes::duplicates::Duplicate;
use crate::names::{OUTCOMES_EXCHANGE, REPLY_TO, REPORT_EXCHANGE};
use crate::registry::LiveQueue;
use crate::rewrite;
use crate::sink::Returned;
use crate::store::{Waiter, records};

/// One `basic.publish`.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// Routing key.
    pub routing_key: &'a str,
    /// Whether it is returned when it reaches no queue.
    pub mandatory: bool,
    /// Encoded properties: flags and fields.
    pub properties: &'a [u8],
    /// Body.
    pub body: &'a [u8],
}

/// What a flush did with the last published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Where it stands in the log; `None` when it is not there: it reached no queue, or only queues
    /// that had seen its id.
    pub position: Option<u64>,
    /// When it was published, ms since the epoch; `None` when it is not a message of its own: a
    /// duplicate, a reply, a report.
    pub published_at_ms: Option<u64>,
    /// Whether a queue had seen its id.
    pub is_duplicate: bool,
}

/// A [`Publish`] that owns its parts.
pub(super) struct OwnedPublish {
    exchange: String,
    routing_key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl From<&Publish<'_>> for OwnedPublish {
    fn from(publish: &Publish<'_>) -> Self {
        Self {
            exchange: publish.exchange.to_owned(),
            routing_key: publish.routing_key.to_owned(),
            properties: publish.properties.to_vec(),
            body: publish.body.to_vec(),
        }
    }
}

impl OwnedPublish {
    pub(super) fn as_publish(&self) -> Publish<'_> {
        let Self { exchange, routing_key, properties, body } = self;
        Publish { exchange, routing_key, mandatory: true, properties, body }
    }
}

/// A message on its way into its queues.
pub(super) struct Pending {
    pub message: Option<Message>,
    pub route: Arc<Route>,
    /// Its position in the log, once it is there.
    pub position: Option<Position>,
    /// The channel and the message's number there, in confirm mode.
    pub confirm: Option<(u16, u64)>,
    /// Whether the message itself asks for an outcome.
    pub asks: bool,
}

/// Messages gathered since the last flush; keeps its memory.
#[derive(Default)]
pub(super) struct PublishBatch {
    pub pending: Vec<Pending>,
    /// Whether any of them is tracked.
    pub has_tracked: bool,
    scratch: Vec<u8>,
    groups: Vec<Group>,
    /// Places in `groups` by queue id, while a batch is sorted.
    by_queue: HashMap<u32, usize>,
}

/// The messages of a batch that go to one queue.
struct Group {
    queue: Arc<LiveQueue>,
    messages: Vec<u32>,
}

impl Session {
    /// Takes a message; it reaches its queues with the next [`Session::flush`].
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED`, `PRECONDITION_FAILED` for an invalid property, `SYNTAX_ERROR`
    /// for properties that cannot be decoded.
    pub fn publish(&mut self, number: u16, publish: &Publish<'_>) -> Result<(), BrokerError> {
        self.failed.tell(number)?;
        let mut properties = Properties::decode(publish.properties)
            .map_err(|error| BrokerError::syntax_error(format!("message properties: {error}")))?;
        self.check_properties(&properties, publish)?;
        self.has_published = true;
        if publish.exchange.is_empty() && publish.routing_key.starts_with(REPLY_TO) {
            self.check(Access::Write, "exchange", publish.exchange)?;
            return self.publish_reply(number, publish);
        }
        let headers = Headers::scan(properties.headers)?;
        if publish.exchange == REPORT_EXCHANGE {
            return self.report(number, publish, &properties, &headers);
        }
        if publish.exchange == OUTCOMES_EXCHANGE {
            let text =
                "only the broker publishes to 'amq.wilco.outcomes'; bind a queue to watch it";
            return Err(BrokerError::access_refused(text));
        }
        let route = self.route(
            publish.exchange,
            publish.routing_key,
            properties.headers,
            headers.has_copies,
        )?;
        let now_ms = self.engine.now_ms();
        let id = Self::tracked_id(&properties, &headers, &route, now_ms);
        let message_id = id.as_ref().map(|(id, _)| id.as_str());
        let mut tracking = self.tracking(&properties, message_id, &headers, &route, now_ms)?;
        let new_id = id.filter(|(_, is_new)| *is_new).map(|(id, _)| id);
        let rewritten = self.rewritten(number, &properties, publish, &headers, new_id)?;
        let encoded = rewritten.as_deref().unwrap_or(publish.properties);
        let confirm = self.next_confirm(number).map(|message| (number, message));
        if let (Some(tracking), Some((_, message))) = (&mut tracking, confirm)
            && self.waits_for_ack(number, headers.request.or(route.request))
        {
            let (count, deadline_at_ms) = (tracking.queue_count, tracking.deadline_at_ms);
            tracking.ticket = self.hold_confirm(number, message, count, deadline_at_ms);
        }
        if route.queues.is_empty() && publish.mandatory {
            match &mut self.channel(number)?.transaction {
                Some(transaction) => transaction.returns.push(publish.into()),
                None => self.send_return(number, publish),
            }
        }
        if route.keeps_transient {
            // What the message says about itself stays as it is.
            properties.delivery_mode = Some(2);
        }
        let content = (publish.exchange, publish.routing_key, encoded, publish.body);
        let scratch = &mut self.publishes.scratch;
        let message = Message::tracked(now_ms, &properties, content, tracking.as_ref(), scratch);
        let (message, position, asks) = (Some(message), None, headers.request.is_any());
        let pending = Pending { message, route, position, confirm, asks };
        match &mut self.channel(number)?.transaction {
            Some(transaction) => {
                transaction.publishes.push(pending);
                self.grow_transaction(number, 1, publish.body.len() + encoded.len())?;
            }
            None => {
                self.publishes.has_tracked |= tracking.is_some();
                self.publishes.pending.push(pending);
            }
        }
        Ok(())
    }

    /// Confirms something that went another way, after everything published before it.
    pub(super) fn confirm_in_turn(&mut self, number: u16) -> Result<(), BrokerError> {
        self.channel(number)?;
        if let Some(message) = self.next_confirm(number) {
            self.confirm_also(number, message);
        }
        Ok(())
    }

    /// The same with a nack.
    pub(super) fn refuse_in_turn(&mut self, number: u16) -> Result<(), BrokerError> {
        self.confirm_in_turn(number)?;
        if let Some(confirms) = self.channel(number)?.confirms.as_mut() {
            confirms.refuse(confirms.last);
        }
        Ok(())
    }

    /// Gives the confirm of this message its turn after everything published before it.
    pub(super) fn confirm_also(&mut self, number: u16, message: u64) {
        let confirm = Some((number, message));
        let (message, route, position) = (None, Arc::default(), None);
        self.publishes.pending.push(Pending { message, route, position, confirm, asks: false });
    }

    /// Carries out what was gathered: publishes, then settlements. Errors wait in `failed`.
    pub(super) fn carry_out(&mut self) {
        if self.publishes.pending.is_empty() {
            return self.flush_settles();
        }
        let mut pending = std::mem::take(&mut self.publishes.pending);
        let duplicates = match std::mem::take(&mut self.publishes.has_tracked) {
            true => {
                let now_ms = self.engine.now_ms();
                self.append_once(&mut pending, now_ms, |pending| self.log_pending(pending))
            }
            false => {
                self.log_pending(&mut pending);
                Vec::new()
            }
        };
        self.publishes.pending = pending;
        let has_duplicates = !duplicates.is_empty();
        self.placed = self.publishes.pending.last().map_or_else(Placed::default, |last| Placed {
            position: last.position,
            published_at_ms: last.message.as_ref().map(|message| message.head().published_at_ms),
            is_duplicate: has_duplicates,
        });
        let refused = self.enqueue_pending(duplicates);
        let last = self.publishes.pending.iter().rev().find_map(|pending| pending.position);
        // Whole batches become durable, so a position past the last message's first byte is past
        // the message.
        let mut position = last.map_or(0, |position| position + 1);
        // Messages precede settlements in the log: a worker's result comes before the ack of the
        // message from which it was made. A confirm also covers the acks that came before it on
        // this connection, so it waits for them too.
        let has_settles = !self.settles.is_empty();
        self.flush_settles();
        if has_settles && position > 0 || has_duplicates {
            ((), position) = self.engine.store.append(Some(&self.waiter), |_| ());
        }
        self.note_confirms(position, &refused);
    }

    /// What the last flush with anything to publish did with the last message. Whether that was a
    /// duplicate is known only if it was the only one.
    pub fn placed(&self) -> Placed {
        self.placed
    }

    /// Logs those of the gathered messages that must be logged.
    fn log_pending(&self, pending: &mut [Pending]) {
        let keeps_bodies = self.engine.keeps_bodies();
        let must_log = |pending: &Pending| {
            let Some(head) = pending.message.as_ref().map(Message::head) else { return false };
            (head.persistent && pending.route.is_durable)
                || ((head.is_tracked || !keeps_bodies) && !pending.route.queues.is_empty())
        };
        if !pending.iter().any(must_log) {
            return;
        }
        let awaited = pending.iter().any(|pending| pending.confirm.is_some());
        let waiter: Option<&Arc<dyn Waiter>> = awaited.then_some(&self.waiter);
        self.engine.store.append(waiter, |appender| {
            for pending in pending.iter_mut().filter(|pending| must_log(pending)) {
                pending.log(appender.batch);
            }
        });
    }

    /// Puts the gathered messages, which have been logged, into their queues, and attaches
    /// duplicates to their originals. Returns the confirms of those that a queue refused.
    /// [`Session::note_confirms`] must follow.
    pub(super) fn enqueue_pending(
        &mut self,
        duplicates: Vec<Duplicate>,
    ) -> Vec<Option<(u16, u64)>> {
        let now_ms = self.engine.now_ms();
        let originals: Vec<_> = duplicates.iter().map(|d| (d.key(), d.confirm)).collect();
        let mut refused = Vec::new();
        for duplicate in duplicates {
            let confirm = duplicate.confirm;
            if !self.engine.attach_duplicate(duplicate) {
                refused.push(confirm);
            }
        }
        let keep_body = self.engine.keeps_bodies();
        let PublishBatch { pending, groups, by_queue, .. } = &mut self.publishes;
        for pending in pending.iter_mut().filter(|pending| pending.route.queues.is_empty()) {
            if let Some(message) = pending.message.take_if(|message| message.head().is_tracked) {
                self.engine.tell_unroutable(&self.vhost, message);
            }
        }
        let group_count = group_by_queue(pending, groups, by_queue);
        for group in &mut groups[..group_count] {
            let engine = &self.engine;
            enqueue_group(engine, now_ms, keep_body, group, pending, &mut refused);
            group.messages.clear();
        }
        // Groups keep their memory for the next batch, but must not keep their queues for ever.
        groups.truncate(16);
        refused.append(&mut self.engine.refused_originals(&originals));
        refused
    }

    /// Notes which confirms wait for `position`, and forgets the batch.
    pub(super) fn note_confirms(&mut self, position: u64, refused: &[Option<(u16, u64)>]) {
        let mut last: Option<(u16, u64)> = None;
        for (number, message) in self.publishes.pending.iter().filter_map(|p| p.confirm) {
            match last {
                Some((channel, _)) if channel == number => {}
                Some((channel, message)) => wait(&mut self.channels, channel, message, position),
                None => {}
            }
            last = Some((number, message));
        }
        if let Some((channel, message)) = last {
            wait(&mut self.channels, channel, message, position);
        }
        for &(channel, message) in refused.iter().flatten() {
            if let Some(confirms) =
                self.channels.get_mut(&channel).and_then(|c| c.confirms.as_mut())
            {
                confirms.refuse(message);
            }
        }
        self.publishes.pending.clear();
    }

    fn check_properties(
        &self,
        properties: &Properties<'_>,
        publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        let failed = |text| Err(BrokerError::precondition_failed(text));
        if let Some(user) = properties.user_id
            && user != self.user
        {
            let text = format!(
                "user_id property set to '{user}' but authenticated user was '{}'",
                self.user
            );
            return failed(text);
        }
        if let Some(expiration) = properties.expiration
            && !expiration.parse::<u64>().is_ok_and(|ms| ms <= u64::from(u32::MAX))
        {
            return failed(format!("invalid expiration '{expiration}'"));
        }
        let max = self.message_bytes_max();
        if publish.body.len() as u64 > max {
            let size = publish.body.len();
            return failed(format!("message size {size} is larger than configured max size {max}"));
        }
        Ok(())
    }

    /// The properties, if they may not stay as they are.
    fn rewritten(
        &mut self,
        number: u16,
        properties: &Properties<'_>,
        publish: &Publish<'_>,
        headers: &Headers,
        new_id: Option<String>,
    ) -> Result<Option<Vec<u8>>, BrokerError> {
        let malformed = |error: amqp::DecodeError| BrokerError::syntax_error(error.to_string());
        let mut rewritten = None;
        if headers.has_bcc {
            rewritten = Some(rewrite::without_bcc(publish.properties).map_err(malformed)?);
        }
        if properties.reply_to == Some(REPLY_TO) {
            let address = self.reply_address(number)?;
            let encoded = rewritten.as_deref().unwrap_or(publish.properties);
            rewritten = Some(rewrite::with_reply_to(encoded, address).map_err(malformed)?);
        }
        if let Some(id) = new_id {
            let encoded = rewritten.as_deref().unwrap_or(publish.properties);
            rewritten = Some(rewrite::with_message_id(encoded, id).map_err(malformed)?);
        }
        Ok(rewritten)
    }

    /// Returns what reached no queue.
    pub(super) fn send_return(&self, number: u16, publish: &Publish<'_>) {
        let (code, text) = NO_ROUTE;
        let Publish { exchange, routing_key, properties, body, .. } = *publish;
        let returned = Returned { code, text, exchange, routing_key, properties, body };
        self.outbox.lock().sink.returned(number, &returned);
    }
}

impl Pending {
    /// Appends it for all its queues and notes its position.
    pub(super) fn log(&mut self, batch: &mut segment_log::Batch) {
        let ids = self.route.queues.iter().map(|queue| queue.id);
        if let Some(message) = self.message.as_ref().filter(|_| ids.len() > 0) {
            self.position = Some(records::append_message(batch, ids, message));
        }
    }

    /// Whether a restart must bring it back.
    pub(super) fn is_durable(&self) -> bool {
        let Some(head) = self.message.as_ref().map(Message::head) else { return false };
        self.route.is_durable && head.persistent || head.is_tracked
    }
}

fn wait(
    channels: &mut std::collections::BTreeMap<u16, super::channel::Channel>,
    channel: u16,
    message: u64,
    position: u64,
) {
    if let Some(confirms) = channels.get_mut(&channel).and_then(|c| c.confirms.as_mut()) {
        confirms.wait(message, position);
    }
}

/// Sorts a batch by queue; returns how many groups of `groups` are in use.
fn group_by_queue(
    pending: &[Pending],
    groups: &mut Vec<Group>,
    by_queue: &mut HashMap<u32, usize>,
) -> usize {
    by_queue.clear();
    let mut count = 0;
    let mut last: Option<(*const Route, usize)> = None;
    for (index, pending) in pending.iter().enumerate() {
        let route = Arc::as_ptr(&pending.route);
        if let ([_], Some((_, group))) = (&*pending.route.queues, last.filter(|(l, _)| *l == route))
        {
            groups[group].messages.push(index as u32);
            continue;
        }
        for queue in &pending.route.queues {
            let group = *by_queue.entry(queue.id.0).or_insert_with(|| {
                if count == groups.len() {
                    groups.push(Group { queue: Arc::clone(queue), messages: Vec::new() });
                } else {
                    groups[count].queue = Arc::clone(queue);
                }
                count += 1;
                count - 1
            });
            groups[group].messages.push(index as u32);
            last = Some((route, group));
        }
    }
    count
}

fn enqueue_group(
    engine: &Engine,
    now_ms: u64,
    keeps_bodies: bool,
    group: &Group,
    pending: &mut [Pending],
    refused: &mut Vec<Option<(u16, u64)>>,
) {
    let enqueued = engine.with_queue(&group.queue, now_ms, |core, effects| {
        for &index in &group.messages {
            let pending = &mut pending[index as usize];
            let position = pending.position;
            let message = match pending.route.queues.len() {
                1 => pending.message.take(),
                _ => pending.message.clone(),
            };
            let Some(message) = message else { continue };
            let keep_body = keeps_bodies || position.is_none();
            let incoming = Incoming { message, position, keep_body };
            if core.publish(now_ms, incoming, effects) == Published::Refused {
                refused.push(pending.confirm);
            }
        }
    });
    if enqueued.is_none() {
        engine.with_agenda(|agenda| {
            for &index in &group.messages {
                let Pending { message, position, .. } = &pending[index as usize];
                engine.lose(&group.queue, message.clone(), *position, agenda);
            }
        });
    }
}
