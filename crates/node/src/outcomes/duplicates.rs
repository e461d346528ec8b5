//! Messages that were published again under the same id.
//!
//! Whether a queue has seen an id is asked when the message comes ([`Node::is_duplicate`]): of the
//! ids on their way into the ledger's window, then of the window. What the producer of a duplicate
//! is told is known later: the original's outcome if it has one, else when it comes. So a duplicate
//! *attaches* to its original, and whoever takes it off tells it: the one who settles the original,
//! or the follower once it has seen the log up to the duplicate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker::arguments::Overflow;
use broker::outcome::Notify;
use broker::outcome::message::OutcomeMessage;
use broker::queue::{NO_POSITION, Reason};
use broker::{Outcome, QueueId, Tracking};
use hashbrown::{HashMap, HashSet};
use ledger::{Event, IdHash, Settled, What, dedup_key};
use parking_lot::Mutex;

use super::notices::Notice;
use super::told::{encode, wants};
use crate::live_queue::LiveQueue;
use crate::node::Node;
use crate::store::Waiter;

/// Ids of refused messages that are remembered until the ledger has them.
const REFUSED_MAX: usize = 100_000;

/// Duplicates that may wait for one original, and for all.
const OF_MESSAGE_MAX: usize = 64;
const ATTACHED_MAX: usize = 100_000;

/// A message that was not enqueued because its queue has seen its id.
pub(crate) struct Duplicate {
    pub queue: Arc<LiveQueue>,
    pub id: IdHash,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    pub notify: Option<Notify>,
    /// Whose confirm waits for the original's outcome; 0 for nobody's.
    pub ticket: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Duplicates {
    known: Mutex<Known>,
    attached: Mutex<HashMap<u128, Vec<Duplicate>>>,
    attached_count: AtomicUsize,
    /// To be looked up once the ledger has followed the log to this position.
    asked: Mutex<VecDeque<(u64, u128)>>,
}

/// What is known of ids before the ledger's window knows it.
#[derive(Default)]
struct Known {
    /// Ids that were taken in and are not in the window yet.
    pending: HashMap<u128, Pending>,
    /// Ids of which the last message that was taken in was refused then.
    refused: HashSet<u128>,
}

struct Pending {
    /// When the last message was taken in.
    seen_ms: u64,
    /// The connection that took it in and has not logged it yet.
    unlogged_by: Option<u64>,
    /// Messages that the follower has not come to yet: an id that may come again can have several.
    count: u32,
}

/// How an id was taken in.
enum Claim {
    /// Somebody is taking in a message with it at this moment, and will have logged it in the next.
    Busy,
    /// The same connection has taken one in with the same batch.
    Own,
    /// The last message with it was refused.
    AfterRefusal,
    /// When the last message with it was taken in, if that is not in the window yet.
    After(Option<u64>),
}

impl Known {
    /// Takes an id in.
    fn claim(&mut self, key: u128, connection: u64, now_ms: u64) -> Claim {
        let new = Pending { seen_ms: 0, unlogged_by: None, count: 0 };
        let pending = self.pending.entry(key).or_insert(new);
        match pending.unlogged_by {
            Some(by) if by == connection => return Claim::Own,
            Some(_) => return Claim::Busy,
            None => {}
        }
        let before = (pending.count > 0).then_some(pending.seen_ms);
        let (unlogged_by, count) = (Some(connection), pending.count + 1);
        *pending = Pending { seen_ms: now_ms, unlogged_by, count };
        match self.refused.remove(&key) {
            true => Claim::AfterRefusal,
            false => Claim::After(before),
        }
    }

    /// The message of the last claim is in the log.
    fn logged(&mut self, key: u128) {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.unlogged_by = None;
        }
    }

    /// Takes back what [`Known::claim`] did: no message of it is in the log.
    fn unclaim(&mut self, key: u128, before: Option<u64>) {
        self.logged(key);
        if let (Some(pending), Some(seen_ms)) = (self.pending.get_mut(&key), before) {
            pending.seen_ms = seen_ms;
        }
        self.followed(key);
    }

    /// One message with this id is in the window, or will never be.
    fn followed(&mut self, key: u128) {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.count -= 1;
            if pending.count == 0 {
                self.pending.remove(&key);
            }
        }
    }
}

impl Duplicates {
    /// Those that wait for the outcome of this id in this queue; they are the caller's to tell.
    pub(crate) fn take(&self, key: u128) -> Vec<Duplicate> {
        if self.attached_count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let taken = self.attached.lock().remove(&key).unwrap_or_default();
        self.attached_count.fetch_sub(taken.len(), Ordering::AcqRel);
        taken
    }

