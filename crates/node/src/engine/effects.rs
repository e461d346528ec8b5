//! What follows from work on a queue: settlements are logged, dead letters are sent on.
//!
//! *Invariant:* a settlement and the dead-letter copy it causes are one group in the log, so a
//! crash leaves both or neither.

use std::sync::Arc;

use amqp::{BStr, ByteSlice};
use broker::dead_letter::{Death, dead_letter, is_cycle};
use broker::exchange::ExchangeDefinition;
use broker::queue::{DeadLetterAddress, Effects, Incoming, Removed};
use broker::{BrokerError, Message, Position, QueueId};
use outcome::Reason;

use super::{Agenda, Engine};
use crate::registry::{LiveQueue, Vhost};
use crate::store::{Appender, records};

/// The most removals whose memory is kept for the next effects.
const SPARE_EFFECTS_MAX: usize = 1024;

/// A message that died, and the copy that is sent on. It is first prepared, then logged, then
/// delivered.
pub(crate) struct DeadLetter {
    queue: QueueId,
    removed: Removed,
    /// `None` if it goes nowhere.
    copy: Option<Message>,
    targets: Vec<Arc<LiveQueue>>,
    /// It cannot be read now. It is not settled, because a restart may be able to read it.
    is_unreadable: bool,
    /// The copy's place in the log.
    position: Option<Position>,
}

impl Engine {
    /// Does what follows from work on a queue, and puts further consequences on the agenda.
    pub(super) fn apply(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        mut effects: Effects,
        agenda: &mut Agenda,
    ) {
        self.log_effects(queue, &effects);
        self.tell(queue, now_ms, &mut effects, agenda);
        for removed in effects.removed {
            if removed.dead_letter {
                self.dead_letter(queue, now_ms, removed, agenda);
            }
        }
    }

    /// Does everything that follows from work on a queue, and gives the effects' memory back for
    /// reuse if it is small.
    pub(super) fn apply_and_empty(&self, queue: &Arc<LiveQueue>, mut effects: Effects) -> Effects {
        let is_special = effects.special_count > 0 || !effects.missed.is_empty();
        if is_special || effects.removed.capacity() > SPARE_EFFECTS_MAX {
            self.with_agenda(|agenda| agenda.add(queue, effects));
            return Effects::default();
        }
        self.log_effects(queue, &effects);
        effects.removed.clear();
        effects.attempts.clear();
        effects
    }

    fn log_effects(&self, queue: &LiveQueue, effects: &Effects) {
        let has_settled = effects.removed.iter().any(is_plain);
        if has_settled || !effects.attempts.is_empty() {
            self.store.append(None, |appender| append_effects(appender, queue.id, effects));
        }
    }

    /// Sends a dead message on.
    fn dead_letter(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        removed: Removed,
        agenda: &mut Agenda,
    ) {
        let mut dead = self.prepare_dead_letter(queue, now_ms, removed);
        let keeps_bodies = self.keeps_bodies();
        self.store.append(None, |appender| {
            appender.batch.begin_group();
            dead.log(appender, keeps_bodies);
            appender.batch.end_group();
        });
        self.deliver_dead_letter(dead, now_ms, agenda);
    }

    /// Prepares a dead message. If there is no dead-letter exchange of that name, it goes nowhere.
    pub(crate) fn prepare_dead_letter(
        &self,
        queue: &Arc<LiveQueue>,
        now_ms: u64,
        removed: Removed,
    ) -> DeadLetter {
        let message = self.load(removed.message.clone(), removed.position);
        let mut dead = DeadLetter {
            queue: queue.id,
            removed,
            copy: None,
            targets: Vec::new(),
            is_unreadable: message.is_err(),
            position: None,
        };
        match message {
            Ok(message) => dead.find_targets(queue, now_ms, &message),
            Err(error) => tracing::error!(
                queue = &*queue.name,
                position = dead.removed.position.map(Position::get),
                "a dead message cannot be read, and stays until a restart: {error}"
            ),
        }
        dead
    }

    /// Puts a dead message, which has been logged, into its queues.
    pub(crate) fn deliver_dead_letter(&self, dead: DeadLetter, now_ms: u64, agenda: &mut Agenda) {
        let DeadLetter { copy: Some(copy), targets, position, .. } = dead else { return };
        let keep_body = position.is_none() || self.keeps_bodies();
        for target in targets {
            let incoming = Incoming { message: copy.clone(), position, keep_body };
            let mut effects = Effects::default();
            let published = self.with_core(&target, now_ms, &mut effects, |core, effects| {
                core.publish(now_ms, incoming, effects)
            });
            if published.is_none() {
                self.lose(&target, Some(copy.clone()), position, agenda);
            }
            agenda.add_descendants(target, effects);
        }
    }

