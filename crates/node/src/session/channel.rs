//! What a session keeps for each of its channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::queue::ConsumerKey;
use outcome::SettledBy;

use super::confirms::Confirms;
use super::reports::Reports;
use super::transaction::Transaction;
use crate::registry::{ConsumerHandle, LiveQueue, SharedPrefetch};

/// One open channel.
pub(super) struct Channel {
    pub serial: u64,
    /// Consumers by their tags.
    pub consumers: BTreeMap<String, Consumer>,
    /// For consumers that are still to come (`basic.qos` without global).
    pub prefetch: u32,
    /// The smallest limit that any of its consumers has had.
    pub tightest_prefetch: u32,
    pub shared_prefetch: Arc<SharedPrefetch>,
    pub confirms: Option<Confirms>,
    pub transaction: Option<Transaction>,
    pub reports: Reports,
    /// Deliveries whose progress is noted, by delivery tag.
    pub progress: BTreeMap<u64, NotedProgress>,
}

/// When the progress of a delivery was noted, ms since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotedProgress {
    pub first_at_ms: u64,
    pub last_at_ms: u64,
}

impl NotedProgress {
    /// Whether it is to be noted again: once a second at first, and the longer it goes on the more rarely, so
    /// that some tens of notes are all there ever are. A message's story is not to consist of them.
    pub(super) fn is_due(self, now_ms: u64) -> bool {
        const EVERY_MS: u64 = 1000;
        const OF_THE_TIME: u64 = 4;
        let since_first_ms = now_ms.saturating_sub(self.first_at_ms);
        let since_last_ms = now_ms.saturating_sub(self.last_at_ms);
        since_last_ms >= EVERY_MS.max(since_first_ms / OF_THE_TIME)
    }
}

/// A consumer of this channel.
pub(super) struct Consumer {
    pub handle: Arc<ConsumerHandle>,
    pub source: Source,
}

/// Where a consumer's messages come from.
pub(super) enum Source {
    Queue(Arc<LiveQueue>, ConsumerKey),
    /// Direct reply-to, with its token.
    Replies(String),
}

impl Channel {
    /// The worker that settles a delivery to one of its consumers, if that consumer still exists.
    pub(super) fn settled_by(&self, key: ConsumerKey) -> Option<&Arc<SettledBy>> {
        let is_it =
            |consumer: &&Consumer| matches!(&consumer.source, Source::Queue(_, of) if *of == key);
        self.consumers.values().find(is_it).map(|consumer| &consumer.handle.by)
    }

    /// Notes a limit for some of its consumers; 0 for none.
    pub(super) fn limit(&mut self, prefetch: u32) {
        if prefetch > 0 {
            self.tightest_prefetch = self.tightest_prefetch.min(prefetch);
        }
    }

    /// From now on its consumers take nothing more.
    pub(super) fn cancel_consumers(&self) {
        for consumer in self.consumers.values() {
            consumer.handle.is_cancelled.store(true, Ordering::Release);
        }
    }

    pub(super) fn new(serial: u64) -> Self {
        Self {
            serial,
            consumers: BTreeMap::new(),
            prefetch: 0,
            tightest_prefetch: u32::MAX,
            shared_prefetch: Arc::default(),
            confirms: None,
            transaction: None,
            reports: Reports::default(),
            progress: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NotedProgress;

    #[test]
    fn of_progress_some_tens_of_notes_are_all_there_ever_are() {
        let notes = |duration_ms: u64| {
            let mut noted = NotedProgress { first_at_ms: 0, last_at_ms: 0 };
            let due = (0..duration_ms).step_by(100).filter(|now_ms| {
                let is_due = noted.is_due(*now_ms);
                if is_due {
                    noted.last_at_ms = *now_ms;
                }
                is_due
            });
            due.count()
        };
        assert_eq!(notes(4000), 3);
        assert!((10..20).contains(&notes(60_000)), "{}", notes(60_000));
        assert!(notes(7 * 24 * 3_600_000) < 70, "{}", notes(7 * 24 * 3_600_000));
    }
}
