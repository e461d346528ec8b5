//! Acks, rejects and requeues: gathered, then carried out queue by queue.

use std::sync::Arc;

use broker::BrokerError;
use broker::queue::{ConsumerKey, Effects, Removed, Settlement};
use outcome::SettledBy;

use crate::registry::{ChannelOutbox, Unsettled};
use crate::session::channel::Channel;
use crate::session::settles::{OfQueue, PendingSettle, Resolved, SettleBatch};
use crate::session::state::Session;
use crate::session::transaction::Gathered;
use crate::session::worker_name::{BASIC_GET, WorkerName};

/// Deliveries whose memory is kept for the next batch.
const SPARE_MAX: usize = 1024;

impl Session {
    /// Settles a delivery, or with `multiple` all up to it, with the next [`Session::flush`].
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when the channel is not open. The flush reports an unknown tag.
    pub fn settle(
        &mut self,
        channel: u16,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), BrokerError> {
        self.failed.tell(channel)?;
        self.channel(channel)?;
        self.settles.push(PendingSettle { channel, tag, multiple, settlement });
        Ok(())
    }

    /// `basic.recover` with requeue: everything unsettled on a channel goes back.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when the channel is not open.
    pub fn recover(&mut self, number: u16) -> Result<(), BrokerError> {
        self.flush_channel(number)?;
        let all = PendingSettle {
            channel: number,
            tag: 0,
            multiple: true,
            settlement: Settlement::Requeue,
        };
        self.settles.push(all);
        self.flush_channel(number)
    }

    /// Carries out the gathered settlements, except those that follow a wrong one on their channel.
    pub(super) fn flush_settles(&mut self) {
        if self.settles.is_empty() {
            return;
        }
        self.has_settled = true;
        let mut settles = std::mem::take(&mut self.settles);
        let mut batch = std::mem::take(&mut self.settle_batch);
        // Settlements that go into transactions: channels, and how many.
        let gathered = self.resolve_all(&settles, &mut batch);
        for (channel, count) in gathered {
            if let Err(error) = self.grow_transaction(channel, count, 0) {
                self.failed.note(channel, error);
            }
        }
        settles.clear();
        self.settles = settles;
        self.settle_all(&mut batch);
        self.settle_batch = batch;
    }

    /// Finds the deliveries that are meant. Those of transactions stay with their channels; answers
    /// which channels, and how many.
    fn resolve_all(
        &mut self,
        settles: &[PendingSettle],
        batch: &mut SettleBatch,
    ) -> Vec<(u16, usize)> {
        let mut gathered = Vec::new();
        let mut taken = std::mem::take(&mut self.taken);
        let mut outbox = self.outbox.lock();
        for settle in settles {
            if self.failed.has(settle.channel) {
                continue;
            }
            let Some(channel) = outbox.channels.get_mut(&settle.channel) else { continue };
            taken.clear();
            if !channel.unsettled.take(settle.tag, settle.multiple, &mut taken) {
                let text = format!("unknown delivery tag {}", settle.tag);
                self.failed.note(settle.channel, BrokerError::precondition_failed(text));
                continue;
            }
            let Some(owner) = self.channels.get_mut(&settle.channel) else { continue };
            let is_transaction = owner.transaction.is_some();
            let (count, left) = (taken.len(), channel.unsettled.len());
            self.traffic.settled(count, left, owner.tightest_prefetch);
            for unsettled in &taken {
                let queue = &channel.queues[unsettled.queue as usize];
                let by = by(owner, unsettled, &self.worker);
                let resolved = resolve(unsettled, settle.settlement, by);
                match &mut owner.transaction {
                    Some(transaction) => transaction.gather(queue, resolved, *unsettled),
                    None => batch.add(queue, resolved),
                }
            }
            match is_transaction {
                true => gathered.push((settle.channel, taken.len())),
                false => release_shared(owner, &taken),
            }
        }
        drop(outbox);
        taken.clear();
        taken.shrink_to(SPARE_MAX);
        self.taken = taken;
        gathered
    }

