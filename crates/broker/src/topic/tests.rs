//! Tests of the topic trie, against a naive matcher.

use super::*;
use proptest::prelude::*;

/// The rule, word by word, as the specification puts it.
fn naive(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            naive(rest, key) || key.split_first().is_some_and(|(_, key)| naive(pattern, key))
        }
        (Some((&"*", rest)), Some((_, key))) => naive(rest, key),
        (Some((word, rest)), Some((first, key))) => word == first && naive(rest, key),
        _ => false,
    }
}

fn naive_match(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = words(pattern).collect();
    let key: Vec<&str> = words(key).collect();
    naive(&pattern, &key)
}

fn matching(trie: &TopicTrie<String>, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    trie.matches(key, |value| found.push(value.clone()));
    found.sort();
    found
}

#[test]
fn patterns_match_as_the_specification_says() {
    let table = [
        ("*.stock.#", "usd.stock", true),
        ("*.stock.#", "eur.stock.db", true),
        ("*.stock.#", "stock.nasdaq", false),
        ("#", "", true),
        ("#", "a", true),
        ("#", "a.b.c", true),
        ("", "", true),
        ("", "a", false),
        ("*", "", false),
        ("*", "a", true),
        ("*", "a.b", false),
        ("*.*", "a.", true),
        ("a.#", "a", true),
        ("#.a", "a", true),
        ("#.a", "b.c.a", true),
        ("#.a", "a.b", false),
        ("#.a.#", "x.a.y", true),
        ("#.#", "", true),
        ("#.#", "a", true),
        ("#.*", "", false),
        ("*.#", "", false),
        ("*.#", "a", true),
        ("a.*.c", "a..c", true),
        ("a.b", "a.B", false),
        ("a*", "ab", false),
        ("a.#.z", "a.z", true),
        ("a.#.z", "a.b.c.z", true),
        ("#.a.#.b.#", "x.a.y.b", true),
        ("#.a.#.b.#", "x.b.y.a", false),
    ];
    for (pattern, key, expected) in table {
        assert_eq!(naive_match(pattern, key), expected, "naive: {pattern:?} on {key:?}");
        let mut trie = TopicTrie::new();
        trie.insert(pattern, ());
        let mut count = 0;
        trie.matches(key, |()| count += 1);
        assert_eq!(count, usize::from(expected), "{pattern:?} on {key:?}");
    }
}

#[test]
fn removing_every_pattern_leaves_only_the_root() {
    let patterns = ["", "a", "a.b", "a.b.c", "*.b", "#", "a.#.c", "a.#", "a..", "#.#"];
    let mut trie = TopicTrie::new();
    for pattern in patterns {
        assert_eq!(trie.insert(pattern, pattern.to_owned()), None);
    }
    assert_eq!(trie.len(), patterns.len());
    for pattern in patterns {
        assert_eq!(trie.remove(pattern).as_deref(), Some(pattern));
        assert_eq!(trie.remove(pattern), None);
    }
    assert!(trie.is_empty());
    assert!(trie.node(ROOT).is_vacant());
    assert_eq!(trie.free.len(), trie.nodes.len() - 1);
}

#[test]
fn many_hashes_stay_cheap() {
    let mut trie = TopicTrie::new();
    for repeat in 1..60 {
        trie.insert(&format!("{}b", "#.a.".repeat(repeat)), repeat);
    }
    let key = ["a"; 127].join(".");
    let mut count = 0;
    trie.matches(&key, |_| count += 1);
    assert_eq!(count, 0);
    trie.matches(format!("{key}.b"), |_| count += 1);
    assert_eq!(count, 59);
}

fn key() -> impl Strategy<Value = String> {
    let word = prop_oneof![4 => "[ab]", 1 => Just(String::new()), 1 => Just("#".to_owned())];
    prop::collection::vec(word, 0..7).prop_map(|words| words.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => "[ab]",
        2 => Just("*".to_owned()),
        3 => Just("#".to_owned()),
        1 => Just(String::new())
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn trie_agrees_with_the_naive_matcher(
        patterns in prop::collection::vec((pattern(), any::<bool>()), 0..24),
        keys in prop::collection::vec(key(), 1..12),
    ) {
        let mut trie = TopicTrie::new();
        let mut model = std::collections::BTreeSet::new();
        for (pattern, _) in &patterns {
            let had = trie.insert(pattern, pattern.clone());
            prop_assert_eq!(had.is_none(), model.insert(pattern.clone()));
        }
        for (pattern, keep) in &patterns {
            if !keep {
                prop_assert_eq!(trie.remove(pattern).is_some(), model.remove(pattern));
            }
        }
        prop_assert_eq!(trie.len(), model.len());
        for key in &keys {
            let expected: Vec<String> =
                model.iter().filter(|pattern| naive_match(pattern, key)).cloned().collect();
            prop_assert_eq!(matching(&trie, key), expected, "key {:?}", key);
        }
        for pattern in &patterns {
            trie.remove(&pattern.0);
        }
        prop_assert!(trie.node(ROOT).is_vacant());
    }
}
