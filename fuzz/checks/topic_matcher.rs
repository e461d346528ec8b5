//! Topic patterns come and go and keys are looked up: the trie must find what a plain table of
//! reachable places finds for each pattern alone.

use std::collections::BTreeSet;

use broker::topic::TopicTrie;

/// AMQP's limit for patterns and keys.
const LENGTH_MAX: usize = 255;

/// One step per line: `+pattern` inserts, `-pattern` removes, anything else is a key.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut trie = TopicTrie::new();
    let mut patterns = BTreeSet::new();
    for line in text.split('\n').filter(|line| line.len() <= LENGTH_MAX) {
        if let Some(pattern) = line.strip_prefix('+') {
            let old = trie.insert(pattern, pattern);
            assert_eq!(old.is_none(), patterns.insert(pattern));
        } else if let Some(pattern) = line.strip_prefix('-') {
            assert_eq!(trie.remove(pattern).is_some(), patterns.remove(pattern));
        } else {
            let mut found = Vec::new();
            trie.matches(line, |pattern| found.push(*pattern));
            found.sort_unstable();
            let expected: Vec<&str> =
                patterns.iter().copied().filter(|pattern| matches(pattern, line)).collect();
            assert_eq!(found, expected, "key {line:?}");
        }
        assert_eq!(trie.len(), patterns.len());
    }
}

/// Goes through the pattern with the set of places the key may have reached: polynomial, and
/// nothing like the trie.
fn matches(pattern: &str, key: &str) -> bool {
    let key: Vec<&str> = words(key).collect();
    let mut reached = vec![false; key.len() + 1];
    reached[0] = true;
    for word in words(pattern) {
        let mut next = vec![false; key.len() + 1];
        if word == "#" {
            let first = reached.iter().position(|&place| place);
            next.iter_mut().skip(first.unwrap_or(key.len() + 1)).for_each(|place| *place = true);
        } else {
            for at in 0..key.len() {
                next[at + 1] = reached[at] && (word == "*" || word == key[at]);
            }
        }
        reached = next;
    }
    reached[key.len()]
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').filter(move |_| !text.is_empty())
}
