//! What a session keeps for each of its channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::queue::ConsumerKey;
use outcome::{Report, SettledBy};

use super::confirms::Confirms;
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
    /// Reports about messages that this channel holds, by delivery tag.
    pub reports: BTreeMap<u64, Report>,
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
            reports: BTreeMap::new(),
        }
    }
}
