//! Tests of queue arguments and of RabbitMQ's error texts for them.

use amqp::{FieldTable, FieldValue, ReplyCode};
use outcome::Notify;

use super::*;

const QUEUE: &str = "queue 'q' in vhost '/'";
const SHARED: QueueProperties =
    QueueProperties { durable: true, exclusive: false, auto_delete: false };

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().collect()
}

fn parse<const N: usize>(entries: [(&str, FieldValue); N]) -> QueueArguments {
    QueueArguments::parse(&table(entries), SHARED, QUEUE).unwrap()
}

fn quorum() -> (&'static str, FieldValue) {
    ("x-queue-type", "quorum".into())
}

#[test]
fn no_arguments_are_a_plain_classic_queue() {
    assert_eq!(parse([]), QueueArguments::default());
    assert_eq!(parse([("x-queue-type", "classic".into())]), QueueArguments::default());
}

#[test]
fn every_argument_is_read() {
    let parsed = parse([
        ("x-message-ttl", 0i8.into()),
        ("x-expires", 1800u16.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
        ("x-max-length", 10i64.into()),
        ("x-max-length-bytes", 20u32.into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-max-priority", 255i32.into()),
        ("x-single-active-consumer", true.into()),
        ("x-delivery-limit", 5i32.into()),
        ("x-consumer-timeout", 1000i32.into()),
        ("x-delayed-retry-type", "failed".into()),
        ("x-delayed-retry-min", 7i32.into()),
        ("x-delayed-retry-max", 70i32.into()),
        ("x-retry-delay-min", 8i32.into()),
        ("x-retry-delay-max", 80i32.into()),
        ("x-notify", "failed".into()),
        ("x-confirm-on", "ack".into()),
        ("x-deadline", 90i32.into()),
        ("x-message-deduplication", true.into()),
        ("x-cache-ttl", 9i32.into()),
        ("x-queue-mode", "lazy".into()),
        ("x-queue-version", 2i32.into()),
        ("x-queue-leader-locator", "balanced".into()),
        ("x-queue-master-locator", "min-masters".into()),
        ("x-mine", FieldValue::Void),
    ]);
    let expected = QueueArguments {
        queue_type: QueueType::Classic,
        message_ttl_ms: Some(0),
        expires_ms: Some(1800),
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some("dead".to_owned()),
        dead_letter_at_least_once: false,
        length_max: Some(10),
        bytes_max: Some(20),
        overflow: Overflow::RejectPublishDlx,
        priority_max: Some(255),
        single_active_consumer: true,
        delivery_limit: Some(5),
        consumer_timeout_ms: Some(1000),
        delayed_retry: RetryKind::Failed,
        delayed_retry_min_ms: Some(7),
        delayed_retry_max_ms: Some(70),
        retry_delay_min_ms: Some(8),
        retry_delay_max_ms: Some(80),
        request: OutcomeRequest {
            notify: Some(Notify::Failed),
            confirm_on_ack: Some(true),
            deadline_ms: Some(90),
        },
        message_deduplication: Some(true),
        cache_ttl_ms: Some(9),
    };
    assert_eq!(parsed, expected);
}

#[test]
fn quorum_queues_have_a_delivery_limit_unless_told_otherwise() {
    assert_eq!(parse([quorum()]).delivery_limit, Some(20));
    assert_eq!(parse([quorum(), ("x-delivery-limit", 3i32.into())]).delivery_limit, Some(3));
    assert_eq!(parse([quorum(), ("x-delivery-limit", (-1i32).into())]).delivery_limit, None);
    assert_eq!(parse([]).delivery_limit, None);
    assert_eq!(parse([("x-delivery-limit", (-1i32).into())]).delivery_limit, None);
}

#[test]
fn quorum_queues_take_their_own_arguments() {
    let parsed = parse([
        quorum(),
        ("x-dead-letter-exchange", "dlx".into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-max-in-memory-length", 1i32.into()),
        ("x-max-in-memory-bytes", 1i32.into()),
        ("x-quorum-initial-group-size", 3i32.into()),
    ]);
    assert_eq!(parsed.queue_type, QueueType::Quorum);
    assert!(parsed.dead_letter_at_least_once);
    assert_eq!(parsed.overflow, Overflow::DropHead, "not a quorum queue's: as if unset");
}

#[test]
fn a_declared_priority_of_zero_is_none() {
    assert_eq!(parse([("x-max-priority", 0i32.into())]).priority_max, None);
}

#[test]
fn wrong_values_are_refused_in_rabbitmqs_words() {
    let longstr = || FieldValue::from("10");
    let cases: &[(&str, FieldValue, &str)] = &[
        ("x-message-ttl", longstr(), "\"expected integer, got longstr\""),
        ("x-message-ttl", true.into(), "\"expected integer, got bool\""),
        ("x-message-ttl", 1.5f64.into(), "\"expected integer, got double\""),
        ("x-message-ttl", FieldValue::Timestamp(1), "\"expected integer, got timestamp\""),
        ("x-message-ttl", (-1i8).into(), "{value_negative,-1}"),
        ("x-expires", 0i32.into(), "{value_zero,0}"),
        ("x-expires", (-5i32).into(), "{value_negative,-5}"),
        ("x-max-length", (-1i32).into(), "{value_negative,-1}"),
        ("x-max-length-bytes", longstr(), "\"expected integer, got longstr\""),
        ("x-max-priority", 256i32.into(), "{max_value_exceeded,256}"),
        ("x-max-priority", (-1i32).into(), "{value_negative,-1}"),
        ("x-dead-letter-exchange", 1i32.into(), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", 1i64.into(), "{unacceptable_type,long}"),
        ("x-dead-letter-routing-key", "k".into(), "routing_key_but_no_dlx_defined"),
        ("x-overflow", "drop-tail".into(), "invalid_overflow"),
        ("x-overflow", FieldValue::Void, "{unacceptable_type,void}"),
        ("x-single-active-consumer", "yes".into(), "{unacceptable_type,longstr}"),
        ("x-queue-mode", "eager".into(), "\"unsupported queue mode 'eager'\""),
        ("x-queue-version", 3i32.into(), "\"unsupported queue version '3'\""),
        ("x-queue-leader-locator", "here".into(), "invalid_queue_locator_arg"),
        ("x-queue-type", "lazy".into(), "\"unsupported queue type 'lazy'\""),
        ("x-queue-type", 1i32.into(), "{unacceptable_type,signedint}"),
        (
            "x-queue-type",
            "stream".into(),
            "\"unsupported queue type 'stream': wilco has no streams\"",
        ),
        ("x-delivery-limit", "3".into(), "\"expected integer, got longstr\""),
        ("x-consumer-timeout", 0i32.into(), "{value_zero,0}"),
        ("x-delayed-retry-type", "some".into(), "invalid_delayed_retry_type"),
        ("x-delayed-retry-min", (-1i32).into(), "{value_negative,-1}"),
        ("x-message-deduplication", 1i32.into(), "{unacceptable_type,signedint}"),
        ("x-cache-ttl", (-1i32).into(), "{value_negative,-1}"),
        ("x-message-ttl", 315_360_000_001i64.into(), "{value_too_large,315360000001}"),
        ("x-expires", 315_360_000_001i64.into(), "{value_too_large,315360000001}"),
        ("x-retry-delay-min", 0i32.into(), "{value_zero,0}"),
        ("x-retry-delay-min", (-1i32).into(), "{value_negative,-1}"),
        ("x-retry-delay-min", 315_360_000_001i64.into(), "{value_too_large,315360000001}"),
        ("x-retry-delay-min", longstr(), "\"expected integer, got longstr\""),
        ("x-retry-delay-max", 0i32.into(), "{value_zero,0}"),
        ("x-retry-delay-max", i64::MAX.into(), "{value_too_large,9223372036854775807}"),
        ("x-retry-delay-max", 1i32.into(), "\"x-retry-delay-min is needed with it\""),
        ("x-notify", "some".into(), "\"it must be 'all', 'processed' or 'failed'\""),
        ("x-confirm-on", true.into(), "\"it must be 'enqueue' or 'ack'\""),
        (
            "x-deadline",
            0i32.into(),
            "\"it must be an integer from 1 to 315360000000, milliseconds from publishing\"",
        ),
    ];
    for (key, value, reason) in cases {
        let error = QueueArguments::parse(&table([(key, value.clone())]), SHARED, QUEUE)
            .expect_err(&format!("{key} = {value:?}"));
        assert_eq!(error.reply_code(), ReplyCode::PreconditionFailed);
        assert_eq!(error.to_string(), format!("invalid arg '{key}' for {QUEUE}: {reason}"));
    }
}

#[test]
fn the_longest_wait_is_not_shorter_than_the_shortest() {
    let parse = |min_ms: i64, max_ms: i64| {
        let table =
            table([("x-retry-delay-max", max_ms.into()), ("x-retry-delay-min", min_ms.into())]);
        QueueArguments::parse(&table, SHARED, QUEUE)
    };
    let both = |parsed: QueueArguments| (parsed.retry_delay_min_ms, parsed.retry_delay_max_ms);
    assert_eq!(parse(5, 5).map(both), Ok((Some(5), Some(5))));
    let error = parse(6, 5).unwrap_err();
    assert_eq!(error.reply_code(), ReplyCode::PreconditionFailed);
    let reason = "\"it must not be below x-retry-delay-min\"";
    assert_eq!(error.to_string(), format!("invalid arg 'x-retry-delay-max' for {QUEUE}: {reason}"));
}

#[test]
fn what_a_queue_does_not_say_of_duplicates_is_left_open() {
    for said in [None, Some(false), Some(true)] {
        let name = if said.is_some() { "x-message-deduplication" } else { "x-mine" };
        let parsed = parse([(name, said.unwrap_or(true).into())]);
        assert_eq!(parsed.message_deduplication, said);
    }
}

#[test]
fn what_a_queue_asks_for_and_how_it_retries_must_be_repeated() {
    let arguments: [(&str, FieldValue, FieldValue); 7] = [
        ("x-retry-delay-min", 5i8.into(), 6i64.into()),
        ("x-retry-delay-max", 5i8.into(), 6i64.into()),
        ("x-notify", "all".into(), "failed".into()),
        ("x-confirm-on", "ack".into(), "enqueue".into()),
        ("x-deadline", 100u8.into(), 101i64.into()),
        ("x-message-deduplication", true.into(), false.into()),
        ("x-cache-ttl", 100u8.into(), 101i64.into()),
    ];
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        let check = |current: &FieldTable, received: &FieldTable| {
            assert_equivalent(queue_type, current, received, QUEUE)
        };
        for (key, value, other) in &arguments {
            let of = |value: &FieldValue| table([(*key, value.clone())]);
            assert_eq!(check(&of(value), &of(value)), Ok(()));
            for (current, received) in
                [(of(value), of(other)), (of(value), table([])), (table([]), of(value))]
            {
                let error = check(&current, &received).unwrap_err();
                assert_eq!(error.reply_code(), ReplyCode::PreconditionFailed);
                let start = format!("inequivalent arg '{key}' for {QUEUE}: received ");
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
        let (narrow, wide) = (100u8.into(), 100i64.into());
        let of = |value: FieldValue| table([("x-deadline", value)]);
        assert_eq!(check(&of(narrow), &of(wide)), Ok(()));
    }
}

#[test]
fn arguments_of_another_queue_type_are_refused() {
    let refused: [(&str, FieldValue); 4] = [
        ("x-max-priority", 5i32.into()),
        ("x-queue-mode", "lazy".into()),
        ("x-queue-master-locator", "random".into()),
        ("x-max-age", "1D".into()),
    ];
    for (key, value) in refused {
        let error =
            QueueArguments::parse(&table([quorum(), (key, value)]), SHARED, QUEUE).unwrap_err();
        let expected = format!("invalid arg '{key}' for {QUEUE} of queue type rabbit_quorum_queue");
        assert_eq!(error.to_string(), expected);
    }
    for key in ["x-dead-letter-strategy", "x-quorum-initial-group-size", "x-max-age"] {
        let error = QueueArguments::parse(&table([(key, 1i32.into())]), SHARED, QUEUE).unwrap_err();
        let expected =
            format!("invalid arg '{key}' for {QUEUE} of queue type rabbit_classic_queue");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_quorum_queue_is_durable_and_shared_and_stays() {
    let wrong = [
        (QueueProperties { auto_delete: true, ..SHARED }, "auto-delete"),
        (QueueProperties { exclusive: true, ..SHARED }, "exclusive-owner"),
        (QueueProperties { durable: false, ..SHARED }, "non-durable"),
    ];
    for (properties, property) in wrong {
        let error = QueueArguments::parse(&table([quorum()]), properties, QUEUE).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::PreconditionFailed);
        assert_eq!(error.to_string(), format!("invalid property '{property}' for {QUEUE}"));
        assert!(QueueArguments::parse(&table([]), properties, QUEUE).is_ok());
    }
}

#[test]
fn equivalence_is_of_values_not_of_integer_types() {
    let equal: [(FieldTable, FieldTable); 6] = [
        (table([]), table([])),
        (table([("x-expires", 5i8.into())]), table([("x-expires", 5i64.into())])),
        (table([("x-queue-type", "classic".into())]), table([])),
        (table([]), table([("x-queue-type", "classic".into())])),
        (table([("x-mine", 1i32.into())]), table([])),
        (
            table([("x-max-length", 1i32.into()), ("x-overflow", "drop-head".into())]),
            table([("x-overflow", "drop-head".into()), ("x-max-length", 1u8.into())]),
        ),
    ];
    for (current, received) in equal {
        assert_eq!(assert_equivalent(QueueType::Classic, &current, &received, QUEUE), Ok(()));
    }
}

#[test]
fn inequivalent_arguments_are_refused_in_rabbitmqs_words() {
    let cases = [
        (
            table([]),
            table([("x-message-ttl", 2000i32.into())]),
            "'x-message-ttl'",
            "received the value '2000' of type 'signedint' but current is none",
        ),
        (
            table([("x-expires", 7i64.into())]),
            table([]),
            "'x-expires'",
            "received none but current is the value '7' of type 'long'",
        ),
        (
            table([("x-message-ttl", 1i64.into())]),
            table([("x-message-ttl", 2i8.into())]),
            "'x-message-ttl'",
            "received '2' but current is '1'",
        ),
        (
            table([("x-message-ttl", 10i64.into())]),
            table([("x-message-ttl", "10".into())]),
            "'x-message-ttl'",
            "received '10' but current is '10'",
        ),
        (
            table([("x-single-active-consumer", true.into())]),
            table([]),
            "'x-single-active-consumer'",
            "received none but current is the value 'true' of type 'bool'",
        ),
        (
            table([quorum()]),
            table([]),
            "'x-queue-type'",
            "received none but current is the value 'quorum' of type 'longstr'",
        ),
        (
            table([quorum()]),
            table([("x-queue-type", "classic".into())]),
            "'x-queue-type'",
            "received 'classic' but current is 'quorum'",
        ),
    ];
    for (current, received, key, rest) in cases {
        let error = assert_equivalent(QueueType::Classic, &current, &received, QUEUE).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::PreconditionFailed);
        assert_eq!(error.to_string(), format!("inequivalent arg {key} for {QUEUE}: {rest}"));
    }
}
