//! Which topic patterns match a routing key: a trie over words.
//!
//! Owns the words of all patterns of one topic exchange. It knows nothing of bindings: a pattern
//! maps to one value, which is the caller's.
//!
//! A key is split into words at its dots; `*` in a pattern stands for one word, `#` for any number
//! of words. The empty key has no words, as in RabbitMQ, so `#` and the empty pattern match it and
//! `*` does not. In a key `*` and `#` are words like any other.
//!
//! *Invariants:* the cost of a match depends on the words of the key and on the nodes they reach,
//! never on the number of patterns; each value is visited at most once; a match is polynomial for
//! any set of patterns, however many `#` they hold; a match without two `#` on one path allocates
//! nothing. No node but the root has neither a value nor children.

use std::collections::{HashMap, HashSet};

const ROOT: u32 = 0;

/// A map from topic patterns to values, queried by routing key.
///
/// Matching recurses once per word of the key, so keys should stay within AMQP's 255 bytes.
#[derive(Clone, Debug)]
pub struct TopicTrie<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Clone, Debug)]
struct Node<V> {
    literals: HashMap<Box<str>, u32>,
    star: Option<u32>,
    hash: Option<u32>,
    /// How many `#` are on the path to this node, itself included; two stands for two or more.
    hash_depth: u8,
    value: Option<V>,
}

impl<V> Node<V> {
    fn new(hash_depth: u8) -> Self {
        Self { literals: HashMap::new(), star: None, hash: None, hash_depth, value: None }
    }

    fn child(&self, word: &str) -> Option<u32> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            _ => self.literals.get(word).copied(),
        }
    }

    fn is_vacant(&self) -> bool {
        self.value.is_none()
            && self.star.is_none()
            && self.hash.is_none()
            && self.literals.is_empty()
    }
}

impl<V> Default for TopicTrie<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> TopicTrie<V> {
    /// A trie without patterns.
    pub fn new() -> Self {
        Self { nodes: vec![Node::new(0)], free: Vec::new(), count: 0 }
    }

    /// The number of patterns that have a value.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no pattern has a value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives `pattern` a value and returns the one it had.
    pub fn insert(&mut self, pattern: &str, value: V) -> Option<V> {
        let node = self.node_for(pattern);
        let old = self.node_mut(node).value.replace(value);
        self.count += usize::from(old.is_none());
        old
    }

    /// The value of exactly this pattern (no matching).
    pub fn get(&self, pattern: &str) -> Option<&V> {
        self.node(self.find(pattern)?).value.as_ref()
    }

    /// The value of exactly this pattern, to be changed.
    pub fn get_mut(&mut self, pattern: &str) -> Option<&mut V> {
        let node = self.find(pattern)?;
        self.node_mut(node).value.as_mut()
    }

    /// The value of exactly this pattern, created with `Default` if there is none.
    pub fn entry(&mut self, pattern: &str) -> &mut V
    where
        V: Default,
    {
        let node = self.node_for(pattern);
        if self.node(node).value.is_none() {
            self.count += 1;
        }
        self.node_mut(node).value.get_or_insert_with(V::default)
    }

    /// Removes the value of exactly this pattern, and the nodes that are no longer needed.
    pub fn remove(&mut self, pattern: &str) -> Option<V> {
        let mut path = vec![ROOT];
        for word in words(pattern) {
            let last = path[path.len() - 1];
            path.push(self.node(last).child(word)?);
        }
        let last = path[path.len() - 1];
        let value = self.node_mut(last).value.take()?;
        self.count -= 1;
        self.prune(pattern, &path);
        Some(value)
    }

    /// Calls `found` with the value of every pattern that matches `key`, each once.
    pub fn matches<'a>(&'a self, key: impl AsRef<[u8]>, mut found: impl FnMut(&'a V)) {
        let key = key.as_ref();
        let mut search = Search { trie: self, key, seen: HashSet::new(), found: &mut found };
        search.visit(ROOT, start(key));
    }

