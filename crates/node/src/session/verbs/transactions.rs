//! Transactions: publishes and settlements of a channel that take effect together or not at all.
//!
//! A commit is one group in the log, so after a crash there is all of it or nothing; its reply
//! waits until the group is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::queue::Effects;
use broker::{BrokerError, Message};

use super::settle::release_shared;
use crate::auth::Access;
use crate::engine::outcomes::batch::OutcomeBatch;
use crate::engine::{DeadLetter, append_effects};
use crate::registry::{LiveQueue, Unsettled};
use crate::session::publishes::Pending;
use crate::session::settles::Resolved;
use crate::session::state::Session;
use crate::session::transaction::{Gathered, Transaction};

/// The memory a gathered message or settlement takes besides its content.
const ENTRY_BYTES: u64 = 128;

impl Session {
    /// Makes a channel transactional.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` on a channel in confirm mode.
    pub fn select_transactions(&mut self, number: u16) -> Result<(), BrokerError> {
        self.flush_channel(number)?;
        let channel = self.channel(number)?;
        if channel.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(BrokerError::precondition_failed(text));
        }
        channel.transaction.get_or_insert_default();
        Ok(())
    }

    /// Carries out what was gathered. It is durable once [`Session::barrier`] is reached.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` when the channel is not transactional, or when a full queue refused a
    /// message: everything else has been carried out. `ACCESS_REFUSED` when the user may no longer
    /// publish all of it: nothing has been carried out.
    pub fn commit(&mut self, number: u16) -> Result<(), BrokerError> {
        self.check_may_commit(number)?;
        let Transaction { mut publishes, settles, returns, bytes, .. } =
            std::mem::take(self.transaction(number)?);
        self.give_back_memory(bytes);
        let now_ms = self.engine.now_ms();
        let unsettled: Vec<Unsettled> = settles.iter().map(|gathered| gathered.unsettled).collect();
        let mut effects = self.settle_in_core(now_ms, settles);
        let removed_count = effects.iter().map(|(_, effects)| effects.removed.len()).sum();
        let mut batches = self.take_tracked(now_ms, &mut effects);
        let mut dead = self.take_dead(now_ms, &mut effects);
        let is_logged = publishes.iter().any(Pending::is_durable) || !effects.is_empty();
        let mut end = 0;
        let duplicates = self.append_once(&mut publishes, now_ms, |publishes| {
            if !is_logged {
                return;
            }
            ((), end) = self.engine.store.append(Some(&self.waiter), |appender| {
                appender.batch.begin_group();
                let keeps_bodies = self.engine.keeps_bodies();
                let logged = publishes.iter_mut().filter(|p| p.is_durable() || !keeps_bodies);
                logged.for_each(|pending| pending.log(appender.batch));
                for (queue, effects) in &effects {
                    append_effects(appender, queue.id, effects);
                }
                dead.iter_mut().for_each(|dead| dead.log(appender, keeps_bodies));
                batches.iter_mut().for_each(|batch| batch.log(appender, keeps_bodies));
                appender.batch.end_group();
            });
        });
        self.wait_until_durable(end);
        // Logged before anybody gets them again, so that the log has things in order.
        for (queue, effects) in &mut effects {
            self.engine.note_requeued(queue, now_ms, std::mem::take(&mut effects.requeued));
        }
        self.publishes.pending.append(&mut publishes);
        let refused = self.enqueue_pending(duplicates);
        self.note_confirms(0, &refused);
        self.engine.with_agenda(|agenda| {
            agenda.allow_descendants(removed_count);
            dead.into_iter().for_each(|dead| self.engine.deliver_dead_letter(dead, now_ms, agenda));
            batches.into_iter().for_each(|batch| batch.finish(&self.engine, end, agenda));
        });
        for (queue, _) in effects {
            self.engine.with_queue(&queue, now_ms, |_, _| ());
        }
        if let Some(channel) = self.channels.get(&number) {
            release_shared(channel, &unsettled);
        }
        self.give_prefetch(Some(number));
        returns.iter().for_each(|returned| self.send_return(number, &returned.as_publish()));
        if !refused.is_empty() {
            return Err(BrokerError::precondition_failed("partial tx completion"));
        }
        Ok(())
    }

    /// Forgets what was gathered; the deliveries are unsettled again.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` when the channel is not transactional.
    pub fn rollback(&mut self, number: u16) -> Result<(), BrokerError> {
        let Transaction { settles, bytes, .. } = std::mem::take(self.transaction(number)?);
        self.give_back_memory(bytes);
        // Reports on these messages still count when they are settled later.
        let reports = settles.iter().filter_map(|gathered| {
            Some((gathered.unsettled.tag, gathered.resolved.by.as_ref()?.report.clone()?))
        });
        let reports: Vec<_> = reports.collect();
        let channel = self.channel(number)?;
        for (tag, report) in reports {
            channel.reports.insert(tag, report);
        }
        let mut outbox = self.outbox.lock();
        if let Some(channel) = outbox.channels.get_mut(&number) {
            let back = settles.into_iter().map(|gathered| Unsettled {
                queue: channel.index_of(&gathered.queue),
                ..gathered.unsettled
            });
            let mut back: Vec<Unsettled> = back.collect();
            channel.unsettled.take_all(&mut back);
            back.sort_by_key(|unsettled| unsettled.tag);
            back.into_iter().for_each(|unsettled| channel.unsettled.push(unsettled));
        }
        Ok(())
    }

    /// Looks at the permissions again, if they may have changed since the messages were published.
    fn check_may_commit(&mut self, number: u16) -> Result<(), BrokerError> {
        self.transaction(number)?;
        self.check_not_ended()?;
        let epoch = self.vhost.epoch();
        let transaction = self.transaction(number)?;
        if transaction.publishes.is_empty() || transaction.epoch == epoch {
            return Ok(());
        }
        let messages = || transaction.publishes.iter().filter_map(|it| it.message.as_ref());
        let mut exchanges: BTreeSet<String> =
            messages().map(|message| message.exchange().to_owned()).collect();
        let is_notified = |it: &Message| it.tracking().is_some_and(|it| it.notify.is_some());
        if messages().any(is_notified) {
            exchanges.insert(String::new());
        }
        for exchange in &exchanges {
            self.check(Access::Write, "exchange", exchange)?;
        }
        Ok(())
    }

    /// Takes out the tracked messages: their outcomes belong to the transaction, too.
    fn take_tracked(
        &self,
        now_ms: u64,
        effects: &mut [(Arc<LiveQueue>, Effects)],
    ) -> Vec<OutcomeBatch> {
        let mut batches = Vec::new();
        for (queue, effects) in effects {
            let mut batch = OutcomeBatch::of_queue(queue, now_ms);
            let tracked = effects.removed.extract_if(.., |removed| removed.is_tracked);
            tracked.for_each(|removed| batch.removed(&self.engine, removed));
            batches.push(batch);
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    /// Takes out messages that died by a reject: their copies belong to the transaction, too.
    fn take_dead(&self, now_ms: u64, effects: &mut [(Arc<LiveQueue>, Effects)]) -> Vec<DeadLetter> {
        let mut dead = Vec::new();
        for (queue, effects) in effects {
            let died = effects.removed.extract_if(.., |removed| removed.dead_letter);
            dead.extend(
                died.map(|removed| self.engine.prepare_dead_letter(queue, now_ms, removed)),
            );
        }
        dead
    }

    /// Settles in memory; returns what must be logged, by queue.
    fn settle_in_core(
        &mut self,
        now_ms: u64,
        settles: Vec<Gathered>,
    ) -> Vec<(Arc<LiveQueue>, Effects)> {
        let mut effects: BTreeMap<u32, (Arc<LiveQueue>, Effects)> = BTreeMap::new();
        for Gathered { queue, resolved, .. } in settles {
            let Resolved { id, consumer, settlement, by } = resolved;
            let entry = effects.entry(queue.id.0);
            let (queue, effects) = entry.or_insert_with(|| (queue, Effects::default()));
            let mut state = queue.state.lock();
            let cached_before = state.core.cached_bytes();
            if !state.is_deleted {
                state.core.settle_by(now_ms, id, consumer, settlement, by.as_ref(), effects);
            }
            self.engine.bodies.count(cached_before, state.core.cached_bytes());
        }
        effects.into_values().collect()
    }

    /// Notes that a transaction has grown by a message with this much content, or by settlements.
    ///
    /// # Errors
    /// `CONTENT_TOO_LARGE` when it is too much; closing the channel gives everything back.
    pub(super) fn grow_transaction(
        &mut self,
        number: u16,
        entry_count: usize,
        content_bytes: usize,
    ) -> Result<(), BrokerError> {
        let bytes = entry_count as u64 * ENTRY_BYTES + content_bytes as u64;
        if let Some(transaction) = &mut self.channel(number)?.transaction {
            transaction.bytes += bytes;
        }
        self.take_memory(bytes)
    }

    #[cfg(test)]
    pub(crate) fn take_memory_of_transaction(&mut self, number: u16) {
        self.grow_transaction(number, 1, 0).expect("not too much");
    }

    fn transaction(&mut self, number: u16) -> Result<&mut Transaction, BrokerError> {
        self.flush_channel(number)?;
        self.channel(number)?
            .transaction
            .as_mut()
            .ok_or_else(|| BrokerError::precondition_failed("channel is not transactional"))
    }
}
