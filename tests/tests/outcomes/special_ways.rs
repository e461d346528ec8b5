//! Outcomes when there is no queue, none left, another one, or nobody to tell.

use crate::{
    case::{Case, short},
    own, wilco,
};
use end_to_end::{Client, Json, Level, Told, client::block, eventually, int, table, text, unique};
use lapin::{
    BasicProperties, ExchangeKind,
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};

const NO_ACK: BasicConsumeOptions =
    BasicConsumeOptions { no_ack: true, no_local: false, exclusive: false, nowait: false };

#[test]
fn unroutable_message_is_confirmed_and_its_producer_told() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let confirm = case.client.send("amq.direct", &unique("key"), "lost", case.asking([]), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    let told = case.told();
    assert_eq!(short(&told), "unroutable no-route 0");
    assert_eq!((told.message_id.as_str(), told.queue.as_str()), (&*case.id, ""));
    assert_eq!((told.queue_count, told.worker), (1, None));
    case.nothing_more();
    assert_eq!(broker.settled(&case.id)["outcome"].text(), "unroutable");
}

#[test]
fn mandatory_unroutable_message_comes_back_and_its_producer_is_told() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let confirm = case.client.send("", &unique("nowhere"), "lost", case.asking([]), true);
    let confirm = block(confirm).expect("a confirm");
    assert!(confirm.is_ack());
    let returned = confirm.take_message().expect("the message comes back");
    assert_eq!(returned.delivery.data, b"lost");
    assert_eq!(short(&case.told()), "unroutable no-route 0");
    case.nothing_more();
}

#[test]
fn alternate_exchange_makes_the_outcome_that_of_its_queues() {
    let Some(broker) = wilco() else { return };
    for is_fan_out in [false, true] {
        let case = Case::new(&broker, FieldTable::default());
        let case = if is_fan_out { case.fan_out() } else { case };
        let alternate = table([("alternate-exchange", text(&case.exchange))]);
        let first = case.client.exchange(ExchangeKind::Direct, alternate);
        let confirm = case.client.send(&first, "no such key", "work", case.asking([]), true);
        let confirm = block(confirm).expect("a confirm");
        assert!(confirm.is_ack() && confirm.take_message().is_none());
        case.others_ack();
        case.client.reject(&case.get(), false);
        let told: Vec<Told> = (0..=case.others.len()).map(|_| case.told()).collect();
        case.nothing_more();
        for told in told {
            let is_first = told.queue == case.queue;
            let expected = if is_first { "failed rejected 1" } else { "processed acked 1" };
            assert_eq!(
                (short(&told).as_str(), told.queue_count),
                (expected, 1 + case.others.len() as i64)
            );
        }
        assert_eq!(broker.settled(&case.id)["outcome"].text(), "failed");
    }
}

#[test]
fn direct_reply_to_gets_the_outcomes() {
    let Some(broker) = wilco() else { return };
    for is_fan_out in [false, true] {
        let case = Case::new(&broker, FieldTable::default());
        let case = if is_fan_out { case.fan_out() } else { case };
        let pseudo_queue = "amq.rabbitmq.reply-to";
        let answers = case.client.consume_with(pseudo_queue, NO_ACK, FieldTable::default());
        case.publish_with(case.asking([]).with_reply_to(pseudo_queue.into()));
        let request = case.get();
        // The worker's own answer goes the same way.
        let address = request.properties.reply_to().as_ref().expect("an address").to_string();
        case.client.publish("", &address, "answer");
        case.client.ack(&request);
        let mut answers: Vec<_> = (0..2 + case.others.len()).map(|_| answers.next()).collect();
        answers.retain(|answer| answer.data != b"answer");
        let mut queues: Vec<String> = Vec::new();
        for answer in &answers {
            let told = Told::read(answer);
            assert_eq!(short(&told), "processed acked 1");
            assert_eq!(told.queue_count, 1 + case.others.len() as i64);
            queues.push(told.queue);
        }
        let mut expected = [&[case.queue.clone()][..], &case.others].concat();
        queues.sort();
        expected.sort();
        assert_eq!(queues, expected);
        // A message delivered to a consumer without acks counts as received.
        eventually("it is received", || {
            broker.message(&case.id)["queues"].elements().iter().all(has_been_received)
        });
    }
}