    fn node(&self, index: u32) -> &Node<V> {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node<V> {
        &mut self.nodes[index as usize]
    }

    fn find(&self, pattern: &str) -> Option<u32> {
        words(pattern).try_fold(ROOT, |node, word| self.node(node).child(word))
    }

    /// The node of `pattern`, created if needed.
    fn node_for(&mut self, pattern: &str) -> u32 {
        let mut node = ROOT;
        for word in words(pattern) {
            node = match self.node(node).child(word) {
                Some(child) => child,
                None => self.add_child(node, word),
            };
        }
        node
    }

    fn add_child(&mut self, parent: u32, word: &str) -> u32 {
        let depth = self.node(parent).hash_depth;
        let child = Node::new(if word == "#" { depth.saturating_add(1).min(2) } else { depth });
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = child;
                index
            }
            None => {
                self.nodes.push(child);
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = self.node_mut(parent);
        match word {
            "*" => parent.star = Some(index),
            "#" => parent.hash = Some(index),
            _ => {
                parent.literals.insert(word.into(), index);
            }
        }
        index
    }

    /// Drops the nodes at the end of `path` that are no longer needed; `path` spells `pattern` from
    /// the root.
    fn prune(&mut self, pattern: &str, path: &[u32]) {
        let mut word_ends = pattern;
        for step in (1..path.len()).rev() {
            if !self.node(path[step]).is_vacant() {
                return;
            }
            let (rest, word) = word_ends.rsplit_once('.').unwrap_or(("", word_ends));
            word_ends = rest;
            let parent = self.node_mut(path[step - 1]);
            match word {
                "*" => parent.star = None,
                "#" => parent.hash = None,
                _ => {
                    parent.literals.remove(word);
                }
            }
            self.free.push(path[step]);
        }
    }
}

/// One match: a place in `key` is the byte position where a word starts; `key.len() + 1` is the
/// place after the last word.
struct Search<'t, 'k, V, F> {
    trie: &'t TopicTrie<V>,
    key: &'k [u8],
    /// The `(node, place)` pairs already visited, kept only where two paths can lead to one.
    seen: HashSet<(u32, usize)>,
    found: &'k mut F,
}

impl<'t, V, F: FnMut(&'t V)> Search<'t, '_, V, F> {
    fn visit(&mut self, index: u32, place: usize) {
        let trie = self.trie;
        let node = trie.node(index);
        if let Some(hash) = node.hash {
            self.visit_hash(hash, place);
        }
        if place > self.key.len() {
            if let Some(value) = &node.value {
                (self.found)(value);
            }
            return;
        }
        if node.star.is_none() && node.literals.is_empty() {
            return;
        }
        let word = word_at(self.key, place);
        let next = place + word.len() + 1;
        if let Some(star) = node.star {
            self.visit(star, next);
        }
        // Patterns are UTF-8, keys need not be.
        if let Ok(word) = str::from_utf8(word)
            && let Some(&child) = node.literals.get(word)
        {
            self.visit(child, next);
        }
    }

    /// Visits node `index`, a `#`: it may take any number of words from `place` on.
    fn visit_hash(&mut self, index: u32, mut place: usize) {
        let node = self.trie.node(index);
        if node.star.is_none() && node.literals.is_empty() && node.hash.is_none() {
            // A trailing `#`, by far the most common, takes all the rest. Its node can be reached
            // again only if another `#` comes before it.
            place = self.key.len() + 1;
        }
        loop {
            if node.hash_depth < 2 || self.seen.insert((index, place)) {
                self.visit(index, place);
            } else {
                // The earlier visit went through all later places, too.
                return;
            }
            if place > self.key.len() {
                return;
            }
            place += word_at(self.key, place).len() + 1;
        }
    }
}

fn start(key: &[u8]) -> usize {
    // The empty key has no words: it starts at its end.
    usize::from(key.is_empty())
}

fn word_at(key: &[u8], place: usize) -> &[u8] {
    let rest = &key[place..];
    match rest.iter().position(|&byte| byte == b'.') {
        Some(end) => &rest[..end],
        None => rest,
    }
}

fn words(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('.').filter(move |_| !pattern.is_empty())
}

#[cfg(test)]
mod tests;