    /// Settles deliveries, each queue locked once.
    fn settle_all(&mut self, batch: &mut SettleBatch) {
        if batch.is_empty() {
            return;
        }
        let now_ms = self.engine.now_ms();
        batch.take_each(|of_queue| self.settle_of_queue(now_ms, of_queue));
        // What came back may be for consumers of other queues.
        self.give_prefetch(None);
    }

    fn settle_of_queue(&self, now_ms: u64, of_queue: &OfQueue) {
        let OfQueue { queue, resolved } = of_queue;
        let mut unused = Vec::new();
        let settled = self.engine.with_queue(queue, now_ms, |core, effects: &mut Effects| {
            for Resolved { id, consumer, settlement, by } in resolved {
                let before = effects.removed.len();
                core.settle_by(now_ms, *id, *consumer, *settlement, by.as_ref(), effects);
                let report = by.as_ref().filter(|by| by.report.is_some());
                if let Some(by) = report.filter(|by| !is_among(by, &effects.removed[before..])) {
                    unused.push(Arc::clone(by));
                }
            }
        });
        if settled.is_none() {
            // The queue was deleted, together with the messages these were about.
            unused.extend(resolved.iter().filter_map(|resolved| resolved.by.clone()));
        }
        // An attempt, not an outcome: the next worker to try will have its own report.
        let unused = unused.iter().filter_map(|by| by.report.as_ref());
        unused.for_each(|report| self.forget_report(report));
    }

    /// Gives back everything that a closed channel held, `gathered` in a transaction or not.
    pub(super) fn requeue_all(&mut self, mut left: ChannelOutbox, gathered: Vec<Gathered>) {
        let mut batch = SettleBatch::default();
        let mut taken = Vec::new();
        left.unsettled.take_all(&mut taken);
        for unsettled in &taken {
            let queue = &left.queues[unsettled.queue as usize];
            batch.add(queue, resolve(unsettled, Settlement::Requeue, None));
        }
        for Gathered { queue, resolved, .. } in gathered {
            batch.add(&queue, Resolved { settlement: Settlement::Requeue, ..resolved });
        }
        self.settle_all(&mut batch);
    }
}

fn resolve(unsettled: &Unsettled, settlement: Settlement, by: Option<Arc<SettledBy>>) -> Resolved {
    Resolved { id: unsettled.id, consumer: unsettled.consumer, settlement, by }
}

/// Whether one of these removals names this worker.
fn is_among(by: &Arc<SettledBy>, removed: &[Removed]) -> bool {
    removed.iter().any(|removed| removed.by.as_ref().is_some_and(|other| Arc::ptr_eq(by, other)))
}

/// The worker that settles a delivery of a tracked message, with its report on it.
fn by(channel: &mut Channel, unsettled: &Unsettled, name: &WorkerName) -> Option<Arc<SettledBy>> {
    if unsettled.report == 0 {
        return None;
    }
    if !channel.progress.is_empty() {
        channel.progress.remove(&unsettled.tag);
    }
    let report = channel.reports.take(unsettled.tag);
    let worker = channel.settled_by(unsettled.consumer);
    match (report, worker) {
        (None, Some(worker)) => Some(Arc::clone(worker)),
        (report, worker) => {
            let worker = match worker {
                Some(by) => Arc::clone(&by.worker),
                None if unsettled.consumer == ConsumerKey::GET => name.of(BASIC_GET),
                None => name.of_client(),
            };
            Some(Arc::new(SettledBy { worker, report }))
        }
    }
}

/// Gives back room in the channel-wide prefetch.
pub(super) fn release_shared(channel: &Channel, taken: &[Unsettled]) {
    let counted = taken.iter().filter(|unsettled| unsettled.counted).count() as u32;
    if counted > 0 {
        channel.shared_prefetch.release(counted);
    }
}
