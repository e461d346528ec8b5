//! `docs/amqp.md` names everything that a client can send: no method or queue argument can be added
//! without a line there that says how it is treated.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/amqp.md");
const METHODS: &str = include_str!("../../amqp/src/method/list.rs");
const ARGUMENTS: [&str; 3] = [
    include_str!("../../broker/src/arguments.rs"),
    include_str!("../../broker/src/arguments/check.rs"),
    include_str!("../../broker/src/arguments/equivalence.rs"),
];

/// Whatever stands between quotes in a source text and looks like a name.
fn quoted_names(source: &str) -> BTreeSet<&str> {
    let is_name = |text: &&str| {
        let mut bytes = text.bytes();
        !text.is_empty() && bytes.all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'.')
    };
    source.split('"').filter(is_name).collect()
}

fn check_documented(names: &BTreeSet<&str>, count_min: usize) {
    assert!(names.len() >= count_min, "only {} names were found in the source", names.len());
    let missing: Vec<_> =
        names.iter().filter(|name| !DOCUMENT.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/amqp.md says nothing of {missing:?}");
}

#[test]
fn every_method_is_documented() {
    let names = quoted_names(METHODS);
    check_documented(&names.into_iter().filter(|name| name.contains('.')).collect(), 60);
}

#[test]
fn every_queue_argument_is_documented() {
    let names = ARGUMENTS.iter().flat_map(|source| quoted_names(source));
    check_documented(&names.filter(|name| name.starts_with("x-")).collect(), 25);
}
