//! Messages whose outcome somebody may ask for: what they request, how they are identified, whether
//! they have been here before.

use std::sync::Arc;

use amqp::{BStr, BString, Properties};
use broker::{BrokerError, Message, Tracking};
use ledger::dedup_key;
use outcome::{DEADLINE_MS_DEFAULT, IdHash, OutcomeRequest, Ticket};

use crate::auth::Access;
use crate::engine::outcomes::duplicates::Duplicate;
use crate::engine::outcomes::held_confirms::Held;
use crate::engine::outcomes::ids_in_flight::{Question, take_in};
use crate::registry::{LiveQueue, UserUse};
use crate::session::headers::Headers;
use crate::session::publishes::Pending;
use crate::session::routes::Route;
use crate::session::state::Session;

impl Session {
    /// What travels with a message; `None` for an ordinary one. Its ticket is drawn later, when
    /// nothing can go wrong any more.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` for a request that does not say whom to tell, `ACCESS_REFUSED` if this
    /// user may not publish where the outcome message is to go.
    pub(super) fn tracking(
        &mut self,
        properties: &Properties<'_>,
        message_id: Option<&BStr>,
        headers: &Headers,
        route: &Route,
        (exchange, now_ms): (&str, u64),
    ) -> Result<Option<Tracking>, BrokerError> {
        let Some(message_id) = message_id else { return Ok(None) };
        let notify = headers.request.notify;
        if notify.is_some() && properties.reply_to.is_none() {
            let text = "x-notify needs the property reply_to: the queue to send the outcome to";
            return Err(BrokerError::precondition_failed(text));
        }
        if notify.is_some() {
            self.check_may_be_notified()?;
        }
        let request = headers.request.or(route.request);
        let waits_for_ack = request.confirm_on_ack == Some(true) && !self.confirms_when_stored;
        let deadline_ms = request.deadline_ms.or(waits_for_ack.then_some(DEADLINE_MS_DEFAULT));
        // An id chosen by the broker occurs only once.
        let has_own_id = properties.message_id.is_some_and(|id| !id.is_empty());
        let is_asking = self.deduplicates.unwrap_or_else(|| headers.request.is_any());
        let deduplicates = |of: Option<bool>| of.unwrap_or(is_asking);
        let looks = route.queues.iter().any(|queue| deduplicates(queue.settings().deduplicates));
        Ok(Some(Tracking {
            id: IdHash::new(&self.vhost.realm, message_id).0,
            is_deduplicated: has_own_id && looks,
            is_unanswerable: !exchange.is_empty() && !self.may_be_notified(),
            notify,
            queue_count: route.queues.len() as u16,
            deadline_at_ms: deadline_ms.map_or(0, |ms| now_ms.saturating_add(ms)),
            ..Tracking::default()
        }))
    }

    /// The id of a message that is to be tracked, its own or a new one, and whether it is new;
    /// `None` for an ordinary message.
    pub(super) fn tracked_id(
        &mut self,
        properties: &Properties<'_>,
        headers: &Headers,
        route: &Route,
        now_ms: u64,
    ) -> Option<(BString, bool)> {
        let mut is_asked = || {
            headers.request.is_any()
                || route.request.is_any()
                || route.notifies && properties.reply_to.is_some() && self.may_be_notified()
        };
        match properties.message_id {
            Some(id) if !id.is_empty() => Some((id.to_owned(), false)),
            _ if is_asked() => {
                let (seconds, ms) = (now_ms / 1000, now_ms % 1000);
                let time =
                    uuid::Timestamp::from_unix(uuid::NoContext, seconds, ms as u32 * 1_000_000);
                Some((uuid::Uuid::new_v7(time).to_string().into(), true))
            }
            _ => None,
        }
    }

    /// Holds the confirm of a message until it has been acked everywhere; returns its ticket.
    pub(super) fn hold_confirm(
        &mut self,
        number: u16,
        message: u64,
        queue_count: u16,
        deadline_at_ms: u64,
    ) -> Option<Ticket> {
        let outbox = Arc::downgrade(&self.outbox);
        let channel = self.channels.get_mut(&number)?;
        let confirms = channel.confirms.as_mut()?;
        confirms.hold(message);
        self.engine.outcomes.held_confirms.hold(Held {
            outbox,
            channel: number,
            channel_serial: channel.serial,
            number: message,
            remaining: queue_count.max(1),
            failed: false,
            deadline_at_ms,
            position: 0,
        })
    }

