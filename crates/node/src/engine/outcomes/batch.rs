//! From what left a queue to what is logged and told.
//!
//! In three steps, so that a transaction can put the second into its own group: *prepare* reads
//! what must be read and makes the messages, *log* appends everything as one group of the caller,
//! *finish* sends the messages on their way and decides confirms.

use std::sync::Arc;

use broker::queue::{Effects, NO_POSITION, Noted, Removed};
use broker::{Message, QueueId, Tracking};
use ledger::{IdHash, dedup_key};
use outcome::{Flags, Outcome, REPORT_BYTES_MAX, Reason, SettledBy};

use super::duplicates::Duplicate;
use super::notifications::{Notice, Target};
use super::settled_message::{Told, encode, wants};
use crate::engine::Engine;
use crate::engine::{Agenda, DeadLetter};
use crate::names::OUTCOMES_EXCHANGE;
use crate::registry::LiveQueue;
use crate::registry::Outbox;
use crate::registry::Vhost;
use crate::store::outcome_records::{
    NO_QUEUE, Note, NoteKind, NotesHead, OutcomesHead, OutcomesWriter, append_missed, append_notes,
};
use crate::store::{Appender, Waiter, records};

/// Messages told in one group of the log.
const TOLD_MAX: usize = 512;
/// Bytes of messages that are kept, to be tried again, in one group.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What has left one queue, prepared.
pub(crate) struct Telling {
    /// `None` for what reached no queue.
    queue: Option<Arc<LiveQueue>>,
    queue_id: QueueId,
    queue_name: Arc<str>,
    vhost: Option<Arc<Vhost>>,
    now_ms: u64,
    told: Vec<Told>,
    /// Outcome messages that left, and whether by an ack.
    received: Vec<(Tracking, bool)>,
    /// Settlements without an outcome: of outcome messages, and where a missed deadline was it.
    plain: Vec<(Reason, u64)>,
    notices: Vec<Notice>,
    /// Confirms that are decided by this, and how.
    confirms: Vec<(u64, bool)>,
    /// Bytes of messages kept to be tried again.
    kept_bytes: usize,
    dead: Vec<DeadLetter>,
}

impl Engine {
    /// Tells what became of the tracked messages among a queue's effects, and takes them out.
    pub(crate) fn tell(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        effects: &mut Effects,
        agenda: &mut Agenda,
    ) {
        let mut tracked = effects.removed.extract_if(.., |removed| removed.is_tracked).peekable();
        let mut missed = std::mem::take(&mut effects.missed);
        while tracked.peek().is_some() || !missed.is_empty() {
            let mut telling = Telling::of_queue(queue, now_ms);
            // Deadlines first: an ack in the same moment may turn one.
            let rest = missed.split_off(missed.len().min(TOLD_MAX));
            std::mem::replace(&mut missed, rest)
                .into_iter()
                .for_each(|noted| telling.missed(self, noted));
            if missed.is_empty() {
                tracked.by_ref().take(TOLD_MAX).for_each(|removed| telling.removed(self, removed));
            }
            telling.carry_out(self, agenda);
        }
    }

    /// Tells what became of a message that reached no queue.
    pub(crate) fn tell_unroutable(&self, vhost: &Arc<Vhost>, message: Message) {
        let Some(tracking) = message.tracking() else { return };
        let (queue_id, queue_name, now_ms) = (NO_QUEUE, Arc::from(""), self.now_ms());
        let vhost = Some(Arc::clone(vhost));
        let mut telling = Telling::new(None, (queue_id, queue_name), vhost, now_ms);
        let told = Told::without_settling(Outcome::Unroutable, message, tracking, NO_POSITION, 0);
        telling.tell(self, told);
        self.with_agenda(|agenda| telling.carry_out(self, agenda));
    }

    /// Logs that tracked messages were given back.
    pub(crate) fn note_requeued(&self, queue: &LiveQueue, now_ms: u64, requeued: Vec<Noted>) {
        let note = |noted: Noted| {
            let message = self.message_at(noted.message, noted.position)?;
            let tracking = message.followed()?;
            let (attempts, retry_at_ms) = (noted.attempts, noted.retry_at_ms);
            Some(Note { id: tracking.id, attempts, retry_at_ms })
        };
        let notes: Vec<Note> = requeued.into_iter().filter_map(note).collect();
        self.log_notes(NoteKind::Requeued, queue, "", now_ms, notes);
    }

