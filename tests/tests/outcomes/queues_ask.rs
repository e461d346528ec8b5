//! `x-notify`, `x-confirm-on`, `x-deadline` as queue arguments; ids from the broker; permissions.

use crate::{
    case::{Case, short},
    wilco,
};
use end_to_end::{Client, Level, Told, client::block, int, table, text, unique};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

fn answering_to(reply: &str) -> BasicProperties {
    BasicProperties::default().with_reply_to(reply.into())
}

#[test]
fn queue_asks_for_messages_that_do_not() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-notify", text("failed"))]));
    for _ in 0..2 {
        case.client.publish_with("", &case.queue, "work", answering_to(&case.reply));
    }
    case.client.ack(&case.get());
    let message = case.get();
    let id = message.properties.message_id().as_ref().expect("an id").to_string();
    case.client.reject(&message, false);
    let told = case.told();
    assert_eq!((short(&told).as_str(), &*told.message_id), ("failed rejected 1", &*id));
    case.nothing_more();
    assert_eq!(broker.settled(&id)["outcome"].text(), "failed");
}

#[test]
fn message_of_a_queue_that_asks_may_have_nowhere_to_answer_to() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-notify", text("all"))]));
    assert!(case.client.confirmed("", &case.queue, "work").is_ack());
    let message = case.get();
    let id = message.properties.message_id().as_ref().expect("an id").to_string();
    case.client.ack(&message);
    case.client.round_trip();
    assert_eq!(broker.settled(&id)["outcome"].text(), "processed");
}

#[test]
fn message_wins_over_its_queue_one_by_one() {
    let Some(broker) = wilco() else { return };
    let arguments = [("x-notify", text("failed")), ("x-deadline", int(60_000))];
    let case = Case::new(&broker, table(arguments));
    let asking = |headers| answering_to(&case.reply).with_headers(headers);
    // The message's own x-notify, the queue's deadline.
    let headers = table([("x-notify", text("processed"))]);
    case.client.publish_with("", &case.queue, "work", asking(headers));
    case.client.ack(&case.get());
    let told = case.told();
    assert_eq!(short(&told), "processed acked 1");
    assert_ne!(broker.settled(&told.message_id)["deadline_at"].text(), "");
    // The message's own deadline, the queue's x-notify.
    let headers = table([("x-deadline", int(50))]);
    case.client.publish_with("", &case.queue, "work", asking(headers));
    assert_eq!(short(&case.told()), "deadline-missed deadline 0");
    case.client.ack(&case.get());
    case.nothing_more();
}

#[test]
fn queue_holds_the_confirms_of_its_messages() {
    let Some(broker) = wilco() else { return };
    let arguments = [("x-confirm-on", text("ack")), ("x-deadline", int(100))];
    let case = Case::new(&broker, table(arguments));
    let late = case.client.confirmed("", &case.queue, "late");
    assert!(late.is_nack(), "its deadline has passed");
    let headers = table([("x-confirm-on", text("enqueue"))]);
    let properties = BasicProperties::default().with_headers(headers);
    let confirm = case.client.send("", &case.queue, "work", properties, false);
    assert!(block(confirm).expect("a confirm").is_ack());
    let headers = table([("x-deadline", int(60_000))]);
    let properties = BasicProperties::default().with_headers(headers);
    let confirm = case.client.send("", &case.queue, "work", properties, false);
    for _ in 0..3 {
        case.client.ack(&case.get());
    }
    assert!(block(confirm).expect("a confirm").is_ack());
}

#[test]
fn queues_of_a_fan_out_notify_each_for_itself() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-notify", text("all"))])).fan_out();
    // Once with an id of its own, once with one that it gets because it can be answered.
    for properties in [
        answering_to(&case.reply).with_message_id(case.id.as_str().into()),
        answering_to(&case.reply),
    ] {
        drop(case.client.send(&case.exchange, "", "work", properties, false));
        case.client.ack(&case.get());
        let told = case.told();
        assert_eq!((&*told.queue, told.queue_count), (&*case.queue, 3));
        case.nothing_more();
    }
}

