//! Messages published again under the same id.

use crate::{
    case::{Case, short},
    own, wilco,
};
use end_to_end::{Broker, Client, Json, Told, client::block, eventually, int, table, text, unique};
use lapin::{BasicProperties, types::FieldTable};

/// Publishes it once more, with answers to another queue; returns that queue's name.
#[track_caller]
fn again(case: &Case<'_>) -> String {
    let reply = case.client.queue("reply-again", FieldTable::default());
    let asking = case.asking([]).with_reply_to(reply.as_str().into());
    let confirm = case.client.send("", &case.queue, "again", asking, false);
    assert!(block(confirm).expect("a confirm").is_ack(), "a duplicate is confirmed");
    reply
}

#[track_caller]
fn told_at(client: &Client, reply: &str) -> String {
    short(&Told::read(&client.take_soon(reply)))
}

/// The outcome of the message in the queue, and how often it was published.
#[track_caller]
fn publications(broker: &Broker, id: &str) -> usize {
    match broker.message(id) {
        Json::Null => 0,
        message => 1 + message["earlier"].elements().len(),
    }
}

#[test]
fn duplicate_of_a_queued_message_hears_of_the_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let reply = again(&case);
    assert_eq!(case.client.ready_count(&case.queue), 1);
    let message = case.get();
    assert_eq!(message.data, b"work");
    case.client.ack(&message);
    assert_eq!(short(&case.told()), "processed acked 1");
    assert_eq!(told_at(&case.client, &reply), "processed acked 1 duplicate");
    case.nothing_more();
    assert!(case.client.take(&reply).is_none());
    assert_eq!((publications(&broker, &case.id), case.listed().len()), (1, 1));
}

#[test]
fn duplicate_of_a_delivered_message_hears_of_the_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let message = case.get();
    let replies = [again(&case), again(&case)];
    case.client.reject(&message, false);
    for reply in &replies {
        assert_eq!(told_at(&case.client, reply), "failed rejected 1 duplicate");
    }
    assert_eq!(short(&case.told()), "failed rejected 1");
    case.nothing_more();
    assert!(case.client.get(&case.queue).is_none());
}

#[test]
fn duplicate_to_the_same_address_is_told_once_while_the_original_is_under_way() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.publish();
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
}

#[test]
fn duplicate_of_a_settled_message_is_told_the_outcome_again() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let report = BasicProperties::default().with_content_type("text/plain".into());
    let message = case.get();
    case.client.publish_with("amq.wilco.report", &case.id, "result", report);
    case.client.ack(&message);
    let first = case.client.take_soon(&case.reply);

    let reply = case.client.queue("reply-again", FieldTable::default());
    let asking = case.asking([]).with_reply_to(reply.as_str().into());
    case.publish_with(asking.with_correlation_id("second try".into()));
    let second = case.client.take_soon(&reply);
    let told = Told::read(&second);
    assert_eq!(told, Told { is_duplicate: true, ..Told::read(&first) });
    assert_eq!(second.data, b"result");
    assert_eq!(second.properties.content_type().as_ref().map(|of| of.as_str()), Some("text/plain"));
    assert_eq!(second.properties.message_id(), first.properties.message_id(), "the same event");
    let correlation_id = second.properties.correlation_id().as_ref().map(|of| of.as_str());
    assert_eq!(correlation_id, Some("second try"));
    // To the first address, as often as requested.
    for _ in 0..2 {
        case.publish();
        assert_eq!(short(&case.told()), "processed acked 1 duplicate");
    }
    case.nothing_more();
    assert!(case.client.take(&case.queue).is_none());
    assert_eq!((publications(&broker, &case.id), case.listed().len()), (1, 1));
}

#[test]
fn duplicate_is_told_only_what_it_asks_for() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    let headers = table([("x-notify", text("failed"))]);
    case.publish_with(case.asking([]).with_headers(headers));
    case.nothing_more();
}

#[test]
fn confirm_of_a_duplicate_waits_for_the_original() {
    let Some(broker) = wilco() else { return };
    for is_good in [true, false] {
        let case = Case::new(&broker, FieldTable::default());
        let asking = || case.asking([("x-confirm-on", text("ack"))]);
        let first = case.client.send("", &case.queue, "work", asking(), false);
        let message = case.get();
        let second = case.client.send("", &case.queue, "work", asking(), false);
        assert!(case.client.confirmed("", &case.reply, "fence").is_ack());
        match is_good {
            true => case.client.ack(&message),
            false => case.client.reject(&message, false),
        }
        let third = case.client.send("", &case.queue, "work", asking(), false);
        for confirm in [first, second, third] {
            assert_eq!(block(confirm).expect("a confirm").is_ack(), is_good);
        }
        assert!(case.client.get(&case.queue).is_none());
    }
}

#[test]
fn each_queue_of_a_fan_out_decides_for_itself() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    // Now it goes to two more queues, which have not seen it, and which ack it.
    let case = case.fan_out();
    case.publish();
    let mut told: Vec<Told> = (0..3).map(|_| case.told()).collect();
    told.retain(|told| told.queue != case.queue || !told.is_duplicate);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|told| short(told) == "processed acked 1"));
    case.nothing_more();
    assert!(case.client.take(&case.queue).is_none());
}