fn has_been_received(queue: &Json) -> bool {
    queue["received_at"] != Json::Null
}

#[test]
fn deleted_virtual_host_drops_its_messages() {
    let Some(broker) = wilco() else { return };
    for is_fan_out in [false, true] {
        let vhost = unique("vhost");
        let add = || {
            broker.manage(&["vhost", "add", &vhost]);
            broker.manage(&["permission", "set", &vhost, "guest", ".*", ".*", ".*"]);
        };
        add();
        let client = Client::connect(&format!("amqp://guest:guest@{}/{vhost}", broker.address()));
        client.confirm_select();
        let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
        let queues: Vec<String> = (0..if is_fan_out { 3 } else { 1 })
            .map(|_| client.queue("q", FieldTable::default()))
            .collect();
        queues.iter().for_each(|queue| client.bind(queue, &exchange, ""));
        let reply = client.queue("reply", FieldTable::default());
        let properties = BasicProperties::default()
            .with_message_id("m".into())
            .with_reply_to(reply.as_str().into())
            .with_headers(table([("x-notify", text("all"))]));
        let confirm = client.send(&exchange, "", "work", properties, false);
        assert!(block(confirm).expect("a confirm").is_ack());
        for queue in &queues[1..] {
            client.ack(&client.get_soon(queue));
        }
        client.round_trip();
        broker.manage(&["vhost", "delete", &vhost]);
        client.is_closed();
        // Another one of its name knows nothing of it.
        add();
        assert!(matches!(broker.message_in(&vhost, "m"), Json::Null));
        assert!(broker.outcomes_in(&vhost).is_empty(), "{:?}", broker.outcomes_in(&vhost));
    }
}

#[test]
fn dead_letter_copy_asks_for_nothing_and_can_recover_the_message() {
    let Some(broker) = wilco() else { return };
    for is_fan_out in [false, true] {
        let letters = broker.client();
        let graveyard = letters.queue("graveyard", FieldTable::default());
        let arguments = table([
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&graveyard)),
        ]);
        let case = Case::new(&broker, arguments);
        let case = if is_fan_out { case.fan_out() } else { case };
        case.publish();
        case.client.reject(&case.get(), false);
        let told: Vec<Told> = (0..=case.others.len()).map(|_| case.told()).collect();
        let told = told.into_iter().find(|told| told.queue == case.queue).expect("its outcome");
        assert_eq!(short(&told), "failed rejected 1 dead-lettered");
        assert_eq!(told.dead_letter_exchange.as_deref(), Some(""));
        let before = broker.settled(&case.id);
        assert_eq!((before["outcome"].text(), before["recovered"].is_true()), ("failed", false));

        let copy = letters.get_soon(&graveyard);
        assert_eq!(copy.properties.message_id().as_ref().map(|id| id.as_str()), Some(&*case.id));
        letters.ack(&copy);
        letters.round_trip();
        case.nothing_more();
        let message = broker.settled(&case.id);
        assert_eq!((message["outcome"].text(), message["recovered"].is_true()), ("failed", true));
        let copy = &message["copies"][0]["queues"][0];
        assert_eq!((copy["queue"].text(), copy["outcome"].text()), (&*graveyard, "processed"));
        assert!(!copy["notified"].is_true());
        assert_eq!(case.listed(), ["failed rejected 1 dead-lettered"]);
    }
}

#[test]
fn rolled_back_transaction_tells_nothing() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let channel = case.client.open();
    block(channel.lapin().tx_select()).expect("a transaction");
    let message = channel.get_soon(&case.queue);
    let unborn = unique("unborn");
    let properties = case.asking([]).with_message_id(unborn.as_str().into());
    channel.publish_with("", &case.queue, "unborn", properties);
    channel.ack(&message);
    block(channel.lapin().tx_rollback()).expect("a rollback");
    case.nothing_more();
    assert_eq!(broker.message(&case.id)["state"].text(), "delivered");
    assert_eq!(broker.message(&unborn), Json::Null);
    assert!(case.listed().is_empty());
    // What was rolled back can be done again.
    channel.reject(&message, false);
    block(channel.lapin().tx_commit()).expect("a commit");
    assert_eq!(short(&case.told()), "failed rejected 1");
    case.nothing_more();
}

