//! From what left a queue to what is logged and who is notified.
//!
//! In three steps, so that a transaction can put the second into its own group: *prepare* reads
//! what must be read, has the verdicts decided ([`broker::verdict`]) and makes the messages; *log*
//! appends everything as one group of the caller; *finish* sends the messages on their way and
//! decides confirms.

use std::sync::Arc;

use amqp::BStr;
use broker::queue::{Effects, Noted, Removed, Settings};
use broker::verdict::{Decision, Told, deadline_missed, unroutable, verdict};
use broker::{Message, Position, QueueId, Tracking};
use ledger::dedup_key;
use outcome::{
    Flags, IdHash, Outcome, OutcomeMessage, REPORT_BYTES_MAX, Reason, SettledBy, Ticket,
};

use super::duplicates::Duplicate;
use super::notes::append_received;
use super::notifications::{OutcomeNotification, Recipient};
use super::settled_message::{SettledMessage, encode, wants};
use crate::engine::{Agenda, DeadLetter, Engine};
use crate::names::OUTCOMES_EXCHANGE;
use crate::registry::{LiveQueue, Outbox, Vhost};
use crate::store::outcome_records::{NO_QUEUE, OutcomesHead, OutcomesWriter, append_missed};
use crate::store::{Appender, Waiter, records};

/// The most messages settled in one group of the log, unless they belong to a transaction.
const SETTLED_MAX: usize = 512;
/// Bytes of messages kept for another try, after which a record of outcomes ends.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What has left one queue, prepared.
pub(crate) struct OutcomeBatch {
    /// `None` for messages that reached no queue.
    queue: Option<Arc<LiveQueue>>,
    queue_id: QueueId,
    queue_name: Arc<str>,
    vhost: Option<Arc<Vhost>>,
    settings: Arc<Settings>,
    now_ms: u64,
    settled: Vec<SettledMessage>,
    /// Outcome messages that left, and whether by an ack.
    received: Vec<(Tracking, bool)>,
    /// Settlements without an outcome: of outcome messages, and of messages whose outcome was the
    /// missed deadline.
    plain: Vec<(Reason, Option<Position>)>,
    notifications: Vec<OutcomeNotification>,
    /// Confirms that are decided by this, and how.
    confirms: Vec<(Option<Ticket>, bool)>,
    /// Bytes of messages kept for another try.
    kept_bytes: usize,
    dead: Vec<DeadLetter>,
    /// What followed from reserving room for notifications.
    effects: Vec<(Arc<LiveQueue>, Effects)>,
}

/// Somebody who is sent an outcome.
struct Addressee<'a> {
    reply_to: &'a BStr,
    correlation_id: Option<&'a BStr>,
    /// The confirm that waits until this is received.
    ticket: Option<Ticket>,
    /// Whether it is sent to the producer of a duplicate.
    is_duplicate: bool,
}

impl Engine {
    /// Makes outcomes of the tracked messages among a queue's effects, and takes them out.
    pub(in crate::engine) fn tell(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        effects: &mut Effects,
        agenda: &mut Agenda,
    ) {
        let mut tracked = effects.removed.extract_if(.., |removed| removed.is_tracked).peekable();
        let mut missed = std::mem::take(&mut effects.missed);
        while tracked.peek().is_some() || !missed.is_empty() {
            let mut outcomes = OutcomeBatch::of_queue(queue, now_ms);
            // Deadlines first: an ack at the same moment may turn such an outcome.
            let rest = missed.split_off(missed.len().min(SETTLED_MAX));
            std::mem::replace(&mut missed, rest)
                .into_iter()
                .for_each(|noted| outcomes.missed(self, noted));
            while missed.is_empty()
                && !outcomes.is_full()
                && let Some(removed) = tracked.next()
            {
                outcomes.removed(self, removed);
            }
            outcomes.carry_out(self, agenda);
        }
    }

    /// Makes the outcome of a message that reached no queue.
    pub(crate) fn tell_unroutable(&self, vhost: &Arc<Vhost>, message: Message) {
        let Some(tracking) = message.tracking() else { return };
        let (names, vhost) = ((NO_QUEUE, Arc::from("")), Some(Arc::clone(vhost)));
        let mut outcomes = OutcomeBatch::new(None, names, vhost, self.now_ms());
        let told = unroutable(&tracking, message.head().published_at_ms);
        outcomes.tell(self, &told, SettledMessage::new(told.verdict, message, tracking, None));
        self.with_agenda(|agenda| outcomes.carry_out(self, agenda));
    }
}

impl OutcomeBatch {
    pub(crate) fn of_queue(queue: &Arc<LiveQueue>, now_ms: u64) -> Self {
        let names = (queue.id, Arc::clone(&queue.name));
        Self::new(Some(Arc::clone(queue)), names, queue.vhost.upgrade(), now_ms)
    }