#[test]
fn duplicates_are_known_across_a_restart() {
    let Some(mut broker) = own() else { return };
    let (settled, queued) =
        (Case::new(&broker, FieldTable::default()), Case::new(&broker, FieldTable::default()));
    for case in [&settled, &queued] {
        case.publish();
    }
    settled.client.ack(&settled.get());
    settled.client.await_ready(&settled.reply, 1);
    let parts = |case: Case<'_>| (case.queue, case.reply, case.id);
    let (settled, queued) = (parts(settled), parts(queued));
    for _ in 0..2 {
        broker.restart();
        let client = broker.client();
        client.confirm_select();
        for (queue, _, id) in [&settled, &queued] {
            let reply = client.queue("reply-again", FieldTable::default());
            let properties = BasicProperties::default()
                .with_message_id(id.as_str().into())
                .with_reply_to(reply.as_str().into())
                .with_delivery_mode(2)
                .with_headers(table([("x-notify", text("all"))]));
            let confirm = client.send("", queue, "again", properties, false);
            assert!(block(confirm).expect("a confirm").is_ack());
            if *id == settled.2 {
                assert_eq!(told_at(&client, &reply), "processed acked 1 duplicate");
            }
        }
        assert_eq!(client.ready_count(&settled.0), 0);
        assert_eq!(client.ready_count(&queued.0), 1);
    }
    let client = broker.client();
    client.ack(&client.get_soon(&queued.0));
    assert_eq!(told_at(&client, &queued.1), "processed acked 1");
    assert_eq!(publications(&broker, &queued.2), 1);
}

#[test]
fn message_that_only_has_an_id_is_looked_for_where_the_queue_says_so() {
    let Some(broker) = wilco() else { return };
    let count_after_two = |value: Option<bool>| {
        let mut arguments = FieldTable::default();
        if let Some(value) = value {
            arguments.insert("x-message-deduplication".into(), value.into());
        }
        let case = Case::new(&broker, arguments);
        for _ in 0..2 {
            let properties = BasicProperties::default().with_message_id(case.id.as_str().into());
            case.publish_with(properties);
        }
        case.client.ready_count(&case.queue)
    };
    assert_eq!(count_after_two(None), 2);
    assert_eq!(count_after_two(Some(false)), 2);
    assert_eq!(count_after_two(Some(true)), 1);
}

#[test]
fn queue_can_switch_it_off_for_messages_that_ask() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-message-deduplication", false.into())]));
    case.publish();
    case.publish();
    assert_eq!(case.client.ready_count(&case.queue), 2);
    for _ in 0..2 {
        case.client.ack(&case.get());
        assert_eq!(short(&case.told()), "processed acked 1");
    }
    case.nothing_more();
    assert_eq!((publications(&broker, &case.id), case.listed().len()), (2, 2));
}

#[test]
fn id_may_come_again_after_its_window() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, table([("x-cache-ttl", int(300))]));
    case.publish();
    let enqueued = |count: u32| case.client.ready_count(&case.queue) == count;
    assert!(enqueued(1));
    // Duplicates do not extend the time, so one of these is enqueued.
    eventually("it is enqueued again", || {
        case.publish();
        enqueued(2)
    });
    for _ in 0..2 {
        case.client.ack(&case.get());
    }
}

#[test]
fn refused_id_may_come_again() {
    let Some(broker) = wilco() else { return };
    let limits = table([("x-max-length", int(1)), ("x-overflow", text("reject-publish"))]);
    let case = Case::new(&broker, limits);
    case.fill();
    for _ in 0..2 {
        assert!(case.publish().is_nack());
        assert_eq!(short(&case.told()), "dropped refused 0");
    }
    case.client.take(&case.queue);
    assert!(case.publish().is_ack());
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
    // And now its id is known.
    assert!(case.publish().is_ack());
    assert_eq!(short(&case.told()), "processed acked 1 duplicate");
    assert!(case.client.take(&case.queue).is_none());
}

#[test]
fn ids_are_those_of_their_virtual_host_and_queue() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let other = case.client.queue("other", FieldTable::default());
    let confirm = case.client.send("", &other, "work", case.asking([]), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    assert_eq!(case.client.ready_count(&other), 1);

    let vhost = unique("vhost");
    broker.manage(&["vhost", "add", &vhost]);
    broker.manage(&["permission", "set", &vhost, "guest", ".*", ".*", ".*"]);
    let elsewhere = Client::connect(&format!("amqp://guest:guest@{}/{vhost}", broker.address()));
    elsewhere.confirm_select();
    elsewhere.declare(&case.queue, FieldTable::default());
    let confirm = elsewhere.send("", &case.queue, "work", case.asking([]), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    assert_eq!(elsewhere.ready_count(&case.queue), 1);
    elsewhere.close();
    broker.manage(&["vhost", "delete", &vhost]);
}

#[test]
fn duplicate_in_a_transaction_is_dropped_at_the_commit() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    let channel = case.client.open();
    block(channel.lapin().tx_select()).expect("a transaction");
    channel.publish_with("", &case.queue, "again", case.asking([]));
    block(channel.lapin().tx_commit()).expect("a commit");
    assert_eq!(short(&case.told()), "processed acked 1 duplicate");
    case.nothing_more();
    assert!(case.client.take(&case.queue).is_none());
}

