//! Settlements as they are asked for, and the deliveries that are meant, sorted by their queues as they
//! come: each queue is named once, however many of its deliveries there are.

use std::sync::Arc;

use broker::queue::{ConsumerKey, DeliveryId, Settlement};
use hashbrown::HashMap;
use outcome::SettledBy;

use crate::registry::LiveQueue;

/// Lists whose memory is kept for the next batch, and how long they may be for that.
const SPARE_LISTS_MAX: usize = 4;
const SPARE_MAX: usize = 1024;

/// One `basic.ack`, `basic.nack` or `basic.reject`.
pub(super) struct PendingSettle {
    pub channel: u16,
    pub tag: u64,
    pub multiple: bool,
    pub settlement: Settlement,
}

impl PendingSettle {
    /// Whether it settles this delivery, which is still unsettled.
    pub(super) fn covers(&self, channel: u16, tag: u64) -> bool {
        self.channel == channel
            && (self.tag == tag || self.multiple && (self.tag == 0 || self.tag > tag))
    }
}

/// A delivery that is to be settled.
pub(super) struct Resolved {
    pub id: DeliveryId,
    pub consumer: ConsumerKey,
    pub settlement: Settlement,
    /// The worker, for tracked messages.
    pub by: Option<Arc<SettledBy>>,
}

/// Deliveries of one queue.
pub(super) struct OfQueue {
    pub queue: Arc<LiveQueue>,
    pub resolved: Vec<Resolved>,
}

/// See the module's documentation. Keeps its memory, but not the queues.
#[derive(Default)]
pub(super) struct SettleBatch {
    groups: Vec<OfQueue>,
    /// Places in `groups` by queue id.
    by_queue: HashMap<u32, usize>,
    /// The group of the last delivery: mostly also that of the next.
    last: usize,
    spare: Vec<Vec<Resolved>>,
}

impl SettleBatch {
    pub(super) fn add(&mut self, queue: &Arc<LiveQueue>, resolved: Resolved) {
        let is_last = self.groups.get(self.last).is_some_and(|of| Arc::ptr_eq(&of.queue, queue));
        if !is_last {
            let Self { groups, by_queue, spare, .. } = self;
            self.last = *by_queue.entry(queue.id.0).or_insert_with(|| {
                let resolved = spare.pop().unwrap_or_default();
                groups.push(OfQueue { queue: Arc::clone(queue), resolved });
                groups.len() - 1
            });
        }
        self.groups[self.last].resolved.push(resolved);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Calls `settle` for each queue, and forgets them.
    pub(super) fn take_each(&mut self, mut settle: impl FnMut(&OfQueue)) {
        for mut of_queue in self.groups.drain(..) {
            settle(&of_queue);
            of_queue.resolved.clear();
            if self.spare.len() < SPARE_LISTS_MAX {
                of_queue.resolved.shrink_to(SPARE_MAX);
                self.spare.push(of_queue.resolved);
            }
        }
        self.by_queue.clear();
        self.last = 0;
    }
}
