//! Invalid input is refused on its channel, and disturbs nothing else.

use crate::{
    case::{Case, short},
    wilco,
};
use end_to_end::{Bystander, Level, client::body, int, table, text};
use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

/// The longest time that is taken.
const TEN_YEARS_MS: i64 = 315_360_000_000;

/// Invalid headers and arguments.
fn nonsense() -> Vec<(&'static str, AMQPValue)> {
    let long = AMQPValue::LongLongInt;
    vec![
        ("x-notify", text("sometimes")),
        ("x-notify", text("")),
        ("x-notify", text("All")),
        ("x-notify", AMQPValue::Boolean(true)),
        ("x-notify", int(1)),
        ("x-notify", AMQPValue::FieldTable(FieldTable::default())),
        ("x-confirm-on", text("receipt")),
        ("x-confirm-on", text("ACK")),
        ("x-confirm-on", int(0)),
        ("x-confirm-on", AMQPValue::FieldArray(vec![text("ack")].into())),
        ("x-deadline", int(0)),
        ("x-deadline", int(-1)),
        ("x-deadline", long(i64::MIN)),
        ("x-deadline", long(TEN_YEARS_MS + 1)),
        ("x-deadline", long(i64::MAX)),
        ("x-deadline", text("1000")),
        ("x-deadline", AMQPValue::Double(1000.0)),
        ("x-deadline", AMQPValue::Timestamp(1000)),
        ("x-deadline", AMQPValue::Boolean(true)),
    ]
}

#[test]
fn header_without_sense_closes_its_channel_only() {
    let Some(broker) = wilco() else { return };
    let mut bystander = Bystander::new(&broker);
    let case = Case::new(&broker, FieldTable::default());
    let client = broker.client();
    let consumer = client.consume(&case.queue);
    for (name, value) in nonsense() {
        eprintln!("{name}: {value:?}");
        client.refuses_unasked(406, Level::Channel, |channel| {
            let mut headers = table([("x-notify", text("all"))]);
            headers.insert(name.into(), value);
            channel.publish_with("", &case.queue, "no", case.asking([]).with_headers(headers));
        });
        // On another channel of the same connection.
        client.publish("", &case.queue, "fine");
        let message = consumer.next();
        assert_eq!(body(&message), "fine");
        client.ack(&message);
    }
    bystander.still_works();
    case.nothing_more();
    assert!(case.listed().is_empty());
}

#[test]
fn notice_to_nobody_is_refused() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.client.refuses_unasked(406, Level::Channel, |channel| {
        let headers = table([("x-notify", text("all"))]);
        let properties = lapin::BasicProperties::default().with_headers(headers);
        channel.publish_with("", &case.queue, "no", properties);
    });
    assert_eq!(case.client.ready_count(&case.queue), 0);
}

#[test]
fn what_was_published_before_nonsense_stays() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.client.refuses_unasked(406, Level::Channel, |channel| {
        channel.publish_with("", &case.queue, "good", case.asking([]));
        let bad = case.asking([("x-deadline", int(-1))]).with_message_id("bad".into());
        channel.publish_with("", &case.queue, "bad", bad);
    });
    let message = case.get();
    assert_eq!(body(&message), "good");
    case.client.ack(&message);
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
    assert_eq!(case.client.ready_count(&case.queue), 0);
}

#[test]
fn header_without_a_value_says_nothing() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let headers = table([
        ("x-notify", text("all")),
        ("x-deadline", AMQPValue::Void),
        ("x-confirm-on", AMQPValue::Void),
    ]);
    assert!(case.publish_with(case.asking([]).with_headers(headers)).is_ack());
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    assert_eq!(broker.settled(&case.id)["deadline_at"].text(), "");
}

#[test]
fn deadline_may_have_any_integer_type() {
    let Some(broker) = wilco() else { return };
    let values = [
        AMQPValue::ShortShortInt(100),
        AMQPValue::ShortShortUInt(100),
        AMQPValue::ShortInt(100),
        AMQPValue::ShortUInt(100),
        AMQPValue::LongInt(100),
        AMQPValue::LongUInt(100),
        AMQPValue::LongLongInt(100),
    ];
    let cases: Vec<Case<'_>> = values
        .into_iter()
        .map(|value| {
            let case = Case::new(&broker, FieldTable::default());
            case.publish_with(case.asking([("x-deadline", value)]));
            case
        })
        .collect();
    for case in cases {
        assert_eq!(short(&case.told()), "deadline-missed deadline 0");
    }
}

#[test]
fn longest_deadline_is_taken() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let longest = AMQPValue::LongLongInt(TEN_YEARS_MS);
    assert!(case.publish_with(case.asking([("x-deadline", longest)])).is_ack());
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
}

#[test]
fn queue_argument_without_sense_is_refused() {
    let Some(broker) = wilco() else { return };
    let mut bystander = Bystander::new(&broker);
    let client = broker.client();
    let further = [
        ("x-retry-delay-min", int(0)),
        ("x-retry-delay-max", int(10)),
        ("x-message-deduplication", text("yes")),
        ("x-cache-ttl", int(-1)),
        ("x-notify", AMQPValue::Void),
    ];
    for (name, value) in nonsense().into_iter().chain(further) {
        eprintln!("{name}: {value:?}");
        client.refuses(406, Level::Channel, |channel| {
            let name = [(name, value)];
            channel.try_declare("bad", QueueDeclareOptions::durable(), table(name))
        });
    }
    bystander.still_works();
}

#[test]
fn report_without_sense_closes_its_channel_and_gives_the_message_back() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.refuses_unasked(406, Level::Channel, |channel| {
        channel.get_soon(&case.queue);
        let headers = table([("x-outcome", text("expired"))]);
        let properties = lapin::BasicProperties::default().with_headers(headers);
        channel.publish_with("amq.wilco.report", &case.id, "?", properties);
    });
    case.client.ack(&case.get());
    let told = case.told();
    assert_eq!((short(&told).as_str(), told.error), ("processed acked 2", None));
    case.nothing_more();
}
