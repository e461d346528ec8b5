//! Queues, exchanges and bindings as the model knows them: a few fixed names, naive routing.

use std::collections::{BTreeMap, BTreeSet};

use amqp::{FieldTable, FieldValue};
use node::{DeclareExchange, DeclareQueue};
use outcome::Notify;

use crate::random::Random;

/// The name of a queue or exchange; all of them are known in advance.
pub(crate) type Name = &'static str;

/// Where dead letters go if they are to be found again: a durable, plain queue.
pub(crate) const SINK: Name = "q0";
/// Shared queues.
pub(crate) const QUEUES: [Name; 6] = [SINK, "q1", "q2", "q3", "q4", "q5"];
/// Exclusive queues, one per client.
pub(crate) const EXCLUSIVE: [Name; 4] = ["e0", "e1", "e2", "e3"];
/// Exchanges, their types, and whether they are durable.
pub(crate) const EXCHANGES: [(Name, &str, bool); 3] =
    [("fan", "fanout", true), ("dir", "direct", true), ("top", "topic", false)];
/// Keys to bind with.
pub(crate) const KEYS: [Name; 4] = ["k0", "k1", "#", "*"];
/// The durable queue for outcome messages: it exists from the start, and nobody deletes it.
pub(crate) const REPLIES: Name = "r0";
/// A queue that never exists.
pub(crate) const NOWHERE: Name = "nowhere";

/// The static name.
pub(crate) fn queue_name(name: &str) -> Name {
    let known = QUEUES.iter().chain(&EXCLUSIVE).chain(&[REPLIES]).find(|known| **known == name);
    known.unwrap_or_else(|| panic!("unknown queue {name}"))
}

/// What happens at the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    DropHead,
    Reject,
    RejectAndDeadLetter,
}

/// A queue's properties and arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kind {
    pub durable: bool,
    pub auto_delete: bool,
    pub is_quorum: bool,
    pub ttl_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub length_max: Option<u64>,
    pub overflow: Overflow,
    pub priority_max: u8,
    pub delivery_limit: Option<u32>,
    pub single_active: bool,
    pub timeout_ms: Option<u64>,
    /// Exchange and routing key.
    pub dead_letter: Option<(Name, Option<Name>)>,
    /// `x-retry-delay-min` and `-max`.
    pub retry_ms: Option<(u64, u64)>,
    /// `x-deadline` and `x-notify` for messages without their own.
    pub deadline_ms: Option<u64>,
    pub notify: Option<Notify>,
    /// `x-message-deduplication`, and how long ids are remembered.
    pub deduplicates: Option<bool>,
    pub window_ms: Option<u64>,
}

pub(crate) const PLAIN: Kind = Kind {
    durable: true,
    auto_delete: false,
    is_quorum: false,
    ttl_ms: None,
    expires_ms: None,
    length_max: None,
    overflow: Overflow::DropHead,
    priority_max: 0,
    delivery_limit: None,
    single_active: false,
    timeout_ms: None,
    dead_letter: None,
    retry_ms: None,
    deadline_ms: None,
    notify: None,
    deduplicates: None,
    window_ms: None,
};

impl Kind {
    /// A kind for one of [`QUEUES`]; the first is always plain.
    pub(crate) fn random(random: &mut Random, name: Name) -> Self {
        if name == SINK {
            return PLAIN;
        }
        let kind = Self::random_storage(random);
        let notifies = [Notify::All, Notify::Processed, Notify::Failed];
        Self {
            retry_ms: random.chance(15).then(|| (1 + random.below(9), 10 + random.below(30))),
            deadline_ms: random.chance(8).then(|| 1 + random.below(60)),
            notify: random.chance(15).then(|| random.pick(&notifies)),
            deduplicates: random.chance(35).then(|| random.chance(80)),
            window_ms: random.chance(30).then(|| 1 + random.below(80)),
            ..kind
        }
    }