    /// A queue was deleted after a message for it was logged: that is the message's outcome there.
    pub(crate) fn lose(
        &self,
        queue: &Arc<LiveQueue>,
        message: Option<Message>,
        position: Option<Position>,
        agenda: &mut Agenda,
    ) {
        if !message.as_ref().is_some_and(|message| message.head().is_tracked) {
            self.log_lost(queue, position);
            return;
        }
        let mut effects = Effects::default();
        effects.removed.push(Removed {
            message,
            position,
            reason: Reason::QueueDeleted,
            dead_letter: false,
            is_tracked: true,
            missed_deadline: false,
            attempts: 0,
            by: None,
        });
        self.tell(queue, self.now_ms(), &mut effects, agenda);
    }

    /// The same for messages that nobody tracks.
    pub(crate) fn log_lost(&self, queue: &LiveQueue, position: Option<Position>) {
        if let Some(position) = position {
            self.store.append(None, |appender| {
                let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
                let reason = Reason::QueueDeleted as u8;
                records::append_settled(
                    batch,
                    queue.id,
                    reason,
                    std::iter::once(position.get()),
                    scratch,
                );
            });
        }
    }
}

impl DeadLetter {
    /// Makes the copy and finds the queues it goes to.
    fn find_targets(&mut self, queue: &Arc<LiveQueue>, now_ms: u64, message: &Message) {
        let settings = queue.settings();
        // It goes nowhere if its virtual host or the exchange does not exist.
        let (Some(vhost), Some(reason), Some(target)) = (
            queue.vhost.upgrade(),
            self.removed.reason.dead_letter_name(),
            settings.dead_letter.as_ref(),
        ) else {
            return;
        };
        let DeadLetterAddress { exchange, routing_key } = target;
        let routing_key = routing_key.as_deref();
        let death = Death { queue: &queue.name, reason, exchange, routing_key, now_ms };
        match copy_and_targets(&vhost, message, &death) {
            Ok((copy, targets)) => (self.copy, self.targets) = (Some(copy), targets),
            Err(error) => tracing::warn!(
                queue = &*queue.name,
                exchange,
                "a dead message is not sent on: {error}"
            ),
        }
    }

    /// Appends its settlement and its copy, within the caller's group.
    pub(crate) fn log(&mut self, appender: &mut Appender<'_>, keeps_bodies: bool) {
        let Self { queue, removed, copy, targets, position, is_unreadable } = self;
        if *is_unreadable {
            return;
        }
        if let Some(position) = removed.position {
            let position = std::iter::once(position.get());
            let (batch, scratch) = (&mut *appender.batch, &mut *appender.scratch);
            records::append_settled(batch, *queue, removed.reason as u8, position, scratch);
        }
        if let Some(copy) = copy.as_ref().filter(|_| !targets.is_empty()) {
            let is_durable = copy.head().persistent && targets.iter().any(|target| target.durable);
            if is_durable || copy.head().is_tracked || !keeps_bodies {
                let ids = targets.iter().map(|target| target.id);
                *position = Some(Position::new(records::append_message(appender.batch, ids, copy)));
            }
        }
    }
}

/// A dead message's copy, and the queues it is routed to.
fn copy_and_targets(
    vhost: &Vhost,
    message: &Message,
    death: &Death<'_>,
) -> Result<(Message, Vec<Arc<LiveQueue>>), BrokerError> {
    if ExchangeDefinition::is_of_broker(death.exchange) {
        // A definition from before this was refused.
        let text = format!("only the broker publishes to exchange '{}'", death.exchange);
        return Err(BrokerError::access_refused(text));
    }
    let (copy, keys) = dead_letter(message, death, &mut Vec::new())?;
    let keys: Vec<&BStr> = keys.iter().map(|key| key.as_bstr()).collect();
    let headers = copy.properties()?.headers;
    let mut ids: Vec<QueueId> = Vec::new();
    let state = vhost.state.read();
    state.topology.route(death.exchange, keys[0], &keys[1..], headers, &mut ids)?;
    let targets = ids.iter().filter_map(|id| state.queues.get(id));
    let targets = targets.filter(|target| !is_cycle(&copy, death.reason, &target.name)).cloned();
    let targets = targets.collect();
    drop(state);
    Ok((copy, targets))
}

/// Whether a settlement is all there is to log; other removals are logged with their consequences.
fn is_plain(removed: &Removed) -> bool {
    removed.position.is_some() && !removed.dead_letter && !removed.is_tracked
}

/// Appends a queue's settlements, one record per run of the same reason, and its attempts.
pub(crate) fn append_effects(appender: &mut Appender<'_>, queue: QueueId, effects: &Effects) {
    let Appender { batch, scratch, .. } = appender;
    for run in effects.removed.chunk_by(|a, b| a.reason == b.reason) {
        let logged = run.iter().filter(|removed| is_plain(removed));
        let positions = logged.filter_map(|removed| removed.position).map(Position::get);
        records::append_settled(batch, queue, run[0].reason as u8, positions, scratch);
    }
    if !effects.attempts.is_empty() {
        records::append_attempts(batch, queue, &effects.attempts);
    }
}