#[test]
fn message_refused_at_a_commit_is_dropped_and_the_rest_carried_out() {
    let Some(broker) = wilco() else { return };
    let limits = table([("x-max-length", int(0)), ("x-overflow", text("reject-publish"))]);
    let case = Case::new(&broker, limits);
    let open = case.client.queue("open", FieldTable::default());
    case.client.refuses(406, Level::Channel, |channel| {
        block(channel.lapin().tx_select()).expect("a transaction");
        channel.publish_with("", &case.queue, "too much", case.asking([]));
        let id = format!("{}-2", case.id);
        channel.publish_with("", &open, "work", case.asking([]).with_message_id(id.into()));
        block(channel.lapin().tx_commit())
    });
    assert_eq!(short(&case.told()), "dropped refused 0");
    case.client.ack(&case.client.get_soon(&open));
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
}

#[test]
fn producer_that_is_gone_can_look_the_outcome_up() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.delete(&case.reply);
    case.client.ack(&case.get());
    let message = broker.settled(&case.id);
    assert_eq!(message["outcome"].text(), "processed");
    assert!(!message["queues"][0]["notified"].is_true());
}

#[test]
fn only_what_was_asked_for_is_told() {
    let Some(broker) = wilco() else { return };
    for (notify, of_ack, of_reject) in
        [("all", true, true), ("processed", true, false), ("failed", false, true)]
    {
        for (is_acked, is_told) in [(true, of_ack), (false, of_reject)] {
            let case = Case::new(&broker, FieldTable::default());
            case.publish_with(case.asking([]).with_headers(table([("x-notify", text(notify))])));
            let message = case.get();
            match is_acked {
                true => case.client.ack(&message),
                false => case.client.reject(&message, false),
            }
            case.client.round_trip();
            if is_told {
                assert_eq!(case.told().outcome, if is_acked { "processed" } else { "failed" });
            }
            case.nothing_more();
            assert_eq!(broker.settled(&case.id)["queues"][0]["notified"].is_true(), is_told);
        }
    }
}

#[test]
fn message_without_notify_is_tracked_and_nobody_told() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish_with(case.asking([]).with_headers(FieldTable::default()));
    let request = case.get();
    let reply_to = request.properties.reply_to().as_ref().map(|to| to.as_str());
    assert_eq!(reply_to, Some(&*case.reply), "the worker's business");
    case.client.ack(&request);
    case.client.round_trip();
    case.nothing_more();
    assert_eq!(broker.settled(&case.id)["outcome"].text(), "processed");
}

#[test]
fn unknown_queued_delivered_and_settled_are_four_answers() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    assert_eq!(broker.message(&case.id), Json::Null);
    let becomes = |state: &str| {
        eventually(state, || broker.message(&case.id)["state"].text() == state);
    };
    case.publish();
    becomes("queued");
    let message = case.get();
    becomes("delivered");
    case.client.nack(&message, true);
    becomes("queued");
    case.client.ack(&case.get());
    becomes("settled");
}

#[test]
fn story_after_a_missed_deadline_stays_that_of_one_message() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish_with(case.asking([("x-deadline", int(100))]));
    assert_eq!(short(&case.told()), "deadline-missed deadline 0");
    case.client.reject(&case.get(), false);
    case.client.round_trip();
    case.nothing_more();
    let message = broker.message(&case.id);
    assert_eq!(message["earlier"].elements(), [], "{message:?}");
    assert_eq!(message["state"].text(), "settled");
    assert_eq!(message["outcome"].text(), "deadline-missed");
}

#[test]
fn cancelled_are_only_messages_that_wait() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let path = format!("/v1/messages/{}", case.id);
    assert_eq!(broker.http("DELETE", &path).status, 404, "unknown");
    case.publish();
    let message = case.get();
    assert_eq!(broker.http("DELETE", &path).status, 409, "being worked on");
    case.client.nack(&message, true);
    case.client.await_ready(&case.queue, 1);
    assert_eq!(broker.http("DELETE", &path).status, 204, "queued");
    assert_eq!(short(&case.told()), "dropped cancelled 1");
    assert_eq!(broker.http("DELETE", &path).status, 409, "settled");
    case.nothing_more();
}