    pub(super) fn new(
        queue: Option<Arc<LiveQueue>>,
        (queue_id, queue_name): (QueueId, Arc<str>),
        vhost: Option<Arc<Vhost>>,
        now_ms: u64,
    ) -> Self {
        let settings = queue.as_ref().map(|queue| Arc::clone(&queue.settings()));
        Self {
            settings: settings.unwrap_or_default(),
            queue,
            queue_id,
            queue_name,
            vhost,
            now_ms,
            settled: Vec::new(),
            received: Vec::new(),
            plain: Vec::new(),
            notifications: Vec::new(),
            confirms: Vec::new(),
            kept_bytes: 0,
            dead: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// A tracked message that left the queue.
    pub(crate) fn removed(&mut self, engine: &Engine, mut removed: Removed) {
        let (reason, position) = (removed.reason, removed.position);
        let message = engine.message_at(removed.message.take(), position);
        let tracking = message.as_ref().and_then(Message::tracking);
        let (Some(message), Some(tracking)) = (message, tracking) else {
            // Not settled: a restart may be able to read it, and then it has its outcome.
            self.confirms.push((report_ticket(removed.by.as_ref()), false));
            return;
        };
        let published_at_ms = message.head().published_at_ms;
        let decision = verdict(&removed, &tracking, published_at_ms, &self.settings);
        let (by, is_sent_on) = (removed.by.take(), removed.dead_letter);
        if is_sent_on {
            self.send_on(engine, &message, removed);
        }
        match decision {
            Decision::OutcomeMessage { is_received } => {
                self.plain.push((reason, position));
                self.received.push((tracking, is_received));
            }
            Decision::StaysMissed { verdict, frees_id } => {
                self.plain.push((reason, position));
                self.confirms.push((report_ticket(by.as_ref()), false));
                let settled = SettledMessage::new(verdict, message, tracking, position);
                if frees_id {
                    engine.forget_id(&self.queue_name, IdHash(tracking.id));
                }
                self.tell_duplicates(engine, &settled);
            }
            Decision::Settled(told) => {
                if told.frees_id {
                    engine.forget_id(&self.queue_name, IdHash(tracking.id));
                }
                let target = self.settings.dead_letter.as_ref().filter(|_| is_sent_on);
                let dead_letter_exchange = target.map(|target| target.exchange.clone());
                let content = self.content_to_keep(engine, &told, &message);
                let settled = SettledMessage::new(told.verdict, message, tracking, position);
                let settles = true;
                let settled =
                    SettledMessage { settles, by, dead_letter_exchange, content, ..settled };
                self.tell(engine, &told, settled);
            }
        }
    }

    /// A tracked message whose deadline has passed; it stays.
    fn missed(&mut self, engine: &Engine, noted: Noted) {
        let Some(message) = engine.message_at(noted.message, noted.position) else { return };
        let Some(tracking) = message.tracking() else { return };
        let published_at_ms = message.head().published_at_ms;
        let told = deadline_missed(&tracking, noted.attempts, published_at_ms, &self.settings);
        let content = self.content_to_keep(engine, &told, &message);
        let settled = SettledMessage::new(told.verdict, message, tracking, noted.position);
        let settled = SettledMessage { content, ..settled };
        self.tell(engine, &told, settled);
    }

    /// Sends a dead message on; its settlement is logged here, with its outcome.
    fn send_on(&mut self, engine: &Engine, message: &Message, removed: Removed) {
        let Some(queue) = &self.queue else { return };
        let removed = Removed { message: Some(message.clone()), position: None, ..removed };
        self.dead.push(engine.prepare_dead_letter(queue, self.now_ms, removed));
    }

    /// Whether the next message should go into another batch.
    fn is_full(&self) -> bool {
        let count = self.settled.len() + self.plain.len() + self.received.len();
        count >= SETTLED_MAX || self.kept_bytes >= KEPT_BYTES_MAX
    }

    /// Head and content of a message that somebody may want to try again. On a disk that is nearly
    /// full they are not kept: what is purged to make room must not take as much elsewhere.
    fn content_to_keep(
        &mut self,
        engine: &Engine,
        told: &Told,
        message: &Message,
    ) -> Option<Vec<u8>> {
        let bytes = message.content().len();
        if !told.keeps_content || bytes > REPORT_BYTES_MAX || !engine.store.has_disk_room() {
            return None;
        }
        self.kept_bytes += bytes;
        Some([&message.encode_head(), message.content()].concat())
    }

    fn tell(&mut self, engine: &Engine, told: &Told, mut settled: SettledMessage) {
        let properties = settled.message.properties().unwrap_or_default();
        let report_ticket = report_ticket(settled.by.as_ref());
        if let Some(reply_to) = properties.reply_to.filter(|_| told.notifies) {
            let addressee = Addressee {
                reply_to,
                correlation_id: properties.correlation_id,
                ticket: report_ticket,
                is_duplicate: false,
            };
            if let Some(notification) = self.notification(engine, &settled, &addressee) {
                self.notifications.push(notification);
                settled.verdict.flags.insert(Flags::NOTIFIED);
            }
        }
        if !settled.verdict.is_notified() {
            // Nobody is notified, so nobody will ever ack what the worker has reported.
            self.confirms.push((report_ticket, false));
        }
        if let Some(is_good) = told.confirms {
            self.confirms.push((settled.tracking.ticket, is_good));
        }
        self.publish_to_watchers(engine, &settled);
        if told.tells_duplicates {
            self.tell_duplicates(engine, &settled);
        }
        self.settled.push(settled);
    }

    /// Adds producers who published the id again meanwhile. A dead-letter copy has the same id, but
    /// it is not what they published.
    fn tell_duplicates(&mut self, engine: &Engine, settled: &SettledMessage) {
        if settled.tracking.is_copy {
            return;
        }
        let outcome = settled.verdict.outcome;
        let key = dedup_key(IdHash(settled.tracking.id), &self.queue_name);
        for duplicate in engine.outcomes.duplicates.take(key) {
            let Duplicate { reply_to, correlation_id, notify, ticket, .. } = &duplicate;
            let original = settled.message.properties().unwrap_or_default().reply_to;
            let original = original.filter(|_| settled.verdict.is_notified());
            let is_asked = wants(*notify, outcome);
            let reply_to = reply_to.as_deref().map(BStr::new);
            let reply_to = reply_to.filter(|to| is_asked && Some(*to) != original);
            if let Some(reply_to) = reply_to {
                let correlation_id = correlation_id.as_deref().map(BStr::new);
                let addressee =
                    Addressee { reply_to, correlation_id, ticket: None, is_duplicate: true };
                let notification = self.notification(engine, settled, &addressee);
                self.notifications.extend(notification);
            }
            self.confirms.push((*ticket, outcome == Outcome::Processed));
        }
    }

    /// The outcome message for somebody who asked. `None` if the address leads nowhere, or to a queue
    /// that is full and refuses it.
    fn notification(
        &mut self,
        engine: &Engine,
        settled: &SettledMessage,
        to: &Addressee<'_>,
    ) -> Option<OutcomeNotification> {
        let recipient = engine.recipient(self.vhost.as_ref(), to.reply_to)?;
        let tracking = Tracking {
            id: settled.tracking.id,
            outcome_of: Some(self.queue_id),
            ticket: to.ticket,
            ..Tracking::default()
        };
        let mut outcome = self.outcome_message(settled, to.correlation_id);
        let flags = outcome.verdict.flags;
        outcome.verdict.flags = flags.with_if(to.is_duplicate, Flags::DUPLICATE);
        let message = encode(&outcome, ("", to.reply_to), Some(&tracking), self.now_ms);
        let is_reserved = self.reserve(engine, &recipient, &message)?;
        Some(OutcomeNotification { recipient, message, position: None, is_reserved })
    }

    /// Reserves room where it may be refused, and says whether it did. `None`: it is refused.
    fn reserve(
        &mut self,
        engine: &Engine,
        recipient: &Recipient,
        message: &Message,
    ) -> Option<bool> {
        let Recipient::Queue(target) = recipient else { return Some(false) };
        if !target.settings().may_refuse() {
            return Some(false);
        }
        let (now_ms, bytes) = (self.now_ms, message.body().len() as u64);
        let mut effects = Effects::default();
        let has_room = engine.with_core(target, now_ms, &mut effects, |core, effects| {
            core.reserve(now_ms, bytes, effects)
        });
        self.effects.push((Arc::clone(target), effects));
        has_room.filter(|has_room| *has_room)
    }

    fn outcome_message<'a>(
        &'a self,
        settled: &'a SettledMessage,
        correlation_id: Option<&'a BStr>,
    ) -> OutcomeMessage<'a> {
        settled.outcome_message(&self.queue_name, self.now_ms, correlation_id)
    }