    fn random_storage(random: &mut Random) -> Self {
        let durable = random.chance(85);
        let base = Self { durable, ..PLAIN };
        let dead_letter = match random.below(10) {
            0..=3 => Some(("", Some(SINK))),
            4 => Some(("", Some("q4"))),
            5 => Some(("", Some("q5"))),
            6 => Some(("fan", None)),
            7 => Some(("", Some(NOWHERE))),
            _ => None,
        };
        let length_max = Some(1 + random.below(4));
        match random.below(12) {
            0 | 1 => base,
            2 => Self { ttl_ms: Some(random.below(40)), dead_letter, ..base },
            3 => Self { length_max, dead_letter, ..base },
            4 => Self { length_max, overflow: Overflow::Reject, ..base },
            5 => Self { length_max, overflow: Overflow::RejectAndDeadLetter, dead_letter, ..base },
            6 => Self { priority_max: 3, dead_letter, ..base },
            7 => Self { delivery_limit: Some(random.below(3) as u32), dead_letter, ..base },
            8 => Self { single_active: true, dead_letter, ..base },
            9 => Self { timeout_ms: Some(20 + random.below(40)), dead_letter, ..base },
            10 if random.chance(50) => Self { expires_ms: Some(30 + random.below(100)), ..base },
            10 => Self { auto_delete: true, ..base },
            _ => Self { durable: true, is_quorum: true, dead_letter, ..base },
        }
    }

    /// Whether redeliveries are counted in a header.
    pub(crate) fn counts_deliveries(&self) -> bool {
        self.is_quorum || self.delivery_limit.is_some()
    }

    /// Whether it requests anything on behalf of its messages.
    pub(crate) fn asks(&self) -> bool {
        self.notify.is_some() || self.deadline_ms.is_some()
    }

    /// The number of redeliveries after which a message dies.
    pub(crate) fn redeliveries_max(&self) -> Option<u32> {
        self.delivery_limit.or(self.is_quorum.then_some(20))
    }

    pub(crate) fn options(&self, exclusive: bool) -> DeclareQueue {
        let mut arguments = FieldTable::new();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                arguments.insert(name, FieldValue::I64(value as i64));
            }
        };
        number("x-message-ttl", self.ttl_ms);
        number("x-expires", self.expires_ms);
        number("x-max-length", self.length_max);
        number("x-delivery-limit", self.delivery_limit.map(u64::from));
        number("x-consumer-timeout", self.timeout_ms);
        number("x-retry-delay-min", self.retry_ms.map(|(min_ms, _)| min_ms));
        number("x-retry-delay-max", self.retry_ms.map(|(_, max_ms)| max_ms));
        number("x-deadline", self.deadline_ms);
        number("x-cache-ttl", self.window_ms);
        number("x-max-priority", (self.priority_max > 0).then_some(self.priority_max.into()));
        match self.overflow {
            Overflow::DropHead => {}
            Overflow::Reject => arguments.insert("x-overflow", "reject-publish"),
            Overflow::RejectAndDeadLetter => arguments.insert("x-overflow", "reject-publish-dlx"),
        }
        if let Some(notify) = self.notify {
            arguments.insert("x-notify", notify_name(notify));
        }
        if let Some(deduplicates) = self.deduplicates {
            arguments.insert("x-message-deduplication", FieldValue::Bool(deduplicates));
        }
        if self.single_active {
            arguments.insert("x-single-active-consumer", FieldValue::Bool(true));
        }
        if self.is_quorum {
            arguments.insert("x-queue-type", "quorum");
        }
        if let Some((exchange, key)) = self.dead_letter {
            arguments.insert("x-dead-letter-exchange", exchange);
            if let Some(key) = key {
                arguments.insert("x-dead-letter-routing-key", key);
            }
        }
        DeclareQueue {
            passive: false,
            durable: self.durable,
            exclusive,
            auto_delete: self.auto_delete,
            arguments,
        }
    }
}

/// As in `x-notify`.
pub(crate) fn notify_name(notify: Notify) -> &'static str {
    match notify {
        Notify::All => "all",
        Notify::Processed => "processed",
        Notify::Failed => "failed",
    }
}

/// A consumer: client, channel number, tag.
pub(crate) type ConsumerName = (u64, u16, String);

