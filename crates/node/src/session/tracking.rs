//! Messages whose outcome somebody may ask for: what they ask, who they are, whether they were
//! here before.

use std::sync::Arc;

use amqp::Properties;
use broker::outcome::{Asking, DEADLINE_MS_DEFAULT};
use broker::{BrokerError, Message, Tracking};
use ledger::IdHash;

use super::Session;
use super::headers::Headers;
use super::publish::Pending;
use super::routes::Route;
use crate::auth::Access;
use crate::node::Node;
use crate::outcomes::duplicates::Duplicate;
use crate::outcomes::tickets::Held;

impl Session {
    /// What travels with a message; `None` when it is an ordinary one. Its ticket is drawn later,
    /// when nothing can go wrong any more.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` for a notice to nobody, `ACCESS_REFUSED` for one to where this user may
    /// not publish.
    pub(super) fn tracking(
        &mut self,
        properties: &Properties<'_>,
        message_id: Option<&str>,
        headers: &Headers,
        route: &Route,
        now_ms: u64,
    ) -> Result<Option<Tracking>, BrokerError> {
        let Some(message_id) = message_id else { return Ok(None) };
        let notify = headers.asking.notify;
        if notify.is_some() && properties.reply_to.is_none() {
            let text = "x-notify needs the property reply_to: the queue to send the outcome to";
            return Err(BrokerError::precondition_failed(text));
        }
        if properties.reply_to.is_some() && (notify.is_some() || route.asking.notify.is_some()) {
            self.check_may_be_notified()?;
        }
        let asking = headers.asking.or(route.asking);
        let waits_for_ack = asking.confirm_on_ack == Some(true);
        let deadline_ms = asking.deadline_ms.or(waits_for_ack.then_some(DEADLINE_MS_DEFAULT));
        // What the broker names itself comes once.
        let has_own_id = properties.message_id.is_some_and(|id| !id.is_empty());
        let is_asking = headers.asking.is_any();
        let deduplicates = |of: Option<bool>| of.unwrap_or(is_asking);
        let looks = route.queues.iter().any(|queue| deduplicates(queue.settings.deduplicates));
        Ok(Some(Tracking {
            id: IdHash::new(&self.vhost.name, message_id).0,
            is_deduplicated: has_own_id && looks,
            notify,
            queue_count: route.queues.len() as u16,
            deadline_at_ms: deadline_ms.map_or(0, |ms| now_ms.saturating_add(ms)),
            ..Tracking::default()
        }))
    }

    /// The id of a message that is to be tracked: its own, or a new one; `None` for an ordinary
    /// message. The second is whether it is new.
    pub(super) fn tracked_id(
        properties: &Properties<'_>,
        headers: &Headers,
        route: &Route,
        now_ms: u64,
    ) -> Option<(String, bool)> {
        match properties.message_id {
            Some(id) if !id.is_empty() => Some((id.to_owned(), false)),
            _ if headers.asking.is_any() || route.asking.is_any() => {
                let (seconds, ms) = (now_ms / 1000, now_ms % 1000);
                let time =
                    uuid::Timestamp::from_unix(uuid::NoContext, seconds, ms as u32 * 1_000_000);
                Some((uuid::Uuid::new_v7(time).to_string(), true))
            }
            _ => None,
        }
    }

    /// Holds the confirm of a message until it was acked everywhere; the number that names it.
    pub(super) fn hold_confirm(
        &mut self,
        number: u16,
        message: u64,
        queue_count: u16,
        deadline_at_ms: u64,
    ) -> u64 {
        let outbox = Arc::downgrade(&self.outbox);
        let Some(channel) = self.channels.get_mut(&number) else { return 0 };
        let Some(confirms) = channel.confirms.as_mut() else { return 0 };
        confirms.hold(message);
        self.node.outcomes.tickets.hold(Held {
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
    pub(super) fn waits_for_ack(&mut self, number: u16, asking: Asking) -> bool {
        asking.confirm_on_ack == Some(true)
            && self.channels.get(&number).is_some_and(|channel| channel.confirms.is_some())
    }

    /// An outcome message is published for the producer, so he must be allowed to.
    fn check_may_be_notified(&mut self) -> Result<(), BrokerError> {
        let epoch = self.vhost.epoch();
        if self.may_be_notified_at != Some(epoch) {
            self.check(Access::Write, "exchange", "")?;
            self.may_be_notified_at = Some(epoch);
        }
        Ok(())
    }

    /// Takes out of `pending` what its queues have seen before. The rest must be logged next, and
    /// then be said to be ([`Node::ids_are_logged`]); then the duplicates can be attached. The
    /// confirm of a duplicate stands for the original, so it waits for all that is in the log.
    pub(super) fn drop_duplicates(&self, pending: &mut [Pending], now_ms: u64) -> Vec<Duplicate> {
        let mut duplicates = Vec::new();
        for pending in pending {
            let Some(tracking) = pending.message.as_ref().and_then(Message::tracking) else {
                continue;
            };
            if tracking.is_deduplicated {
                self.drop_duplicate(pending, &tracking, now_ms, &mut duplicates);
            }
        }
        duplicates
    }

    fn drop_duplicate(
        &self,
        pending: &mut Pending,
        tracking: &Tracking,
        now_ms: u64,
        duplicates: &mut Vec<Duplicate>,
    ) {
        let id = IdHash(tracking.id);
        let looks = |of: Option<bool>| of.unwrap_or(pending.asks);
        let (seen, unseen): (Vec<_>, Vec<_>) =
            pending.route.queues.iter().cloned().partition(|queue| {
                looks(queue.settings.deduplicates)
                    && self.node.is_duplicate(queue, id, self.outbox.connection, now_ms)
            });
        if seen.is_empty() {
            return;
        }
        let message = match unseen.is_empty() {
            true => pending.message.take(),
            false => pending.message.clone(),
        };
        let (is_durable, keeps_transient) =
            (pending.route.is_durable, pending.route.keeps_transient);
        let asking = pending.route.asking;
        pending.route = Arc::new(Route { queues: unseen, is_durable, keeps_transient, asking });
        let properties = message.as_ref().and_then(|message| message.properties().ok());
        let properties = properties.unwrap_or_default();
        duplicates.extend(seen.into_iter().map(|queue| Duplicate {
            notify: tracking.notify.or(queue.settings.asking.notify),
            queue,
            id,
            reply_to: properties.reply_to.map(str::to_owned),
            correlation_id: properties.correlation_id.map(str::to_owned),
            ticket: tracking.ticket,
        }));
    }
}

impl Node {
    /// These are in the log: who publishes the same ids meanwhile waits for that.
    pub(super) fn ids_are_logged(&self, pending: &[Pending]) {
        for Pending { message, route, .. } in pending {
            let tracking = message.as_ref().and_then(Message::tracking);
            if let Some(tracking) = tracking.filter(|tracking| tracking.is_deduplicated) {
                let id = IdHash(tracking.id);
                route.queues.iter().for_each(|queue| self.id_is_logged(queue, id));
            }
        }
    }
}
