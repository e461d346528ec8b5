//! Attempts: waits between them, limits, time-outs, and how they appear in ledger and outcome.

use crate::{
    case::{Case, short},
    own, wilco,
};
use end_to_end::{Json, Told, eventually, int, table, text};
use std::time::{Duration, Instant};

/// Events of this kind in a message's timeline.
fn events(message: &Json, kind: &str) -> Vec<Json> {
    let timeline = message["timeline"].elements().iter();
    timeline.filter(|entry| entry["event"].text() == kind).cloned().collect()
}

#[test]
fn message_is_not_tried_again_before_its_time() {
    let Some(broker) = wilco() else { return };
    let arguments = [
        ("x-delivery-limit", int(3)),
        ("x-retry-delay-min", int(200)),
        ("x-retry-delay-max", int(500)),
    ];
    let case = Case::new(&broker, table(arguments));
    let consumer = case.client.consume(&case.queue);
    case.publish();
    // The wait doubles, plus up to a quarter at random; at the maximum, minus up to a quarter.
    for wait_ms in [0, 200, 400, 375] {
        let start = Instant::now();
        let message = consumer.next();
        let waited = start.elapsed();
        // The two waits are measured at different ends.
        assert!(waited + Duration::from_millis(5) >= Duration::from_millis(wait_ms), "{waited:?}");
        assert_eq!(message.redelivered, wait_ms > 0);
        case.client.nack(&message, true);
    }
    assert_eq!(short(&case.told()), "failed delivery-limit 4");
    case.nothing_more();
    let message = broker.settled(&case.id);
    assert_eq!(message["queues"][0]["attempts"].number(), Some(4.0));
    let attempts: Vec<_> =
        events(&message, "delivered").iter().map(|entry| entry["attempt"].number()).collect();
    assert_eq!(attempts, [1.0, 2.0, 3.0, 4.0].map(Some));
    let requeued = events(&message, "requeued");
    assert_eq!(requeued.len(), 3, "{requeued:?}");
    assert!(requeued.iter().all(|entry| entry["retry_at"].text() > entry["time"].text()));
}

#[test]
fn message_that_waits_lets_others_pass_and_can_be_cancelled() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-retry-delay-min", int(600_000))]));
    let consumer = case.client.consume(&case.queue);
    case.publish();
    case.client.nack(&consumer.next(), true);
    case.fill();
    let other = consumer.next();
    assert_eq!(other.data, b"filler");
    case.client.ack(&other);
    case.nothing_more();
    let message = broker.message(&case.id);
    assert_eq!(message["state"].text(), "queued");
    assert_ne!(message["queues"][0]["retry_at"].text(), "");
    let cancelled = broker.http("DELETE", &format!("/v1/messages/{}", case.id));
    assert_eq!(cancelled.status, 204, "{:?}", cancelled.json);
    assert_eq!(short(&case.told()), "dropped cancelled 1");
    case.nothing_more();
}

#[test]
fn only_the_timed_out_message_comes_back() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-consumer-timeout", int(1000))]));
    let slow = broker.client();
    let consumer = slow.consume(&case.queue);
    case.publish();
    let stuck = consumer.next();
    case.fill();
    let good = consumer.next();
    slow.ack(&good);
    // Or it would get the message again.
    slow.cancel(&consumer);
    let again = case.client.open();
    let taken = again.get_soon(&case.queue);
    assert_eq!((taken.data.as_slice(), taken.redelivered), (&b"work"[..], true));
    // Too late: another worker has it now. The channel stays open.
    slow.ack(&stuck);
    slow.round_trip();
    case.nothing_more();
    again.ack(&taken);
    let told = case.told();
    assert_eq!(short(&told), "processed acked 2");
    case.nothing_more();
    let message = broker.settled(&case.id);
    let workers: Vec<_> =
        events(&message, "delivered").iter().map(|entry| entry["worker"].clone()).collect();
    assert_eq!(workers.len(), 2);
    assert_eq!(Some(workers[1].text()), told.worker.as_deref());
    assert_ne!(workers[0], workers[1]);
}

#[test]
fn attempts_are_counted_across_a_restart() {
    let Some(mut broker) = own() else { return };
    let case = Case::new(&broker, table([("x-delivery-limit", int(1))]));
    case.publish();
    case.client.nack(&case.get(), true);
    case.client.await_ready(&case.queue, 1);
    case.nothing_more();
    let (queue, reply, id) = (case.queue.clone(), case.reply.clone(), case.id.clone());
    drop(case);
    broker.restart();
    let client = broker.client();
    client.nack(&client.get_soon(&queue), true);
    // What was taken just before the crash may come again.
    let mut told = std::iter::repeat_with(|| Told::read(&client.take_soon(&reply)));
    let told = told.find(|told| told.message_id == id).expect("its outcome");
    assert_eq!(short(&told), "failed delivery-limit 2");
}

#[test]
fn failed_message_can_be_tried_again_by_its_id() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-dead-letter-exchange", text("amq.direct"))]));
    case.publish();
    let path = format!("/v1/messages/{}/retry", case.id);
    assert_eq!(broker.http("POST", &path).status, 409, "not failed");
    case.client.reject(&case.get(), false);
    assert_eq!(short(&case.told()), "failed rejected 1 dead-lettered");
    let retried = broker.http("POST", &path);
    assert_eq!(retried.status, 204, "{:?}", retried.json);
    let message = case.get();
    assert_eq!(message.data, b"work");
    case.client.ack(&message);
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
    let message = broker.settled(&case.id);
    assert_eq!(message["outcome"].text(), "processed");
    assert!(message["earlier"][0]["recovered"].is_true(), "{message:?}");
}

#[test]
fn attempt_shows_in_the_ledger_while_it_lasts() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([]));
    case.publish();
    case.client.nack(&case.get(), true);
    let again = case.get();
    let mut queue = Json::Null;
    eventually("the second attempt shows", || {
        queue = broker.message(&case.id)["queues"][0].clone();
        queue["attempts"].number() == Some(2.0)
    });
    assert_eq!(queue["state"].text(), "delivered");
    assert!(queue["worker"].text().ends_with("/basic.get"), "{queue:?}");
    case.client.ack(&again);
}