/// An existing queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueState {
    pub kind: Kind,
    /// The client it belongs to, if it is exclusive.
    pub owner: Option<u64>,
    /// Certain to be there after a crash.
    pub is_stored: bool,
    /// The step at which it was declared or last emptied by force.
    pub emptied_at_step: u64,
    pub last_used_ms: u64,
    /// In the order in which they came.
    pub consumers: Vec<ConsumerName>,
}

impl QueueState {
    /// Whether it survives a crash at all.
    pub(crate) fn is_durable(&self) -> bool {
        self.kind.durable && self.owner.is_none()
    }
}

/// Source, queue, routing key.
pub(crate) type Binding = (Name, Name, Name);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    pub queues: BTreeMap<Name, QueueState>,
    /// Whether each is certain to be there after a crash.
    pub exchanges: BTreeMap<Name, bool>,
    pub bindings: BTreeMap<Binding, bool>,
    /// Durable things that were deleted and may come back with a crash.
    pub doubtful_queues: BTreeSet<Name>,
    pub doubtful_exchanges: BTreeSet<Name>,
    pub doubtful_bindings: BTreeSet<Binding>,
}

impl Topology {
    /// Where a message goes.
    pub(crate) fn route(&self, exchange: Name, key: Name) -> BTreeSet<Name> {
        if exchange.is_empty() {
            return self.queues.keys().filter(|name| **name == key).copied().collect();
        }
        let fits = |bound: Name| match exchange {
            "fan" => true,
            "dir" => bound == key,
            _ => bound == key || bound == "#" || bound == "*",
        };
        let bindings = self.bindings.keys();
        let bindings = bindings.filter(|(source, _, bound)| *source == exchange && fits(bound));
        bindings.map(|(_, queue, _)| *queue).collect()
    }

    /// Everything done so far is durable.
    pub(crate) fn store_all(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.is_stored = queue.is_durable());
        for (name, stored) in &mut self.exchanges {
            *stored = is_durable_exchange(name);
        }
        let Self { queues, exchanges, bindings, .. } = self;
        for ((source, queue, _), stored) in bindings {
            *stored = exchanges.get(source) == Some(&true)
                && queues.get(queue).is_some_and(|queue| queue.is_stored);
        }
        self.doubtful_queues.clear();
        self.doubtful_exchanges.clear();
        self.doubtful_bindings.clear();
    }

    /// Takes a queue away with its bindings.
    pub(crate) fn delete_queue(&mut self, name: Name) -> Option<QueueState> {
        let removed = self.queues.remove(name)?;
        if removed.is_durable() {
            self.doubtful_queues.insert(name);
        }
        self.unbind_all(|(_, queue, _)| *queue == name);
        Some(removed)
    }

    pub(crate) fn delete_exchange(&mut self, name: Name) {
        self.exchanges.remove(name);
        if is_durable_exchange(name) {
            self.doubtful_exchanges.insert(name);
        }
        self.unbind_all(|(source, ..)| *source == name);
    }

    pub(crate) fn unbind_all(&mut self, which: impl Fn(&Binding) -> bool) {
        let gone: Vec<Binding> = self.bindings.keys().filter(|b| which(b)).copied().collect();
        for binding in gone {
            self.bindings.remove(&binding);
            // Whether it was durable depends on things that may be gone already; doubt does no
            // harm.
            self.doubtful_bindings.insert(binding);
        }
    }

    /// Whether messages that die in a queue are certain to be found in [`SINK`], from a step on.
    pub(crate) fn sinks(&self, kind: &Kind, since_step: u64) -> bool {
        kind.dead_letter == Some(("", Some(SINK)))
            && self.queues.get(SINK).is_some_and(|sink| sink.emptied_at_step < since_step)
    }
}

pub(crate) fn is_durable_exchange(name: Name) -> bool {
    EXCHANGES.iter().any(|(of, _, durable)| *of == name && *durable)
}

/// How an exchange is declared.
pub(crate) fn exchange_options(durable: bool) -> DeclareExchange {
    DeclareExchange { durable, ..DeclareExchange::default() }
}
