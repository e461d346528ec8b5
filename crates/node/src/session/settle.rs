//! Acks, rejects and requeues: gathered, then carried out queue by queue.

use std::sync::Arc;

use broker::BrokerError;
use broker::queue::{ConsumerKey, DeliveryId, Effects, Removed, Settlement};
use outcome::SettledBy;

use super::Session;
use super::channel::Channel;
use crate::registry::{ChannelOutbox, LiveQueue, Unsettled};

/// The most settlements whose memory is kept for the next batch.
const SPARE_MAX: usize = 1024;

/// One `basic.ack`, `basic.nack` or `basic.reject`.
pub(super) struct PendingSettle {
    channel: u16,
    tag: u64,
    multiple: bool,
    settlement: Settlement,
}

impl PendingSettle {
    /// Whether it settles this delivery, which is still unsettled.
    pub(super) fn covers(&self, channel: u16, tag: u64) -> bool {
        self.channel == channel
            && (self.tag == tag || self.multiple && (self.tag == 0 || self.tag > tag))
    }
}

/// A delivery that is to be settled, with its queue.
pub(super) struct Resolved {
    pub queue: Arc<LiveQueue>,
    pub id: DeliveryId,
    pub consumer: ConsumerKey,
    pub settlement: Settlement,
    /// The worker, for tracked messages.
    pub by: Option<Arc<SettledBy>>,
}

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
        let settles = std::mem::take(&mut self.settles);
        let mut resolved = std::mem::take(&mut self.resolved);
        let mut taken = std::mem::take(&mut self.taken);
        // Settlements that go into transactions: channels, and how many.
        let mut gathered: Vec<(u16, usize)> = Vec::new();
        let mut outbox = self.outbox.lock();
        for settle in &settles {
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
            let resolve = |owner: &mut Channel, unsettled: &Unsettled| Resolved {
                by: by(owner, unsettled, &self.name),
                ..resolve(channel, unsettled, settle.settlement)
            };
            if owner.transaction.is_some() {
                let settles: Vec<_> = taken.iter().map(|u| (resolve(owner, u), *u)).collect();
                owner.transaction.get_or_insert_default().settles.extend(settles);
                gathered.push((settle.channel, taken.len()));
            } else {
                resolved.extend(taken.iter().map(|unsettled| resolve(owner, unsettled)));
                release_shared(&self.channels, settle.channel, &taken);
            }
        }
        drop(outbox);
        for (channel, count) in gathered {
            if let Err(error) = self.grow_transaction(channel, count, 0) {
                self.failed.note(channel, error);
            }
        }
        self.settles = settles;
        self.settles.clear();
        self.settle_all(&mut resolved);
        resolved.clear();
        resolved.shrink_to(SPARE_MAX);
        taken.clear();
        taken.shrink_to(SPARE_MAX);
        (self.resolved, self.taken) = (resolved, taken);
    }

    /// Settles deliveries, locking each queue once per run of deliveries from it.
    pub(super) fn settle_all(&mut self, resolved: &mut [Resolved]) {
        if resolved.is_empty() {
            return;
        }
        let now_ms = self.engine.now_ms();
        resolved.sort_by_key(|resolved| resolved.queue.id);
        for of_queue in resolved.chunk_by(|a, b| a.queue.id == b.queue.id) {
            let queue = Arc::clone(&of_queue[0].queue);
            let mut unused = Vec::new();
            let settled = self.engine.with_queue(&queue, now_ms, |core, effects: &mut Effects| {
                for Resolved { id, consumer, settlement, by, .. } in of_queue {
                    let before = effects.removed.len();
                    core.settle_by(now_ms, *id, *consumer, *settlement, by.as_ref(), effects);
                    let report = by.as_ref().filter(|by| by.report.is_some());
                    if let Some(by) = report.filter(|by| !is_among(by, &effects.removed[before..]))
                    {
                        unused.push(Arc::clone(by));
                    }
                }
            });
            if settled.is_none() {
                // The queue was deleted, together with the messages these were about.
                unused.extend(of_queue.iter().filter_map(|resolved| resolved.by.clone()));
            }
            // An attempt, not an outcome: the next worker to try will have its own report.
            let unused = unused.iter().filter_map(|by| by.report.as_ref());
            unused.for_each(|report| self.forget_report(report));
        }
        // What came back may be for consumers of other queues.
        self.give_prefetch(None);
    }

    /// Gives back everything that a closed channel held, `gathered` in a transaction or not.
    pub(super) fn requeue_all(
        &mut self,
        mut left: ChannelOutbox,
        gathered: Vec<(Resolved, Unsettled)>,
    ) {
        let mut taken = Vec::new();
        left.unsettled.take_all(&mut taken);
        let requeued = taken.iter().map(|u| resolve(&left, u, Settlement::Requeue));
        let mut resolved: Vec<Resolved> = requeued.collect();
        let gathered = gathered.into_iter().map(|(resolved, _)| resolved);
        resolved.extend(gathered.map(|r| Resolved { settlement: Settlement::Requeue, ..r }));
        self.settle_all(&mut resolved);
    }
}

fn resolve(channel: &ChannelOutbox, unsettled: &Unsettled, settlement: Settlement) -> Resolved {
    let queue = Arc::clone(&channel.queues[unsettled.queue as usize]);
    Resolved { queue, id: unsettled.id, consumer: unsettled.consumer, settlement, by: None }
}

/// Whether one of these removals names this worker.
fn is_among(by: &Arc<SettledBy>, removed: &[Removed]) -> bool {
    removed.iter().any(|removed| removed.by.as_ref().is_some_and(|other| Arc::ptr_eq(by, other)))
}

/// The name of a worker that gets its messages one by one.
pub(super) fn by_get(name: &str) -> Arc<str> {
    format!("{name}/basic.get").into()
}

/// The worker that settles a delivery of a tracked message, with its report on it.
fn by(channel: &mut Channel, unsettled: &Unsettled, name: &str) -> Option<Arc<SettledBy>> {
    if unsettled.report == 0 {
        return None;
    }
    let report = match channel.reports.is_empty() {
        true => None,
        false => channel.reports.remove(&unsettled.tag),
    };
    let worker = channel.settled_by(unsettled.consumer);
    match (report, worker) {
        (None, Some(worker)) => Some(Arc::clone(worker)),
        (report, worker) => {
            let worker = match worker {
                Some(by) => Arc::clone(&by.worker),
                None if unsettled.consumer == ConsumerKey::GET => by_get(name),
                None => name.into(),
            };
            Some(Arc::new(SettledBy { worker, report }))
        }
    }
}

/// Gives back room in the channel-wide prefetch.
pub(super) fn release_shared(
    channels: &std::collections::BTreeMap<u16, super::channel::Channel>,
    number: u16,
    taken: &[Unsettled],
) {
    let counted = taken.iter().filter(|unsettled| unsettled.counted).count() as u32;
    if counted > 0
        && let Some(channel) = channels.get(&number)
    {
        channel.shared_prefetch.release(counted);
    }
}