#[test]
fn duplicate_of_a_missed_deadline_hears_what_comes_of_it() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish_with(case.asking([("x-deadline", int(50))]));
    assert_eq!(short(&case.told()), "deadline-missed deadline 0");
    let reply = again(&case);
    assert_eq!(case.client.ready_count(&case.queue), 1);
    case.client.ack(&case.get());
    assert_eq!(told_at(&case.client, &reply), "processed acked 1 late duplicate");
    assert_eq!(short(&case.told()), "processed acked 1 late");
    case.nothing_more();
}

#[test]
fn lost_message_is_enqueued_again() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    // Lost with its queue: nobody has processed it.
    case.publish();
    case.client.delete(&case.queue);
    assert_eq!(short(&case.told()), "dropped queue-deleted 0");
    case.client.declare(&case.queue, FieldTable::default());
    let confirm = case.client.send("", &case.queue, "again", case.asking([]), false);
    assert!(block(confirm).expect("a confirm").is_ack());
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    case.nothing_more();
    // What was processed stays known, also to a new queue of that name.
    case.client.delete(&case.queue);
    case.client.declare(&case.queue, FieldTable::default());
    drop(case.client.send("", &case.queue, "once more", case.asking([]), false));
    assert_eq!(short(&case.told()), "processed acked 1 duplicate");
    assert!(case.client.take(&case.queue).is_none());
    // Or unroutable: no queue has it.
    let id = unique("id");
    let asking = || case.asking([]).with_message_id(id.as_str().into());
    let late = unique("late");
    for _ in 0..2 {
        drop(case.client.send("", &late, "work", asking(), false));
        assert_eq!(short(&case.told()), "unroutable no-route 0");
    }
    case.client.declare(&late, FieldTable::default());
    drop(case.client.send("", &late, "work", asking(), false));
    case.client.ack(&case.client.get_soon(&late));
    assert_eq!(short(&case.told()), "processed acked 1");
}

#[test]
fn id_published_by_several_at_once_is_enqueued_once() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let id = |n: u32| format!("{}-{n}", case.id);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let producer = broker.client();
                producer.confirm_select();
                for n in 0..100 {
                    let asking = case.asking([]).with_message_id(id(n).into());
                    drop(producer.send("", &case.queue, "work", asking, false));
                }
                producer.await_confirms();
            });
        }
    });
    assert_eq!(case.client.ready_count(&case.queue), 100);
    let consumer = case.client.consume(&case.queue);
    for _ in 0..100 {
        case.client.ack(&consumer.next());
    }
    let mut told: Vec<String> = (0..100).map(|_| case.told().message_id).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 100);
    case.nothing_more();
}

#[test]
fn duplicate_that_races_the_ack_is_told_exactly_once() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    const COUNT: u32 = 300;
    let second = case.client.queue("reply-again", FieldTable::default());
    let asking = |n: u32, reply: &str| {
        let properties = case.asking([]).with_message_id(format!("{}-{n}", case.id).into());
        properties.with_reply_to(reply.into())
    };
    let publish = |producer: &Client, reply: &str| {
        producer.confirm_select();
        for n in 0..COUNT {
            drop(producer.send("", &case.queue, "work", asking(n, reply), false));
        }
        producer.await_confirms();
    };
    let worker = broker.client();
    worker.prefetch(10, false);
    let consumer = worker.consume(&case.queue);
    let (one, two) = (broker.client(), broker.client());
    std::thread::scope(|scope| {
        scope.spawn(|| publish(&one, &case.reply));
        scope.spawn(|| publish(&two, &second));
        (0..COUNT).for_each(|_| worker.ack(&consumer.next()));
    });
    worker.round_trip();
    // For some ids each producer published the original, for others a duplicate; either way it gets
    // the outcome.
    let told_at = |reply: &str| {
        let answers = case.client.consume(reply);
        let told = (0..COUNT).map(|_| Told::read(&answers.next()));
        let mut told: Vec<_> = told.map(|told| (told.message_id, told.is_duplicate)).collect();
        case.client.cancel(&answers);
        told.sort();
        told
    };
    let (first, again) = (told_at(&case.reply), told_at(&second));
    for ((of_first, is_first_duplicate), (of_again, is_again_duplicate)) in first.iter().zip(&again)
    {
        assert_eq!(of_first, of_again);
        assert_ne!(is_first_duplicate, is_again_duplicate, "{of_first}");
    }
    case.nothing_more();
    assert!(case.client.take(&second).is_none() && case.client.get(&case.queue).is_none());
    assert_eq!(case.listed().len(), COUNT as usize);
}