#[test]
fn outcomes_survive_a_restart() {
    let Some(mut broker) = own() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    case.client.await_ready(&case.reply, 1);
    let (id, reply) = (case.id.clone(), case.reply.clone());
    drop(case);
    broker.restart();
    let client = broker.client();
    assert_eq!(short(&Told::read(&client.take_soon(&reply))), "processed acked 1");
    assert_eq!(broker.settled(&id)["outcome"].text(), "processed");
}

#[test]
fn queue_that_does_not_outlive_a_restart_drops_its_messages() {
    let Some(mut broker) = own() else { return };
    for is_crash in [false, true] {
        let options = lapin::options::QueueDeclareOptions::default();
        let case = Case::declared(&broker, None, options, FieldTable::default());
        case.publish();
        let (id, reply, queue) = (case.id.clone(), case.reply.clone(), case.queue.clone());
        drop(case);
        match is_crash {
            true => broker.restart(),
            false => {
                assert!(broker.stop().success());
                broker.start();
            }
        }
        let told = Told::read(&broker.client().take_soon(&reply));
        assert_eq!((short(&told).as_str(), &*told.message_id), ("dropped queue-deleted 0", &*id));
        // A crash may also lose the name of such a queue.
        assert!(is_crash || told.queue == queue, "{told:?}");
        assert_eq!(broker.settled(&id)["outcome"].text(), "dropped");
    }
}

#[test]
fn queue_reached_twice_has_one_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let exchange = case.client.exchange(ExchangeKind::Topic, FieldTable::default());
    for key in ["#", "a.*", "*.b"] {
        case.client.bind(&case.queue, &exchange, key);
    }
    let cc = AMQPValue::FieldArray(vec![text("a.x"), text("y.b")].into());
    let confirm = case.client.send(&exchange, "a.b", "work", case.asking([("CC", cc)]), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    case.client.ack(&case.get());
    let told = case.told();
    assert_eq!((short(&told).as_str(), told.queue_count), ("processed acked 1", 1));
    case.nothing_more();
    assert_eq!(case.client.ready_count(&case.queue), 0);
}

#[test]
fn deadline_and_time_to_live_at_the_same_moment_make_one_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let asking = case.asking([("x-deadline", int(100))]);
    case.publish_with(asking.with_expiration("100".into()));
    let told = short(&case.told());
    assert!(["expired ttl 0", "deadline-missed deadline 0"].contains(&&*told), "{told}");
    case.client.await_ready(&case.queue, 0);
    case.nothing_more();
    assert_eq!(case.listed(), [told]);
}

#[test]
fn who_asks_for_failures_hears_of_the_deadline_and_not_of_the_late_ack() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let headers = table([("x-notify", text("failed")), ("x-deadline", int(50))]);
    case.publish_with(case.asking([]).with_headers(headers));
    assert_eq!(short(&case.told()), "deadline-missed deadline 0");
    case.client.ack(&case.get());
    case.client.round_trip();
    case.nothing_more();
    assert_eq!(broker.settled(&case.id)["outcome"].text(), "processed");
}

#[test]
fn deadline_passes_while_the_broker_is_down_and_is_told_once() {
    let Some(mut broker) = own() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish_with(case.asking([("x-deadline", int(1))]));
    let (queue, reply, id) = (case.queue.clone(), case.reply.clone(), case.id.clone());
    drop(case);
    // Before or after it was sent: either way it is sent once.
    broker.restart();
    let client = broker.client();
    let outcome = client.get_soon(&reply);
    assert_eq!(short(&Told::read(&outcome)), "deadline-missed deadline 0");
    client.ack(&outcome);
    client.round_trip();
    assert!(broker.stop().success());
    broker.start();
    let client = broker.client();
    client.ack(&client.get_soon(&queue));
    let told = Told::read(&client.take_soon(&reply));
    assert_eq!((short(&told).as_str(), &*told.message_id), ("processed acked 1 late", &*id));
    assert!(client.take(&reply).is_none());
    let mut message = Json::Null;
    eventually("the ledger has the late ack", || {
        message = broker.message(&id);
        message["outcome"].text() == "processed"
    });
    assert_eq!(message["earlier"].elements(), []);
}
