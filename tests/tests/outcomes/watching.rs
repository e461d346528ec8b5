//! `amq.wilco.outcomes`: every outcome, for anyone who binds a queue.

use crate::{case::Case, wilco};
use end_to_end::{Level, Told, client::block, unique};
use lapin::{BasicProperties, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

const WATCH: &str = "amq.wilco.outcomes";

#[test]
fn watchers_get_the_outcomes_they_bind_to() {
    let Some(broker) = wilco() else { return };
    let watcher = broker.client();
    let case = Case::new(&broker, FieldTable::default());
    let tasks = format!("{}.tasks", unique("watched"));
    case.client.declare(&tasks, FieldTable::default());
    let failures = watcher.queue("failures", FieldTable::default());
    let of_tasks = watcher.queue("of-tasks", FieldTable::default());
    watcher.bind(&failures, WATCH, "failed.#");
    watcher.bind(&of_tasks, WATCH, "*.*.tasks");
    let id = |n: u32| format!("{}-{n}", case.id);
    // Nobody asked for an outcome: an id is enough.
    let publish = |n| {
        let properties = BasicProperties::default().with_message_id(id(n).into());
        case.client.publish_with("", &tasks, "work", properties);
        case.client.get_soon(&tasks)
    };
    case.client.ack(&publish(0));
    case.client.reject(&publish(1), false);
    case.publish();
    case.client.ack(&case.get());
    case.client.round_trip();

    let next = |queue: &str| {
        let message = watcher.take_soon(queue);
        assert_eq!(message.exchange.as_str(), WATCH);
        let told = Told::read(&message);
        assert_eq!(message.routing_key.as_str(), format!("{}.{}", told.outcome, told.queue));
        (told.message_id, told.outcome)
    };
    assert_eq!(next(&of_tasks), (id(0), "processed".into()));
    assert_eq!(next(&of_tasks), (id(1), "failed".into()));
    // Other tests of this file share the broker, and fail messages, too.
    while next(&failures) != (id(1), "failed".into()) {}
    case.told();
    case.nothing_more();
    assert!(watcher.take(&of_tasks).is_none());
}

#[test]
fn what_watchers_do_with_an_outcome_concerns_nobody() {
    let Some(broker) = wilco() else { return };
    let watcher = broker.client();
    let case = Case::new(&broker, FieldTable::default());
    let seen = watcher.queue("seen", FieldTable::default());
    watcher.bind(&seen, WATCH, &format!("#.{}", case.queue));
    case.publish();
    case.client.ack(&case.get());
    let copy = watcher.get_soon(&seen);
    let told = case.told();
    assert_eq!(Told::read(&copy), told);
    watcher.reject(&copy, false);
    watcher.round_trip();
    case.nothing_more();
    assert!(broker.outcomes_of(&seen).is_empty());
}

#[test]
fn unroutable_outcomes_have_a_key_without_a_queue() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let seen = case.client.queue("seen", FieldTable::default());
    case.client.bind(&seen, WATCH, "unroutable.#");
    let properties = BasicProperties::default().with_message_id(case.id.as_str().into());
    let sent = case.client.send("", &unique("nowhere"), "lost", properties, false);
    assert!(block(sent).expect("a confirm").is_ack());
    loop {
        let message = case.client.take_soon(&seen);
        assert_eq!(message.routing_key.as_str(), "unroutable.");
        if Told::read(&message).message_id == case.id {
            break;
        }
    }
}

#[test]
fn exchanges_of_wilco_are_there_and_stay() {
    let Some(broker) = wilco() else { return };
    let client = broker.client();
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    for name in [WATCH, "amq.wilco.report"] {
        let there = client.try_exchange(name, ExchangeKind::Topic, passive, FieldTable::default());
        there.expect("it is predeclared");
        client.refuses(403, Level::Channel, |channel| {
            block(channel.lapin().exchange_delete(name.into(), Default::default()))
        });
    }
}
