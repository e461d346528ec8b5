//! Tests of the headers matcher, against a naive one.

use std::collections::BTreeMap;

use amqp::{BStr, ByteSlice, FieldTable, FieldValue, TableRef};
use proptest::prelude::*;

use super::*;

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().collect()
}

fn encoded(table: &FieldTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.encode_with_length(&mut bytes);
    bytes.split_off(4)
}

fn matches(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let bytes = encoded(headers);
    let headers = MessageHeaders::read(Some(TableRef::new(&bytes))).unwrap();
    HeadersMatch::parse(arguments).unwrap().matches(&headers)
}

#[test]
fn x_match_decides_how_many_and_which_must_hit() {
    let all = || ("x-match", FieldValue::from("all"));
    let any = || ("x-match", FieldValue::from("any"));
    let a = || ("a", FieldValue::from(1i32));
    let b = || ("b", FieldValue::from("two"));
    let x = || ("x-c", FieldValue::from(true));
    let headers = table([a(), b()]);
    let cases = [
        (table([]), true),
        (table([all()]), true),
        (table([any()]), false),
        (table([a()]), true),
        (table([a(), b()]), true),
        (table([all(), a(), ("c", 1i32.into())]), false),
        (table([any(), a(), ("c", 1i32.into())]), true),
        (table([any(), ("c", 1i32.into())]), false),
        (table([all(), a(), x()]), true),
        (table([("x-match", "all-with-x".into()), a(), x()]), false),
        (table([any(), x()]), false),
        (table([("x-match", "any-with-x".into()), x()]), false),
        (table([("x-match", "any-with-x".into()), x(), b()]), true),
    ];
    for (arguments, expected) in cases {
        assert_eq!(matches(&arguments, &headers), expected, "{arguments:?}");
    }
    let with_x = table([x()]);
    assert!(matches(&table([("x-match", "any-with-x".into()), x()]), &with_x));
    assert!(matches(&table([("x-match", "all-with-x".into()), x()]), &with_x));
    assert!(!matches(&table([any(), x()]), &with_x));
}

#[test]
fn a_message_without_headers_matches_only_what_asks_for_nothing() {
    let none = MessageHeaders::read(None).unwrap();
    assert!(HeadersMatch::parse(&table([])).unwrap().matches(&none));
    assert!(!HeadersMatch::parse(&table([("a", FieldValue::Void)])).unwrap().matches(&none));
}

#[test]
fn values_compare_by_value() {
    let nested = |value: i32| FieldValue::Table(table([("n", value.into())]));
    let cases: Vec<(FieldValue, FieldValue, bool)> = vec![
        (1i8.into(), 1i64.into(), true),
        (1u8.into(), 1i32.into(), true),
        (1i32.into(), 2i32.into(), false),
        (1i32.into(), 1.0f64.into(), false),
        (1.0f32.into(), 1i64.into(), false),
        (1.5f32.into(), 1.5f64.into(), true),
        (1i32.into(), 1.5f64.into(), false),
        (((1i64 << 53) + 1).into(), ((1i64 << 53) as f64).into(), false),
        (f64::NAN.into(), 0i32.into(), false),
        (1i32.into(), "1".into(), false),
        (1i32.into(), true.into(), false),
        ("a".into(), FieldValue::Bytes(b"a".to_vec()), true),
        ("a".into(), "A".into(), false),
        (FieldValue::Void, "anything".into(), true),
        (FieldValue::Void, nested(1), true),
        (FieldValue::Timestamp(5), FieldValue::Timestamp(5), true),
        (nested(1), nested(1), true),
        (nested(1), nested(2), false),
        (FieldValue::Array(vec![1i32.into()]), FieldValue::Array(vec![1i32.into()]), true),
        (FieldValue::Array(vec![1i32.into()]), FieldValue::Array(vec![]), false),
        (FieldValue::Array(vec![]), FieldValue::Array(vec![1i32.into()]), false),
    ];
    for (wanted, found, expected) in cases {
        let arguments = table([("k", wanted.clone())]);
        let headers = table([("k", found.clone())]);
        assert_eq!(matches(&arguments, &headers), expected, "{wanted:?} and {found:?}");
    }
}

#[test]
fn a_wrong_x_match_is_refused_in_rabbitmqs_words() {
    let error = HeadersMatch::parse(&table([("x-match", "some".into())])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid x-match field value <<\"some\">>; \
         expected all, any, all-with-x, or any-with-x"
    );
    let error = HeadersMatch::parse(&table([("x-match", 3i32.into())])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid x-match field type signedint (value 3); expected longstr"
    );
}

#[test]
fn malformed_headers_are_an_error() {
    assert!(MessageHeaders::read(Some(TableRef::new(&[3, b'a', b'b']))).is_err());
}

fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        (0i32..3).prop_map(FieldValue::from),
        (0i64..3).prop_map(FieldValue::from),
        "[ab]".prop_map(FieldValue::from),
        any::<bool>().prop_map(FieldValue::from),
        Just(FieldValue::Void),
    ]
}

fn entries() -> impl Strategy<Value = Vec<(String, FieldValue)>> {
    prop::collection::vec(("(x-)?[abc]", value()), 0..5)
}

/// RabbitMQ's rule, straight from its documentation.
fn naive(kind: &str, arguments: &[(String, FieldValue)], headers: &FieldTable) -> bool {
    let headers: BTreeMap<&BStr, &FieldValue> = headers.iter().collect();
    let same = |left: &FieldValue, right: &FieldValue| match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    };
    let mut hits = arguments
        .iter()
        .filter(|(name, _)| kind.ends_with("-with-x") || !name.starts_with("x-"))
        .map(|(name, value)| {
            headers
                .get(name.as_bytes().as_bstr())
                .is_some_and(|found| *value == FieldValue::Void || same(value, found))
        });
    if kind.starts_with("any") { hits.any(|hit| hit) } else { hits.all(|hit| hit) }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_naive_rule(
        kind in prop::sample::select(vec!["all", "any", "all-with-x", "any-with-x"]),
        arguments in entries(),
        headers in entries(),
    ) {
        let headers: FieldTable = headers.into_iter().collect();
        let mut table: FieldTable = arguments.iter().cloned().collect();
        table.push("x-match", kind);
        prop_assert_eq!(matches(&table, &headers), naive(kind, &arguments, &headers));
    }
}
