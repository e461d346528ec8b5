//! The bindings of one exchange, in the form that its kind needs for routing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amqp::{BStr, ByteSlice};

use super::definition::ExchangeKind;
use crate::QueueId;
use crate::headers_match::{HeadersMatch, MessageHeaders};
use crate::topic::TopicTrie;

/// Where a binding leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RouteTarget {
    Queue(QueueId),
    /// The exchange's place in the topology.
    Exchange(u32),
}

/// A set with at least this many targets keeps an index, so that removal stays cheap.
const INDEXED_FROM: usize = 16;

/// Targets, each once, with the number of bindings that lead there.
///
/// *Invariant:* `index`, if present, has every entry's place.
#[derive(Debug, Clone, Default)]
pub(crate) struct TargetSet {
    entries: Vec<(RouteTarget, u32)>,
    index: Option<HashMap<RouteTarget, usize>>,
}

impl TargetSet {
    fn place(&self, target: RouteTarget) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&target).copied(),
            None => self.entries.iter().position(|(entry, _)| *entry == target),
        }
    }

    fn add(&mut self, target: RouteTarget) {
        if let Some(place) = self.place(target) {
            self.entries[place].1 += 1;
            return;
        }
        let place = self.entries.len();
        self.entries.push((target, 1));
        match &mut self.index {
            Some(index) => {
                index.insert(target, place);
            }
            None if self.entries.len() >= INDEXED_FROM => {
                let places = self.entries.iter().enumerate();
                self.index = Some(places.map(|(place, (entry, _))| (*entry, place)).collect());
            }
            None => {}
        }
    }

    fn remove(&mut self, target: RouteTarget) {
        let Some(place) = self.place(target) else { return };
        self.entries[place].1 -= 1;
        if self.entries[place].1 > 0 {
            return;
        }
        self.entries.swap_remove(place);
        if let Some(index) = &mut self.index {
            index.remove(&target);
            if let Some((moved, _)) = self.entries.get(place) {
                index.insert(*moved, place);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.entries.iter().map(|(target, _)| *target)
    }
}

/// All routes of an exchange.
#[derive(Debug, Clone)]
pub(crate) enum Routes {
    Direct(HashMap<Arc<str>, TargetSet>),
    Fanout(TargetSet),
    Topic(TopicTrie<TargetSet>),
    /// By binding number.
    Headers(BTreeMap<u32, (HeadersMatch, RouteTarget)>),
}

impl Routes {
    pub(crate) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::new()),
            ExchangeKind::Fanout => Self::Fanout(TargetSet::default()),
            ExchangeKind::Topic => Self::Topic(TopicTrie::new()),
            ExchangeKind::Headers => Self::Headers(BTreeMap::new()),
        }
    }

    /// Adds binding number `binding`; `headers` is what a headers exchange needs to know about it.
    pub(crate) fn add(
        &mut self,
        binding: u32,
        key: &Arc<str>,
        headers: Option<HeadersMatch>,
        target: RouteTarget,
    ) {
        match self {
            Self::Direct(keys) => keys.entry(Arc::clone(key)).or_default().add(target),
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(trie) => trie.entry(key).add(target),
            Self::Headers(bindings) => {
                if let Some(headers) = headers {
                    bindings.insert(binding, (headers, target));
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, binding: u32, key: &str, target: RouteTarget) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get_mut(key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            Self::Fanout(targets) => targets.remove(target),
            Self::Topic(trie) => {
                if let Some(targets) = trie.get_mut(key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        trie.remove(key);
                    }
                }
            }
            Self::Headers(bindings) => {
                bindings.remove(&binding);
            }
        }
    }

    pub(crate) fn needs_headers(&self) -> bool {
        matches!(self, Self::Headers(_))
    }

    /// Calls `found` with the targets for one routing key, perhaps more than once with the same
    /// target. Kinds that ignore the key give the same targets for every key.
    pub(crate) fn find(
        &self,
        key: &BStr,
        headers: &MessageHeaders<'_>,
        mut found: impl FnMut(RouteTarget),
    ) {
        match self {
            Self::Direct(keys) => {
                // Keys of bindings are UTF-8.
                let targets = key.to_str().ok().and_then(|key| keys.get(key));
                targets.into_iter().flat_map(TargetSet::iter).for_each(found);
            }
            Self::Fanout(targets) => targets.iter().for_each(found),
            Self::Topic(trie) => trie.matches(key, |targets| targets.iter().for_each(&mut found)),
            Self::Headers(bindings) => bindings
                .values()
                .filter(|(wanted, _)| wanted.matches(headers))
                .for_each(|(_, target)| found(*target)),
        }
    }

    /// Whether [`find`](Self::find) may give a target twice for one key.
    pub(crate) fn may_repeat(&self) -> bool {
        matches!(self, Self::Topic(_) | Self::Headers(_))
    }

    /// Whether the routing key matters.
    pub(crate) fn looks_at_key(&self) -> bool {
        matches!(self, Self::Direct(_) | Self::Topic(_))
    }
}