    /// The same for everybody who watches outcomes; costs nothing when nobody does.
    fn publish_to_watchers(&mut self, engine: &Engine, settled: &SettledMessage) {
        let Some(vhost) = self.vhost.as_ref().filter(|vhost| vhost.outcomes_are_watched()) else {
            return;
        };
        let key = format!("{}.{}", settled.verdict.outcome.name(), self.queue_name);
        let key = &key[..key.floor_char_boundary(255)];
        let mut targets = vhost.queues_bound_to(OUTCOMES_EXCHANGE, key.into());
        targets.retain(|target| target.may_see(&self.queue_name));
        if targets.is_empty() {
            return;
        }
        let correlation_id = settled.message.properties().unwrap_or_default().correlation_id;
        let outcome = self.outcome_message(settled, correlation_id);
        let message = encode(&outcome, (OUTCOMES_EXCHANGE, key.into()), None, engine.now_ms());
        self.notifications.extend(targets.into_iter().map(|target| OutcomeNotification {
            recipient: Recipient::Queue(target),
            message: message.clone(),
            position: None,
            is_reserved: false,
        }));
    }

    /// Whether there is nothing to log.
    pub(crate) fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.plain.is_empty()
    }

    /// Logs the batch as a group of its own, and does what follows.
    fn carry_out(mut self, engine: &Engine, agenda: &mut Agenda) {
        let keeps_bodies = engine.keeps_bodies();
        let waiter: Arc<dyn Waiter> = engine.outcomes.notifications.clone();
        let waiter = Some(&waiter).filter(|_| !self.notifications.is_empty());
        let ((), end) = engine.store.append(waiter, |appender| {
            appender.batch.begin_group();
            self.log(appender, keeps_bodies);
            appender.batch.end_group();
        });
        self.finish(engine, end, agenda);
    }

    /// Appends everything, within the caller's group.
    pub(crate) fn log(&mut self, appender: &mut Appender<'_>, keeps_bodies: bool) {
        self.log_settlements(appender);
        self.received.sort_by_key(|(tracking, _)| tracking.outcome_of);
        for run in self.received.chunk_by(|a, b| a.0.outcome_of == b.0.outcome_of) {
            let received = run.iter().filter(|(_, is_received)| *is_received);
            if let Some(of) = run[0].0.outcome_of {
                let received = received.map(|(tracking, _)| tracking);
                append_received(appender, of, self.now_ms, received);
            }
        }
        for notification in &mut self.notifications {
            notification.log(appender, keeps_bodies);
        }
        for dead in &mut self.dead {
            dead.log(appender, keeps_bodies);
        }
    }

    fn log_settlements(&self, appender: &mut Appender<'_>) {
        let queue_id = self.queue_id;
        let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
        for run in self.plain.chunk_by(|a, b| a.0 == b.0) {
            let positions = run.iter().filter_map(|(_, position)| *position).map(Position::get);
            records::append_settled(batch, queue_id, run[0].0 as u8, positions, scratch);
        }
        let vhost = self.vhost.as_ref().map_or("", |vhost| &vhost.realm);
        let (queue, time_ms) = (&*self.queue_name, self.now_ms);
        let head = OutcomesHead { queue_id, vhost, queue, time_ms };
        let mut left = self.settled.iter().peekable();
        while left.peek().is_some() {
            let mut writer = OutcomesWriter::new(scratch, &head);
            let mut kept_bytes = 0;
            while kept_bytes < KEPT_BYTES_MAX
                && let Some(settled) = left.next()
            {
                writer.push(&settled.entry());
                kept_bytes += settled.content.as_ref().map_or(0, Vec::len);
            }
            writer.append(batch);
        }
        let missed = self.settled.iter().filter(|settled| !settled.settles);
        let positions = missed.filter_map(|missed| missed.position).map(Position::get);
        append_missed(batch, queue_id, positions, scratch);
    }

    /// Sends on what was logged before `end`.
    pub(crate) fn finish(self, engine: &Engine, end: u64, agenda: &mut Agenda) {
        let held = &engine.outcomes.held_confirms;
        let of_workers = self.received.iter().map(|(tracking, is)| (tracking.ticket, *is));
        let decided = self.confirms.iter().copied().chain(of_workers);
        let outboxes: Vec<Arc<Outbox>> =
            decided.filter_map(|(ticket, is_good)| held.settle(ticket, is_good, end)).collect();
        engine.wake_when_durable(outboxes);
        let keys = self.settled.iter().filter(|settled| settled.settles);
        let keys = keys.map(|settled| dedup_key(IdHash(settled.tracking.id), &self.queue_name));
        engine.ask_again_after(end, keys);
        self.effects.into_iter().for_each(|(queue, effects)| agenda.add(&queue, effects));
        engine.notify(end, self.notifications, agenda);
        for dead in self.dead {
            engine.deliver_dead_letter(dead, self.now_ms, agenda);
        }
    }
}

/// The confirm that waits for the producer to receive a worker's report.
fn report_ticket(by: Option<&Arc<SettledBy>>) -> Option<Ticket> {
    by?.report.as_ref()?.ticket
}