    /// `false` when too many are attached already.
    fn attach(&self, key: u128, duplicate: Duplicate) -> bool {
        let mut attached = self.attached.lock();
        let of_message = attached.get(&key).map_or(&[][..], Vec::as_slice);
        let is_same = |other: &Duplicate| {
            other.ticket == 0
                && other.reply_to == duplicate.reply_to
                && other.correlation_id == duplicate.correlation_id
        };
        if duplicate.ticket == 0 && of_message.iter().any(is_same) {
            return true;
        }
        if of_message.len() >= OF_MESSAGE_MAX
            || self.attached_count.load(Ordering::Acquire) >= ATTACHED_MAX
        {
            return false;
        }
        attached.entry(key).or_default().push(duplicate);
        self.attached_count.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Whether anybody waits for the outcome of this id in this queue.
    fn has(&self, key: u128) -> bool {
        self.attached_count.load(Ordering::Acquire) > 0 && self.attached.lock().contains_key(&key)
    }
}

impl Node {
    /// Whether a queue has seen an id within its window; if not it has from now on, and the caller
    /// must log the message next and say so ([`Node::id_is_logged`]).
    pub(crate) fn is_duplicate(
        &self,
        queue: &LiveQueue,
        id: IdHash,
        connection: u64,
        now_ms: u64,
    ) -> bool {
        let key = dedup_key(id, queue.id.0);
        let window_ms = queue.settings.window_ms.unwrap_or(u64::MAX);
        if window_ms == 0 {
            return false;
        }
        let is_within = |seen_ms: u64| now_ms.saturating_sub(seen_ms) < window_ms;
        let known = &self.outcomes.duplicates.known;
        let before = loop {
            let claim = known.lock().claim(key, connection, now_ms);
            match claim {
                Claim::Own => return true,
                // A confirm of this one may stand for the other: not before that is in the log.
                Claim::Busy => std::thread::yield_now(),
                Claim::AfterRefusal => return false,
                Claim::After(before) => break before,
            }
        };
        // The follower puts it into the window before it takes it from here. So an id that is not
        // here is there, if it was ever taken in: ask in this order.
        let seen = match before {
            Some(seen_ms) => Some(seen_ms),
            None => self.ledger.first_seen(key).unwrap_or_else(|error| {
                tracing::error!("the window of known ids cannot be read: {error}");
                None
            }),
        };
        let is_duplicate = seen.is_some_and(|seen| {
            let may_refuse = queue.settings.overflow != Overflow::DropHead;
            is_within(seen) && (before.is_some() || !may_refuse || !self.was_refused(queue, id))
        });
        if is_duplicate {
            known.lock().unclaim(key, before);
        }
        is_duplicate
    }

    /// The message with this id that was just taken in is in the log.
    pub(crate) fn id_is_logged(&self, queue: &LiveQueue, id: IdHash) {
        self.outcomes.duplicates.known.lock().logged(dedup_key(id, queue.id.0));
    }

    /// A message with this id was put into its queue by hand: it is known, refused before or not.
    pub(crate) fn readmit_id(&self, queue: &LiveQueue, id: IdHash) {
        self.outcomes.duplicates.known.lock().refused.remove(&dedup_key(id, queue.id.0));
    }

    /// A message with this id was refused: it may come again.
    pub(crate) fn forget_id(&self, queue: QueueId, id: IdHash) {
        let mut known = self.outcomes.duplicates.known.lock();
        if known.refused.len() >= REFUSED_MAX {
            // The ledger knows the older ones by now.
            known.refused.clear();
        }
        known.refused.insert(dedup_key(id, queue.0));
    }

    /// Whether a queue refused the last message with this id, as far as the ledger has got.
    fn was_refused(&self, queue: &LiveQueue, id: IdHash) -> bool {
        let events = self.ledger.events(id).unwrap_or_default();
        last_outcome(&events, Some(queue.id.0), &queue.name)
            .is_some_and(|(settled, _)| settled.reason == Reason::Refused.name())
    }

    /// The ledger has this event, and with it the ids in its window.
    pub(crate) fn forget_pending(&self, event: &Event<'_>) {
        if let What::Published(published) = &event.what
            && published.is_deduplicated
        {
            let mut known = self.outcomes.duplicates.known.lock();
            for queue in &published.queues {
                known.followed(dedup_key(event.id, queue.id));
            }
        }
    }

    /// Takes in a duplicate, if anybody wants to know. Its original is in the log.
    pub(crate) fn attach_duplicate(&self, duplicate: Duplicate) {
        let is_notified = duplicate.notify.is_some() && duplicate.reply_to.is_some();
        if duplicate.ticket == 0 && !is_notified {
            return;
        }
        let key = dedup_key(duplicate.id, duplicate.queue.id.0);
        let ticket = duplicate.ticket;
        if !self.outcomes.duplicates.attach(key, duplicate) {
            self.settle_now(ticket, false);
            return;
        }
        // What was settled before this is in the log by now; what is settled later finds it here.
        let end = self.store.append(None, |_| ()).1;
        self.ask_again(end, key);
    }

    /// Those whose originals were settled while they attached may have been missed on both sides.
    pub(crate) fn ask_after_telling(&self, end: u64, keys: impl Iterator<Item = u128>) {
        keys.filter(|key| self.outcomes.duplicates.has(*key))
            .for_each(|key| self.ask_again(end, key));
    }

    fn ask_again(&self, end: u64, key: u128) {
        self.outcomes.duplicates.asked.lock().push_back((end, key));
        self.store.feed.wake();
    }