/// Whoever publishes to an exchange did not choose the queues that others bind to it.
#[test]
fn queue_delays_nothing_that_comes_through_an_exchange() {
    let Some(broker) = wilco() else { return };
    let arguments = [("x-confirm-on", text("ack")), ("x-deadline", int(50))];
    let case = Case::new(&broker, table(arguments)).fan_out();
    let properties = answering_to(&case.reply).with_message_id(case.id.as_str().into());
    let confirm = case.client.send(&case.exchange, "", "work", properties, false);
    assert!(block(confirm).expect("a confirm").is_ack(), "it waits for nobody");
    std::thread::sleep(std::time::Duration::from_millis(100));
    case.client.ack(&case.get());
    case.nothing_more();
    assert_eq!(case.listed(), ["processed acked 1"], "it has no deadline");
}

#[test]
fn message_that_asks_and_has_no_id_gets_one_that_grows_with_time() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let mut ids = Vec::new();
    for n in 0..3 {
        let headers = table([("x-notify", text("all")), ("kept", int(n))]);
        let asking = answering_to(&case.reply).with_headers(headers);
        case.client.publish_with("", &case.queue, "work", asking.with_priority(4));
        let message = case.get();
        // Everything else is unchanged.
        let properties = &message.properties;
        let headers = properties.headers().as_ref().expect("headers");
        assert_eq!(headers.inner().get("kept"), Some(&AMQPValue::LongInt(n)));
        assert_eq!(*properties.priority(), Some(4));
        assert_eq!(properties.reply_to().as_ref().map(|to| to.as_str()), Some(&*case.reply));
        let id = properties.message_id().as_ref().expect("an id").to_string();
        case.client.ack(&message);
        let outcome = case.client.take_soon(&case.reply);
        assert_eq!(Told::read(&outcome).message_id, id);
        assert_eq!(outcome.properties.correlation_id().as_ref().map(|of| of.as_str()), Some(&*id));
        ids.push(id);
        // Two within one millisecond need not be in order.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for id in &ids {
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(id.as_bytes()[14], b'7', "{id}: the version");
    }
    assert!(ids.is_sorted(), "{ids:?}");
}

#[test]
fn ordinary_message_stays_as_it_is() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.client.publish_with("", &case.queue, "plain", answering_to(&case.reply));
    let message = case.get();
    assert_eq!(message.properties, answering_to(&case.reply));
    case.client.ack(&message);
    case.client.round_trip();
    case.nothing_more();
    assert!(case.listed().is_empty());
}

/// A user who may write to this exchange only.
fn writer(case: &Case<'_>, write: &str) -> Client {
    let user = unique("anna");
    case.broker.manage(&["user", "add", &user, "--password", "secret"]);
    case.broker.manage(&["permission", "set", "/", &user, ".*", write, ".*"]);
    Client::connect(&format!("amqp://{user}:secret@{}/%2f", case.broker.address()))
}

#[test]
fn who_asks_to_be_told_must_be_allowed_to_write_to_the_default_exchange() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let refused = writer(&case, &format!("^({}|witness-.*)$", case.exchange));
    refused.refuses_unasked(403, Level::Channel, |channel| {
        channel.publish_with(&case.exchange, "", "work", case.asking([]));
    });
    // A message that asks for nothing needs no permission.
    let silent = case.asking([]).with_headers(FieldTable::default());
    refused.publish_with(&case.exchange, "", "work", silent);
    case.client.ack(&case.get());

    let allowed = writer(&case, &format!("^({}|amq\\.default)$", case.exchange));
    allowed.publish_with(&case.exchange, "", "work", case.asking([]));
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
}

#[test]
fn publisher_to_a_shared_exchange_is_not_refused_because_a_queue_asks() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-notify", text("all"))]));
    let stranger = writer(&case, &format!("^({}|witness-.*)$", case.exchange));
    stranger.publish_with(&case.exchange, "", "work", answering_to(&case.reply));
    case.client.ack(&case.get());
    case.nothing_more();
}

#[test]
fn who_reports_must_be_allowed_to_write_to_the_exchange_for_reports() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let worker = writer(&case, "^amq\\.default$");
    worker.refuses_unasked(403, Level::Channel, |channel| {
        channel.get_soon(&case.queue);
        channel.publish("amq.wilco.report", &case.id, "result");
    });
    // The end of the channel gave the message back.
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 2");
}
