//! The store's side of compaction: which segments to empty, and when they may go.
//!
//! *Invariant:* a segment that is being emptied stays until everything taken out of it is durable
//! further on.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::Store;
use crate::NodeError;

/// How many segments are emptied at a time.
const VICTIMS_MAX: usize = 4;

impl Store {
    /// Mostly dead segments that are to be emptied now, by their base positions; may be empty. They
    /// stay until [`Store::emptied_once_durable`].
    pub(crate) fn begin_emptying(&self) -> BTreeSet<u64> {
        // While nothing can be written, moved messages would only pile up in memory.
        if self.stuck().is_some() || !self.finish_emptying() {
            return BTreeSet::new();
        }
        let ledger_applied = self.ledger_applied.load(Ordering::Acquire);
        let compactable = self.segments.lock().compactable(ledger_applied);
        // Where messages just pass through, what is mostly dead now will be all dead in a moment.
        let before = std::mem::replace(&mut *self.mostly_dead.lock(), compactable.clone());
        let victims: BTreeSet<u64> =
            compactable.intersection(&before).copied().take(VICTIMS_MAX).collect();
        if !victims.is_empty() {
            self.segments.lock().begin_emptying(&victims);
        }
        victims
    }

    /// The positions that these segments cover.
    pub(crate) fn ranges(&self, segments: &BTreeSet<u64>) -> Vec<Range<u64>> {
        self.segments.lock().ranges(segments)
    }

    /// Whether a position is in a segment that exists and is not one of these.
    pub(crate) fn stays(&self, position: u64, victims: &BTreeSet<u64>) -> bool {
        let base = self.segments.lock().base_of(position);
        base.is_some_and(|base| !victims.contains(&base))
    }

    /// A queue's message is now further on.
    pub(crate) fn moved_from(&self, position: u64) {
        self.segments.lock().moved_from(position);
    }

    /// Everything that these segments still held has been appended: they may go once that is
    /// durable, which a later round checks. Maintenance never waits, however full the disk.
    pub(crate) fn emptied_once_durable(&self, victims: BTreeSet<u64>) -> Result<(), NodeError> {
        let ((), end) = self.append(None, |_| ());
        *self.emptying.lock() = Some((end, victims));
        if !self.has_committer.load(Ordering::Acquire) {
            self.commit()?;
        }
        self.finish_emptying();
        Ok(())
    }

    /// Whether no emptied segments are waiting to go.
    fn finish_emptying(&self) -> bool {
        let mut emptying = self.emptying.lock();
        if emptying.as_ref().is_some_and(|(end, _)| *end > self.durable()) {
            return false;
        }
        let done = emptying.take();
        drop(emptying);
        if let Some((_, victims)) = done {
            self.segments.lock().carried_forward(&victims);
        }
        true
    }
}