    /// Logs what the ledger is to show and nothing else depends on.
    pub(crate) fn log_notes(
        &self,
        kind: NoteKind,
        queue: &LiveQueue,
        worker: &str,
        time_ms: u64,
        notes: Vec<Note>,
    ) {
        if notes.is_empty() {
            return;
        }
        let head = NotesHead { kind, queue_id: queue.id, queue: &queue.name, worker, time_ms };
        self.store.append(None, |appender| {
            append_notes(appender.batch, &head, notes.into_iter(), appender.scratch);
        });
    }

    /// An outcome message has reached its producer by direct reply-to.
    pub(crate) fn outcome_received(&self, message: &Message) {
        let Some(tracking) = message.tracking() else { return };
        let Some(of) = tracking.outcome_of else { return };
        let now_ms = self.now_ms();
        let ((), end) = self.store.append(None, |appender| {
            append_received(appender, of, now_ms, std::iter::once(&tracking));
        });
        let outbox = self.outcomes.tickets.settle(tracking.ticket, true, end);
        self.wake_when_durable(outbox.into_iter().collect());
    }

    fn message_at(&self, message: Option<Message>, position: u64) -> Option<Message> {
        if message.is_some() {
            return message;
        }
        match self.store.read_message(position) {
            Ok(message) => Some(message),
            Err(error) => {
                tracing::error!(position, "the outcome of a message cannot be told: {error}");
                None
            }
        }
    }
}

