//! Messages that were published again under the same id.
//!
//! Whether a queue has seen an id is found out when the message arrives (module [`ids_in_flight`]).
//! What the producer of a duplicate is told is known later: it is the original's outcome, which may
//! still have to come. So a duplicate *attaches* to its original, and whoever detaches it answers
//! it: the thread that settles the original, or the ledger writer once it has seen the log up to
//! the duplicate.
//!
//! [`ids_in_flight`]: super::ids_in_flight

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amqp::{BStr, BString, ByteSlice};
use broker::Tracking;
use hashbrown::HashMap;
use ledger::dedup_key;
use outcome::{
    Event, Flags, IdHash, Notify, Outcome, OutcomeMessage, Settled, Ticket, Verdict, What,
};

use super::notifications::OutcomeNotification;
use super::settled_message::{encode, wants};
use crate::engine::Engine;
use crate::locks::Mutex;
use crate::registry::{LiveQueue, UserUse};
use crate::store::Waiter;

/// The most duplicates that may wait for one original, for all of them, and those of one user.
const OF_MESSAGE_MAX: usize = 64;
const ATTACHED_MAX: usize = 100_000;
const OF_USER_MAX: usize = ATTACHED_MAX / 2;

/// A message that was not enqueued because its queue has seen its id.
pub(crate) struct Duplicate {
    pub queue: Arc<LiveQueue>,
    pub id: IdHash,
    pub reply_to: Option<BString>,
    pub correlation_id: Option<BString>,
    pub notify: Option<Notify>,
    /// The confirm that waits for the original's outcome.
    pub ticket: Option<Ticket>,
    /// Its own confirm: channel and number there.
    pub confirm: Option<(u16, u64)>,
    /// Its producer.
    pub user: Arc<UserUse>,
}

