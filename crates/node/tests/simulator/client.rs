//! A simulated connection: its channels as the client knows them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use node::{Session, Settlement};

use crate::model::Key;
use crate::told::Report;
use crate::topology::{Binding, Name};

/// An unsettled delivery.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub key: Key,
    /// The consumer's tag; `None` for `basic.get`.
    pub consumer: Option<String>,
    /// Whether it counts against the channel's prefetch.
    pub is_counted: bool,
    pub delivered_at_ms: u64,
    /// The queue has taken it back or is gone: settling it changes nothing.
    pub is_void: bool,
    /// What the worker reported on it.
    pub report: Option<Report>,
    /// Settled in the current transaction.
    pub in_transaction: bool,
}

/// A consumer.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub queue: Name,
    pub no_ack: bool,
    pub prefetch: usize,
    /// The last sequence number, by publishing channel and priority level.
    pub last_sequences: BTreeMap<(u64, u8), u64>,
}

/// A message that waits for its confirm.
#[derive(Debug, Clone)]
pub(crate) struct Unconfirmed {
    /// `None` for a worker's report.
    pub message: Option<u32>,
    pub needs_store: bool,
    pub may_be_refused: bool,
    /// Held until it is acked, but at most until this time.
    pub held_until_ms: Option<u64>,
    /// How many commits the node had made before it was published.
    pub commit_count: u64,
}

/// Confirms of a channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confirms {
    pub last: u64,
    pub waiting: BTreeMap<u64, Unconfirmed>,
}

/// What a transaction has gathered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    /// With the queues that each goes to.
    pub published: Vec<(u32, BTreeSet<Name>)>,
    pub settled: Vec<(u64, Settlement)>,
    /// Messages that are returned at the commit.
    pub returns: Vec<u32>,
}

/// A channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Different from that of any other channel.
    pub id: u64,
    pub last_tag: u64,
    pub held: BTreeMap<u64, Held>,
    pub consumers: BTreeMap<String, Consumer>,
    pub prefetch: usize,
    pub shared_prefetch: usize,
    pub confirms: Option<Confirms>,
    pub transaction: Option<Gathered>,
    /// How many messages were published here.
    pub published_count: u64,
}

impl Channel {
    /// How many deliveries count against a consumer's prefetch.
    pub(crate) fn held_by(&self, consumer: &str) -> usize {
        let is_its = |held: &&Held| held.consumer.as_deref() == Some(consumer) && !held.is_void;
        self.held.values().filter(is_its).count()
    }

    /// How many deliveries count against the channel's prefetch.
    pub(crate) fn counted(&self) -> usize {
        self.held.values().filter(|held| held.is_counted).count()
    }

    /// Tags that can be settled: all up to one of them, or only that one.
    pub(crate) fn tags(&self, tag: u64, multiple: bool) -> Vec<u64> {
        let open = self.held.iter().filter(|(_, held)| !held.in_transaction).map(|(tag, _)| *tag);
        open.filter(|of| *of == tag || (multiple && (tag == 0 || *of <= tag))).collect()
    }
}

/// What is promised when a reply arrives.
#[derive(Debug, Clone)]
pub(crate) enum Promise {
    QueueDeclared(Name),
    QueueDeleted(Name),
    Removed(Vec<Key>),
    ExchangeDeclared(Name),
    ExchangeDeleted(Name),
    Bound(Binding),
    Unbound(Binding),
    Committed(usize),
}

/// See the module's documentation.
pub(crate) struct Client {
    pub id: u64,
    /// The name of this client's exclusive queue.
    pub own_queue: Name,
    pub session: Session,
    pub channels: BTreeMap<u16, Channel>,
    /// Replies that wait until the store is durable up to a position.
    pub waiting: Vec<(u64, Promise)>,
    /// Messages that must be returned, with their channels.
    pub returns: VecDeque<(u16, u32)>,
    /// Consumers that must be told that their queue is gone.
    pub cancels: Vec<(u16, String)>,
}