impl Telling {
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
        Self {
            queue,
            queue_id,
            queue_name,
            vhost,
            now_ms,
            told: Vec::new(),
            received: Vec::new(),
            plain: Vec::new(),
            notices: Vec::new(),
            confirms: Vec::new(),
            kept_bytes: 0,
            dead: Vec::new(),
        }
    }

    /// A tracked message that left the queue.
    pub(crate) fn removed(&mut self, engine: &Engine, mut removed: Removed) {
        let (reason, position) = (removed.reason, removed.position);
        let message = engine.message_at(removed.message.take(), position);
        let tracking = message.as_ref().and_then(Message::tracking);
        let (Some(message), Some(tracking)) = (message, tracking) else {
            // Not settled: a restart may be able to read it, and then it is told.
            self.confirms.push((report_ticket(removed.by.as_ref()), false));
            return;
        };
        let outcome = reason.outcome();
        let is_sent_on = removed.dead_letter;
        let (by, attempts) = (removed.by.take(), removed.attempts);
        let missed_deadline = removed.missed_deadline;
        if is_sent_on {
            removed.message = Some(message.clone());
            // Its settlement is logged here, with its outcome.
            removed.position = NO_POSITION;
            if let Some(queue) = &self.queue {
                self.dead.push(engine.prepare_dead_letter(queue, self.now_ms, removed));
            }
        }
        if tracking.outcome_of.is_some() {
            self.plain.push((reason, position));
            self.received.push((tracking, outcome == Outcome::Processed));
            return;
        }
        if missed_deadline && outcome != Outcome::Processed {
            // The deadline was its outcome, and stays it.
            self.plain.push((reason, position));
            let told = Told::without_settling(
                Outcome::DeadlineMissed,
                message,
                tracking,
                position,
                attempts,
            );
            self.confirms.push((report_ticket(by.as_ref()), false));
            self.tell_duplicates(engine, &told);
            return;
        }
        let arguments = self.queue.as_ref().map(|queue| &queue.arguments);
        if reason == Reason::Refused && tracking.is_deduplicated {
            engine.forget_id(self.queue_id, IdHash(tracking.id));
        }
        let exchange = arguments.and_then(|arguments| arguments.dead_letter_exchange.clone());
        let content = self.content_to_keep(&message, reason, tracking.is_copy);
        let mut told = Told::settling(reason, message, tracking, position, attempts);
        told.verdict.flags = told.verdict.flags.with_if(missed_deadline, Flags::LATE);
        told.dead_letter_exchange = exchange.filter(|_| is_sent_on);
        (told.by, told.content) = (by, content);
        self.tell(engine, told);
    }

    /// Head and content of what somebody may want to be tried again, as far as there is room.
    fn content_to_keep(
        &mut self,
        message: &Message,
        reason: Reason,
        is_copy: bool,
    ) -> Option<Vec<u8>> {
        let may_be_retried = matches!(
            reason,
            Reason::Rejected
                | Reason::DeliveryLimit
                | Reason::Expired
                | Reason::MaxLength
                | Reason::Cancelled
        );
        let bytes = message.content().len();
        if is_copy
            || !may_be_retried
            || bytes > REPORT_BYTES_MAX
            || self.kept_bytes > KEPT_BYTES_MAX
        {
            return None;
        }
        self.kept_bytes += bytes;
        Some([&message.encode_head(), message.content()].concat())
    }

    /// A tracked message whose deadline has passed; it stays.
    pub(crate) fn missed(&mut self, engine: &Engine, noted: Noted) {
        let Some(message) = engine.message_at(noted.message, noted.position) else { return };
        let Some(tracking) = message.tracking() else { return };
        let (missed, position) = (Outcome::DeadlineMissed, noted.position);
        let told = Told::without_settling(missed, message, tracking, position, noted.attempts);
        self.tell(engine, told);
    }

    fn tell(&mut self, engine: &Engine, mut told: Told) {
        let queue_asks = self.queue.as_ref().and_then(|queue| queue.settings.asking.notify);
        let queue_asks = queue_asks.filter(|_| !told.tracking.is_copy);
        let notify = told.tracking.notify.or(queue_asks);
        let properties = told.message.properties().unwrap_or_default();
        let report_ticket = report_ticket(told.by.as_ref());
        let asked = wants(notify, told.verdict.outcome);
        if let Some(reply_to) = properties.reply_to.filter(|_| asked) {
            let asking = (reply_to, properties.correlation_id, report_ticket, false);
            if let Some(notice) = self.notice(engine, &told, asking) {
                self.notices.push(notice);
                told.verdict.flags.insert(Flags::NOTIFIED);
            }
        }
        if report_ticket != 0 && !told.verdict.is_notified() {
            // Nobody is told, so nobody will ever ack it.
            self.confirms.push((report_ticket, false));
        }
        if !told.verdict.is_late() {
            self.confirms.push((told.tracking.ticket, told.verdict.outcome == Outcome::Processed));
        }
        self.publish_to_watchers(engine, &told);
        if told.verdict.reason.is_some() {
            self.tell_duplicates(engine, &told);
        }
        self.told.push(told);
    }

    /// Producers who published the id again meanwhile.
    fn tell_duplicates(&mut self, engine: &Engine, told: &Told) {
        if told.tracking.is_copy {
            // It bears the same id, but it is not what they published.
            return;
        }
        let key = dedup_key(IdHash(told.tracking.id), self.queue_id.0);
        for duplicate in engine.outcomes.duplicates.take(key) {
            let Duplicate { reply_to, correlation_id, notify, ticket, .. } = &duplicate;
            let original = told.message.properties().unwrap_or_default().reply_to;
            let original = original.filter(|_| told.verdict.is_notified());
            let asked = wants(*notify, told.verdict.outcome);
            if let Some(reply_to) = reply_to.as_deref().filter(|to| asked && Some(*to) != original)
            {
                let asking = (reply_to, correlation_id.as_deref(), 0, true);
                self.notices.extend(self.notice(engine, told, asking));
            }
            self.confirms.push((*ticket, told.verdict.outcome == Outcome::Processed));
        }
    }

    /// The outcome message for one who asked: address, correlation id, whose confirm waits for its
    /// being received, whether it is told again.
    fn notice(
        &self,
        engine: &Engine,
        told: &Told,
        (reply_to, correlation_id, ticket, is_duplicate): (&str, Option<&str>, u64, bool),
    ) -> Option<Notice> {
        let target = engine.notice_target(self.vhost.as_ref(), reply_to)?;
        let tracking = Tracking {
            id: told.tracking.id,
            outcome_of: Some(self.queue_id),
            ticket,
            ..Tracking::default()
        };
        let mut outcome = told.outcome_message(&self.queue_name, self.now_ms, correlation_id);
        outcome.verdict.flags = outcome.verdict.flags.with_if(is_duplicate, Flags::DUPLICATE);
        let message = encode(&outcome, ("", reply_to), Some(&tracking), self.now_ms);
        Some(Notice { target, message, position: NO_POSITION })
    }

    /// The same for everybody who watches outcomes; costs nothing when nobody does.
    fn publish_to_watchers(&mut self, engine: &Engine, told: &Told) {
        let Some(vhost) = self.vhost.as_ref().filter(|vhost| vhost.outcomes_are_watched()) else {
            return;
        };
        let key = format!("{}.{}", told.verdict.outcome.name(), self.queue_name);
        let key = &key[..key.floor_char_boundary(255)];
        let mut ids: Vec<QueueId> = Vec::new();
        let state = vhost.state.read();
        let routed = state.topology.route(OUTCOMES_EXCHANGE, key, &[], None, &mut ids);
        let targets: Vec<_> = ids.iter().filter_map(|id| state.queues.get(id).cloned()).collect();
        drop(state);
        if routed.is_err() || targets.is_empty() {
            return;
        }
        let correlation_id = told.message.properties().unwrap_or_default().correlation_id;
        let outcome = told.outcome_message(&self.queue_name, self.now_ms, correlation_id);
        let message = encode(&outcome, (OUTCOMES_EXCHANGE, key), None, engine.now_ms());
        self.notices.extend(targets.into_iter().map(|target| Notice {
            target: Target::Queue(target),
            message: message.clone(),
            position: NO_POSITION,
        }));
    }

    /// Whether somebody waits for this to be durable.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Whether there is nothing to log.
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.plain.is_empty()
    }

    /// Logs it as a group of its own, and does what follows.
    pub(super) fn carry_out(mut self, engine: &Engine, agenda: &mut Agenda) {
        let keeps_bodies = engine.keeps_bodies();
        let waiter: Arc<dyn Waiter> = engine.outcomes.notices.clone();
        let waiter = Some(&waiter).filter(|_| self.is_awaited());
        let ((), end) = engine.store.append(waiter, |appender| {
            appender.batch.begin_group();
            self.log(appender, keeps_bodies);
            appender.batch.end_group();
        });
        self.finish(engine, end, agenda);
    }

    /// Appends everything, within a group of the caller.
    pub(crate) fn log(&mut self, appender: &mut Appender<'_>, keeps_bodies: bool) {
        let queue_id = self.queue_id;
        let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
        for run in self.plain.chunk_by(|a, b| a.0 == b.0) {
            let positions = run.iter().map(|(_, at)| *at).filter(|at| *at != NO_POSITION);
            records::append_settled(batch, queue_id, run[0].0 as u8, positions, scratch);
        }
        let vhost = self.vhost.as_ref().map_or("", |vhost| &vhost.name);
        let (queue, time_ms) = (&*self.queue_name, self.now_ms);
        let head = OutcomesHead { queue_id, vhost, queue, time_ms };
        let mut writer = OutcomesWriter::new(scratch, &head);
        self.told.iter().for_each(|told| writer.push(&told.entry()));
        writer.append(batch);
        let missed = self.told.iter().filter(|told| !told.settles && told.position != NO_POSITION);
        append_missed(batch, queue_id, missed.map(|told| told.position), scratch);
        self.received.sort_by_key(|(tracking, _)| tracking.outcome_of);
        for run in self.received.chunk_by(|a, b| a.0.outcome_of == b.0.outcome_of) {
            let received = run.iter().filter(|(_, is_received)| *is_received);
            if let Some(of) = run[0].0.outcome_of {
                append_received(appender, of, time_ms, received.map(|(tracking, _)| tracking));
            }
        }
        for notice in &mut self.notices {
            notice.log(appender, keeps_bodies);
        }
        for dead in &mut self.dead {
            dead.log(appender, keeps_bodies);
        }
    }

    /// Sends on what was logged before `end`.
    pub(crate) fn finish(self, engine: &Engine, end: u64, agenda: &mut Agenda) {
        let tickets = &engine.outcomes.tickets;
        let of_workers = self.received.iter().map(|(tracking, is)| (tracking.ticket, *is));
        let decided = self.confirms.iter().copied().chain(of_workers).filter(|(t, _)| *t != 0);
        let outboxes: Vec<Arc<Outbox>> =
            decided.filter_map(|(ticket, is_good)| tickets.settle(ticket, is_good, end)).collect();
        engine.wake_when_durable(outboxes);
        let keys = self.told.iter().filter(|told| told.settles);
        let keys = keys.map(|told| dedup_key(IdHash(told.tracking.id), self.queue_id.0));
        engine.ask_after_telling(end, keys);
        engine.notify(end, self.notices, agenda);
        for dead in self.dead {
            engine.deliver_dead_letter(dead, self.now_ms, agenda);
        }
    }
}

/// Whose confirm waits for the producer to receive a worker's report; 0 for nobody's.
fn report_ticket(by: Option<&Arc<SettledBy>>) -> u64 {
    by.and_then(|by| by.report.as_ref()).map_or(0, |report| report.ticket)
}

/// Appends that producers acked outcome messages about one queue.
fn append_received<'a>(
    appender: &mut Appender<'_>,
    of: QueueId,
    time_ms: u64,
    received: impl Iterator<Item = &'a Tracking>,
) {
    let kind = NoteKind::Received;
    // The follower knows the queue by its id.
    let head = NotesHead { kind, queue_id: of, queue: "", worker: "", time_ms };
    let notes = received.map(|tracking| Note { id: tracking.id, attempts: 0, retry_at_ms: 0 });
    append_notes(appender.batch, &head, notes, appender.scratch);
}