    /// Whether a publisher's confirm waits for an ack.
    pub(super) fn waits_for_ack(&mut self, number: u16, request: OutcomeRequest) -> bool {
        request.confirm_on_ack == Some(true)
            && !self.confirms_when_stored
            && self.channels.get(&number).is_some_and(|channel| channel.confirms.is_some())
    }

    /// An outcome message is published on behalf of the producer, who must be allowed to do that.
    fn check_may_be_notified(&mut self) -> Result<(), BrokerError> {
        match self.may_be_notified() {
            true => Ok(()),
            false => self.check(Access::Write, "exchange", ""),
        }
    }

    fn may_be_notified(&mut self) -> bool {
        let epoch = self.vhost.epoch();
        if let Some((_, may)) = self.may_be_notified_at.filter(|(at, _)| *at == epoch) {
            return may;
        }
        let may = self.check(Access::Write, "exchange", "").is_ok();
        self.may_be_notified_at = Some((epoch, may));
        may
    }

    /// Appends a batch with `append`, except for the messages that their queues have seen before:
    /// those are returned. The confirm of a duplicate stands for the original, so it waits for
    /// everything in the log.
    pub(super) fn append_once(
        &self,
        pending: &mut [Pending],
        now_ms: u64,
        append: impl FnOnce(&mut [Pending]),
    ) -> Vec<Duplicate> {
        let candidates = candidates(pending);
        if candidates.is_empty() {
            append(pending);
            return Vec::new();
        }
        let questions: Vec<Question> = candidates.iter().map(Candidate::question).collect();
        let ask_window = |place: usize| {
            self.engine.last_taken_in(&candidates[place].queue, candidates[place].id)
        };
        take_in(&self.engine.outcomes.ids, now_ms, &questions, ask_window, |known| {
            let known = candidates.iter().zip(known).filter(|(_, is_known)| **is_known);
            let known: Vec<&Candidate> = known.map(|(candidate, _)| candidate).collect();
            let of_message = known.chunk_by(|a, b| a.message == b.message);
            let duplicates = of_message
                .flat_map(|of| drop_duplicate(&mut pending[of[0].message], of, &self.user_use))
                .collect();
            append(pending);
            duplicates
        })
    }
}

/// A message that a queue takes only if it does not know its id.
struct Candidate {
    /// Its index in the batch.
    message: usize,
    id: IdHash,
    queue: Arc<LiveQueue>,
}

impl Candidate {
    fn question(&self) -> Question {
        let window_ms = self.queue.settings().window_ms.unwrap_or(u64::MAX);
        Question { key: dedup_key(self.id, &self.queue.name), window_ms }
    }
}

/// The messages of a batch with such a queue, queue by queue.
fn candidates(pending: &[Pending]) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (message, pending) in pending.iter().enumerate() {
        let tracking = pending.message.as_ref().and_then(Message::tracking);
        let Some(tracking) = tracking.filter(|tracking| tracking.is_deduplicated) else { continue };
        let looks = |queue: &&Arc<LiveQueue>| queue.settings().deduplicates.unwrap_or(pending.asks);
        let queues = pending.route.queues.iter().filter(looks);
        let id = IdHash(tracking.id);
        candidates.extend(queues.map(|queue| Candidate { message, id, queue: Arc::clone(queue) }));
    }
    candidates
}

/// Removes a message from the list of those queues that know it.
fn drop_duplicate(
    pending: &mut Pending,
    known: &[&Candidate],
    user: &Arc<UserUse>,
) -> Vec<Duplicate> {
    let is_known = |queue: &Arc<LiveQueue>| known.iter().any(|known| known.queue.id == queue.id);
    let unseen: Vec<_> =
        pending.route.queues.iter().filter(|queue| !is_known(queue)).cloned().collect();
    let message = match unseen.is_empty() {
        true => pending.message.take(),
        false => pending.message.clone(),
    };
    let Route { is_durable, keeps_transient, request, notifies, .. } = *pending.route;
    let route = Route { queues: unseen, is_durable, keeps_transient, request, notifies };
    pending.route = Arc::new(route);
    let Some(message) = message else { return Vec::new() };
    let tracking = message.tracking().unwrap_or_default();
    let properties = message.properties().unwrap_or_default();
    let duplicate = |known: &&Candidate| Duplicate {
        notify: tracking.notify_or(known.queue.settings().request.notify),
        queue: Arc::clone(&known.queue),
        id: known.id,
        reply_to: properties.reply_to.map(ToOwned::to_owned),
        correlation_id: properties.correlation_id.map(ToOwned::to_owned),
        ticket: tracking.ticket,
        confirm: pending.confirm,
        user: Arc::clone(user),
    };
    known.iter().map(duplicate).collect()
}