impl Duplicate {
    /// Names its original.
    pub(crate) fn key(&self) -> u128 {
        dedup_key(self.id, &self.queue.name)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Duplicates {
    waiting: Mutex<Waiting>,
    /// How many wait; if none do, nobody needs to look.
    count: AtomicUsize,
}

/// Those that wait for the outcome of their original.
#[derive(Default)]
struct Waiting {
    attached: HashMap<u128, Vec<Duplicate>>,
    /// Originals to look up once the ledger has reached this position of the log.
    asked: VecDeque<(u64, u128)>,
}

impl Duplicates {
    /// Takes those that wait for the outcome of this id in this queue; the caller must answer them.
    pub(crate) fn take(&self, key: u128) -> Vec<Duplicate> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let taken = self.waiting.lock().attached.remove(&key).unwrap_or_default();
        self.count.fetch_sub(taken.len(), Ordering::AcqRel);
        for duplicate in &taken {
            duplicate.user.attached_count.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    /// `false` when too many are attached already.
    fn attach(&self, key: u128, duplicate: Duplicate) -> bool {
        let mut waiting = self.waiting.lock();
        let of_message = waiting.attached.get(&key).map_or(&[][..], Vec::as_slice);
        let is_same = |other: &Duplicate| {
            other.ticket.is_none()
                && other.reply_to == duplicate.reply_to
                && other.correlation_id == duplicate.correlation_id
        };
        if duplicate.ticket.is_none() && of_message.iter().any(is_same) {
            return true;
        }
        let of_user = &duplicate.user.attached_count;
        if of_message.len() >= OF_MESSAGE_MAX
            || self.count.load(Ordering::Acquire) >= ATTACHED_MAX
            || of_user.load(Ordering::Acquire) >= OF_USER_MAX
        {
            return false;
        }
        of_user.fetch_add(1, Ordering::AcqRel);
        waiting.attached.entry(key).or_default().push(duplicate);
        self.count.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Has the original looked up once the ledger has reached `end`.
    fn ask(&self, end: u64, key: u128) {
        self.waiting.lock().asked.push_back((end, key));
    }

    /// Whether none waits for the ledger.
    pub(crate) fn are_answered(&self) -> bool {
        self.waiting.lock().asked.is_empty()
    }

    /// The next original to look up, if the ledger has got that far: its key, id and queue.
    /// Originals for which nobody waits any more are skipped.
    fn pop_due(&self, followed: u64) -> Option<(u128, IdHash, Arc<LiveQueue>)> {
        let mut waiting = self.waiting.lock();
        loop {
            let (_, key) = waiting.asked.pop_front_if(|(position, _)| *position <= followed)?;
            if let Some(first) = waiting.attached.get(&key).and_then(|of| of.first()) {
                return Some((key, first.id, Arc::clone(&first.queue)));
            }
        }
    }

    /// Whether anybody waits for the outcome of this id in this queue.
    fn has(&self, key: u128) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.waiting.lock().attached.contains_key(&key)
    }
}

impl Engine {
    /// When a queue last took in an id, as far as the ledger's window knows. A message that nobody
    /// has worked on does not count if it was refused, purged or cancelled.
    pub(crate) fn last_taken_in(&self, queue: &LiveQueue, id: IdHash) -> Option<u64> {
        // Twice in the queue is better than confirmed and lost.
        self.ledger.first_seen(dedup_key(id, &queue.name)).unwrap_or_else(|error| {
            tracing::error!("the window of known ids cannot be read: {error}");
            None
        })
    }

    /// Nobody has worked on the last message with this id: it may come again.
    pub(crate) fn forget_id(&self, queue: &str, id: IdHash) {
        self.outcomes.ids.lock().free(dedup_key(id, queue));
    }

    /// The ledger has this event, and with it the ids in its window.
    pub(crate) fn forget_pending(&self, event: &Event<'_>) {
        if let What::Published(published) = &event.what
            && published.is_deduplicated
        {
            let mut ids = self.outcomes.ids.lock();
            published.queues.iter().for_each(|queue| ids.leave(dedup_key(event.id, &queue.name)));
        }
    }

    /// Takes in a duplicate, if anybody wants to know. Its original is in the log. `false`: too
    /// many are waiting already, and this one will not be answered.
    pub(crate) fn attach_duplicate(&self, duplicate: Duplicate) -> bool {
        let is_notified = duplicate.notify.is_some() && duplicate.reply_to.is_some();
        if duplicate.ticket.is_none() && !is_notified {
            return true;
        }
        let (key, ticket) = (duplicate.key(), duplicate.ticket);
        if !self.outcomes.duplicates.attach(key, duplicate) {
            self.settle_now(ticket, false);
            return false;
        }
        // An outcome from before this is in the log by now; a later one finds the duplicate here.
        let end = self.store.append(None, |_| ()).1;
        self.ask_again(end, key);
        true
    }

    /// Duplicates whose originals were settled while they attached may have been missed by both
    /// sides.
    pub(crate) fn ask_again_after(&self, end: u64, keys: impl Iterator<Item = u128>) {
        keys.filter(|key| self.outcomes.duplicates.has(*key))
            .for_each(|key| self.ask_again(end, key));
    }

    fn ask_again(&self, end: u64, key: u128) {
        self.outcomes.duplicates.ask(end, key);
        self.store.committed_records.wake();
    }

    /// Decides a held confirm that waits for nothing in the log.
    pub(crate) fn settle_now(&self, ticket: Option<Ticket>, is_good: bool) {
        if let Some(outbox) = self.outcomes.held_confirms.settle(ticket, is_good, 0) {
            outbox.wake();
        }
    }

    /// Answers duplicates whose originals have an outcome, as far as the ledger can know.
    pub(crate) fn answer_duplicates(&self, followed: u64) {
        let _errand = self.under_way.begin();
        while let Some((key, id, queue)) = self.outcomes.duplicates.pop_due(followed) {
            match self.ledger.events(id) {
                Ok(events) => match last_outcome(&events, Some(queue.id.0), &queue.name) {
                    // The message is still there, so its outcome is yet to come.
                    Some((settled, _))
                        if settled.verdict.outcome == Outcome::DeadlineMissed
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
                Err(error) => {
                    tracing::error!("a duplicate cannot be answered yet: {error}");
                    self.outcomes.duplicates.ask(followed + 1, key);
                }
            }
        }
    }

    /// Which of these confirms belong to duplicates whose originals were refused by their queues,
    /// so that no enqueued message stands for them.
    pub(crate) fn refused_originals(
        &self,
        confirms: &[(u128, Option<(u16, u64)>)],
    ) -> Vec<Option<(u16, u64)>> {
        if confirms.is_empty() {
            return Vec::new();
        }
        let ids = self.outcomes.ids.lock();
        let refused = confirms.iter().filter(|(key, _)| ids.is_free(*key));
        refused.map(|(_, confirm)| *confirm).collect()
    }

    /// Sends an outcome once more.
    fn tell_again(&self, duplicate: &Duplicate, settled: &Settled<'_>, settled_at_ms: u64) {
        let waiter: Arc<dyn Waiter> = self.outcomes.notifications.clone();
        let notification = duplicate
            .reply_to
            .as_ref()
            .filter(|_| wants(duplicate.notify, settled.verdict.outcome))
            .and_then(|reply_to| {
                self.notification_again(duplicate, settled, settled_at_ms, reply_to.as_bstr())
            });
        let mut notifications: Vec<OutcomeNotification> = notification.into_iter().collect();
        let keeps_bodies = self.keeps_bodies();
        let ((), end) = self.store.append(Some(&waiter), |appender| {
            notifications.iter_mut().for_each(|one| one.log(appender, keeps_bodies));
        });
        self.with_agenda(|agenda| self.notify(end, notifications, agenda));
        let is_good = settled.verdict.outcome == Outcome::Processed;
        let publisher = self.outcomes.held_confirms.settle(duplicate.ticket, is_good, end);
        self.wake_when_durable(publisher.into_iter().collect());
    }

    fn notification_again(
        &self,
        duplicate: &Duplicate,
        settled: &Settled<'_>,
        settled_at_ms: u64,
        reply_to: &BStr,
    ) -> Option<OutcomeNotification> {
        let vhost = duplicate.queue.vhost.upgrade();
        let recipient = self.recipient(vhost.as_ref(), reply_to)?;
        let flags = settled.verdict.flags.with(Flags::DUPLICATE);
        let outcome = OutcomeMessage {
            verdict: Verdict { flags, ..settled.verdict },
            details: settled.details.borrowed(),
            correlation_id: duplicate.correlation_id.as_ref().map(Into::into),
            queue: Cow::Borrowed(&settled.queue),
            settled_at_ms,
            result_bytes: None,
            traceparent: None,
        };
        let (id, outcome_of) = (duplicate.id.0, Some(duplicate.queue.id));
        let tracking = Tracking { id, outcome_of, ..Tracking::default() };
        let message = encode(&outcome, ("", reply_to), Some(&tracking), self.now_ms());
        Some(OutcomeNotification { recipient, message, position: None, is_reserved: false })
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
            What::Settled(settled) if !settled.verdict.is_copy() && settled.queue == queue_name => {
                // A late ack may be logged before the missed deadline is.
                let is_overtaken =
                    found.is_some_and(|(other, _): (&Settled<'_>, u64)| other.verdict.is_late());
                if !(is_overtaken && settled.verdict.outcome == Outcome::DeadlineMissed) {
                    found = Some((&**settled, event.time_ms));
                }
            }
            _ => {}
        }
    }
    found
}