    /// Decides a held confirm that waits for nothing in the log.
    pub(crate) fn settle_now(&self, ticket: u64, is_good: bool) {
        if let Some(outbox) = self.outcomes.tickets.settle(ticket, is_good, 0) {
            outbox.wake();
        }
    }

    /// Tells duplicates whose originals have their outcome, as far as the ledger can know.
    pub(crate) fn answer_duplicates(&self, followed: u64) {
        loop {
            let mut asked = self.outcomes.duplicates.asked.lock();
            let due = asked.pop_front_if(|(position, _)| *position <= followed);
            drop(asked);
            let Some((_, key)) = due else { return };
            let found = self.outcomes.duplicates.attached.lock().get(&key).and_then(|of| {
                let first = of.first()?;
                Some((first.id, Arc::clone(&first.queue)))
            });
            let Some((id, queue)) = found else { continue };
            match self.ledger.events(id) {
                Ok(events) => match last_outcome(&events, Some(queue.id.0), &queue.name) {
                    // The message is still there, and what becomes of it will be told.
                    Some((settled, _))
                        if settled.outcome == Outcome::DeadlineMissed
                            && self.is_in_queue(&queue, &events) => {}
                    Some((settled, time_ms)) => {
                        let duplicates = self.outcomes.duplicates.take(key);
                        duplicates.iter().for_each(|d| self.tell_again(d, settled, time_ms));
                    }
                    None if events.is_empty() => {
                        // The ledger has forgotten what became of it.
                        let forgotten = self.outcomes.duplicates.take(key);
                        forgotten.iter().for_each(|d| self.settle_now(d.ticket, false));
                    }
                    None => {}
                },
                Err(error) => tracing::error!("a duplicate cannot be answered: {error}"),
            }
        }
    }

    /// Sends an outcome once more.
    fn tell_again(&self, duplicate: &Duplicate, settled: &Settled<'_>, settled_at_ms: u64) {
        let waiter: Arc<dyn Waiter> = self.outcomes.notices.clone();
        let notice = duplicate
            .reply_to
            .as_deref()
            .filter(|_| wants(duplicate.notify, settled.outcome))
            .and_then(|reply_to| self.notice_again(duplicate, settled, settled_at_ms, reply_to));
        let mut notices: Vec<Notice> = notice.into_iter().collect();
        let keeps_bodies = self.keeps_bodies();
        let ((), end) = self.store.append(Some(&waiter), |appender| {
            notices.iter_mut().for_each(|notice| notice.log(appender, keeps_bodies));
        });
        self.notify(end, notices);
        let is_good = settled.outcome == Outcome::Processed;
        let publisher = self.outcomes.tickets.settle(duplicate.ticket, is_good, end);
        self.wake_when_durable(publisher.into_iter().collect());
    }

    fn notice_again(
        &self,
        duplicate: &Duplicate,
        settled: &Settled<'_>,
        settled_at_ms: u64,
        reply_to: &str,
    ) -> Option<Notice> {
        let vhost = duplicate.queue.vhost.upgrade();
        let target = self.notice_target(vhost.as_ref(), reply_to)?;
        let outcome = OutcomeMessage {
            outcome: settled.outcome,
            message_id: &settled.message_id,
            correlation_id: duplicate.correlation_id.as_deref(),
            queue: &settled.queue,
            queue_count: settled.queue_count,
            reason: &settled.reason,
            attempts: settled.attempts,
            published_at_ms: settled.published_at_ms,
            settled_at_ms,
            worker: &settled.worker,
            error: settled.error.as_deref(),
            content_type: settled.content_type.as_deref(),
            result: settled.result.as_deref().unwrap_or_default(),
            result_bytes: None,
            is_unverified: settled.is_unverified,
            is_late: settled.is_late,
            is_duplicate: true,
            is_copy: false,
            dead_letter_exchange: settled.dead_letter_exchange.as_deref(),
        };
        let (id, outcome_of) = (duplicate.id.0, Some(duplicate.queue.id));
        let tracking = Tracking { id, outcome_of, ..Tracking::default() };
        let message = encode(&outcome, ("", reply_to), Some(&tracking), self.now_ms());
        Some(Notice { target, message, position: NO_POSITION })
    }
}

/// The outcome of the message that was last published to a queue under an id, if it has one. After
/// a missed deadline the message may still be there.
pub(crate) fn last_outcome<'e>(
    events: &'e [Event<'static>],
    queue_id: Option<u32>,
    queue_name: &str,
) -> Option<(&'e Settled<'static>, u64)> {
    let mut found = None;
    for event in events {
        match &event.what {
            What::Published(published)
                if !published.is_copy
                    && published.queues.iter().any(|queue| Some(queue.id) == queue_id) =>
            {
                found = None;
            }
            What::Settled(settled) if !settled.is_copy && settled.queue == queue_name => {
                // Who acks late may be faster than who tells of the deadline.
                let is_overtaken =
                    found.is_some_and(|(other, _): (&Settled<'_>, u64)| other.is_late);
                if !(is_overtaken && settled.outcome == Outcome::DeadlineMissed) {
                    found = Some((&**settled, event.time_ms));
                }
            }
            _ => {}
        }
    }
    found
}
