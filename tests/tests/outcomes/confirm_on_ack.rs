//! `x-confirm-on: ack`: a confirm that waits for the work, for publishers and reporting workers.

use crate::{
    case::{Case, short},
    wilco,
};
use end_to_end::{
    Channel, Client,
    client::block,
    eventually, int,
    raw::{self, Args, Raw},
    table, text, unique,
};
use lapin::{BasicProperties, Confirmation, PublisherConfirm, types::FieldTable};
use std::{collections::BTreeSet, future::Future, pin::Pin, task};

fn on_ack() -> BasicProperties {
    BasicProperties::default().with_headers(table([("x-confirm-on", text("ack"))]))
}

fn on_ack_within(ms: i32) -> BasicProperties {
    let headers = table([("x-confirm-on", text("ack")), ("x-deadline", int(ms))]);
    BasicProperties::default().with_headers(headers)
}

/// Whether there is no answer so far. Everything that the broker sent before a later answer has
/// arrived.
fn is_held(channel: &Channel, confirm: &mut PublisherConfirm) -> bool {
    let fence = channel.queue("fence", FieldTable::default());
    assert!(channel.confirmed("", &fence, "in between").is_ack(), "others do not wait");
    let mut context = task::Context::from_waker(task::Waker::noop());
    Pin::new(confirm).poll(&mut context).is_pending()
}

fn answer(confirm: PublisherConfirm) -> Confirmation {
    block(confirm).expect("an answer")
}

#[test]
fn ack_comes_when_the_message_is_processed() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let mut confirm = case.client.send("", &case.queue, "work", on_ack(), false);
    let message = case.get();
    assert!(is_held(&case.client, &mut confirm));
    case.client.ack(&message);
    assert!(answer(confirm).is_ack());
}

#[test]
fn nack_comes_when_the_message_is_not_processed() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let ways: [fn(&Case<'_>); 3] = [
        |case| case.client.reject(&case.get(), false),
        |case| {
            let queue = case.queue.as_str().into();
            block(case.client.lapin().queue_purge(queue, Default::default())).expect("a purge");
        },
        |case| {
            case.client.delete(&case.queue);
        },
    ];
    for leave in ways {
        let mut confirm = case.client.send("", &case.queue, "work", on_ack(), false);
        assert!(is_held(&case.client, &mut confirm));
        leave(&case);
        assert!(answer(confirm).is_nack());
    }
}

#[test]
fn fan_out_is_acked_when_all_have_acked() {
    let Some(broker) = wilco() else { return };
    for is_good in [true, false] {
        let case = Case::new(&broker, FieldTable::default()).fan_out();
        let mut confirm = case.client.send(&case.exchange, "", "work", on_ack(), false);
        case.client.ack(&case.client.get_soon(&case.others[0]));
        let message = case.get();
        match is_good {
            true => case.client.ack(&message),
            false => case.client.reject(&message, false),
        }
        assert!(is_held(&case.client, &mut confirm));
        case.client.ack(&case.client.get_soon(&case.others[1]));
        assert_eq!(answer(confirm).is_ack(), is_good);
    }
}

#[test]
fn attempt_that_fails_leaves_the_confirm_held() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let mut confirm = case.client.send("", &case.queue, "work", on_ack(), false);
    case.client.nack(&case.get(), true);
    assert!(is_held(&case.client, &mut confirm));
    case.client.ack(&case.get());
    assert!(answer(confirm).is_ack());
}

#[test]
fn full_queue_and_no_queue_are_nacked_at_once() {
    let Some(broker) = wilco() else { return };
    let limits = table([("x-max-length", int(0)), ("x-overflow", text("reject-publish"))]);
    let case = Case::new(&broker, limits);
    assert!(answer(case.client.send("", &case.queue, "work", on_ack(), false)).is_nack());
    let nowhere = unique("nowhere");
    assert!(answer(case.client.send("", &nowhere, "work", on_ack(), false)).is_nack());
    let mandatory = answer(case.client.send("", &nowhere, "work", on_ack(), true));
    assert!(mandatory.is_nack() && mandatory.take_message().is_some());
}

#[test]
fn deadline_bounds_the_confirm_and_what_comes_later_changes_nothing() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let confirm = case.client.send("", &case.queue, "work", on_ack_within(100), false);
    let message = case.get();
    assert!(answer(confirm).is_nack());
    case.client.ack(&message);
    // lapin fails the channel on a confirm for a delivery tag it does not know.
    assert!(case.client.confirmed("", &case.queue, "next").is_ack());
}

#[test]
fn header_on_a_channel_without_confirms_makes_a_tracked_message() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let plain = case.client.open();
    let headers = table([
        ("x-confirm-on", text("ack")),
        ("x-deadline", int(60_000)),
        ("x-notify", text("all")),
    ]);
    plain.publish_with("", &case.queue, "work", case.asking([]).with_headers(headers));
    case.client.ack(&case.get());
    assert_eq!(short(&case.told()), "processed acked 1");
    plain.round_trip();
    case.nothing_more();
}

#[test]
fn confirm_on_enqueue_is_the_ordinary_one() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let headers = table([("x-confirm-on", text("enqueue"))]);
    let properties = BasicProperties::default().with_headers(headers);
    assert!(answer(case.client.send("", &case.queue, "work", properties, false)).is_ack());
}

/// Properties of a persistent message with `x-confirm-on: ack`, as bytes.
fn raw_on_ack() -> Args {
    let headers = Args::new().short("x-confirm-on").u8(b'S').long(b"ack");
    Args::new().u16(0x3000).table(&headers).u8(2)
}

/// Reads acks until all of `expected` have come; each must come once, and no other.
fn read_acks(raw: &mut Raw, told: &mut BTreeSet<u64>, expected: impl IntoIterator<Item = u64>) {
    let expected: BTreeSet<u64> = expected.into_iter().collect();
    while !expected.is_subset(told) {
        let ack = raw.expect(60, 80);
        let mut fields = ack.fields();
        let (tag, multiple) = (fields.u64(), fields.u8() == 1);
        let first = if multiple { told.last().map_or(1, |last| last + 1) } else { tag };
        for tag in first..=tag {
            assert!(expected.contains(&tag) && told.insert(tag), "{tag} in {ack:?}");
        }
    }
}

#[test]
fn ordinary_publishes_are_confirmed_around_a_held_one() {
    let Some(broker) = wilco() else { return };
    let client = broker.client();
    let (work, plain) =
        (client.queue("work", FieldTable::default()), client.queue("plain", FieldTable::default()));
    let mut raw = broker.raw();
    raw.confirm_select(1);
    let ordinary = |count: usize| raw::publish(1, "", &plain, b"m").repeat(count);
    let held = raw::publish_with(1, "", &work, b"work", &raw_on_ack());
    // 1 to 3 ordinary, 4 held, 5 to 9 ordinary, 10 held, 11 ordinary.
    let all = [ordinary(3), held.clone(), ordinary(5), held, ordinary(1)].concat();
    raw.send(&all);
    let mut told = BTreeSet::new();
    let is_ordinary = |tag: &u64| ![4, 10].contains(tag);
    read_acks(&mut raw, &mut told, (1..=11).filter(is_ordinary));
    // Several batches later they are still held, and acked one by one.
    raw.send(&ordinary(2));
    read_acks(&mut raw, &mut told, (1..=13).filter(is_ordinary));

    let (first, second) = (client.get_soon(&work), client.get_soon(&work));
    client.reject(&second, false);
    let nack = raw.expect(60, 120);
    let mut fields = nack.fields();
    assert_eq!((fields.u64(), fields.u8() & 1), (10, 0), "{nack:?}");
    client.ack(&first);
    read_acks(&mut raw, &mut told, (1..=13).filter(|tag| *tag != 10));
    // With nothing held everything is as before.
    raw.send(&ordinary(3));
    read_acks(&mut raw, &mut told, (1..=16).filter(|tag| *tag != 10));
}

#[test]
fn many_held_confirms_are_answered_each_by_its_own_work() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let confirms: Vec<_> = (0..50)
        .map(|n: u32| case.client.send("", &case.queue, n.to_string(), on_ack(), false))
        .collect();
    let worker = case.client.open();
    let consumer = worker.consume(&case.queue);
    // Settled in reverse order, every third one badly.
    let messages: Vec<_> = (0..50).map(|_| consumer.next()).collect();
    for (n, message) in messages.iter().enumerate().rev() {
        match n % 3 {
            0 => worker.reject(message, false),
            _ => worker.ack(message),
        }
    }
    for (n, confirm) in confirms.into_iter().enumerate() {
        assert_eq!(answer(confirm).is_ack(), n % 3 != 0, "{n}");
    }
}

#[test]
fn connection_that_ends_takes_its_held_confirms_with_it() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let producer = broker.client();
    producer.confirm_select();
    let asking = case.asking([("x-confirm-on", text("ack"))]);
    drop(producer.send("", &case.queue, "work", asking, false));
    let message = case.get();
    drop(producer);
    case.client.ack(&message);
    assert_eq!(short(&case.told()), "processed acked 1");
    assert!(case.client.confirmed("", &case.queue, "next").is_ack());
}

/// A worker's report that asks to know whether the producer gets it; returns the worker as well.
fn report(case: &Case<'_>, properties: BasicProperties) -> (Client, PublisherConfirm) {
    let worker = case.broker.client();
    worker.confirm_select();
    let message = worker.get_soon(&case.queue);
    let confirm = worker.send("amq.wilco.report", &case.id, "result", properties, false);
    worker.ack(&message);
    worker.round_trip();
    (worker, confirm)
}

#[test]
fn report_is_confirmed_when_the_producer_has_acked_the_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let (worker, mut confirm) = report(&case, on_ack());
    let outcome = case.client.get_soon(&case.reply);
    assert_eq!(outcome.data, b"result");
    assert!(is_held(&worker, &mut confirm));
    case.client.ack(&outcome);
    assert!(answer(confirm).is_ack());
    eventually("it is received", || {
        broker.settled(&case.id)["queues"][0]["received_at"].text() != ""
    });
}

#[test]
fn report_is_nacked_when_the_producer_rejects_the_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let (_worker, confirm) = report(&case, on_ack());
    case.client.reject(&case.client.get_soon(&case.reply), false);
    assert!(answer(confirm).is_nack());
}

#[test]
fn report_is_nacked_when_the_queue_of_the_producer_is_deleted() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let (_worker, confirm) = report(&case, on_ack());
    case.client.await_ready(&case.reply, 1);
    case.client.delete(&case.reply);
    assert!(answer(confirm).is_nack());
}

#[test]
fn report_is_nacked_when_nobody_asked_for_the_outcome() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish_with(case.asking([]).with_headers(FieldTable::default()));
    let (_worker, confirm) = report(&case, on_ack());
    assert!(answer(confirm).is_nack());
}

#[test]
fn report_of_an_attempt_is_nacked_when_the_message_is_given_back() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let worker = broker.client();
    worker.confirm_select();
    for is_given_back in [true, false] {
        let message = worker.get_soon(&case.queue);
        let confirm = worker.send("amq.wilco.report", &case.id, "?", on_ack(), false);
        match is_given_back {
            true => worker.nack(&message, true),
            // A second report replaces the first.
            false => drop(worker.send("amq.wilco.report", &case.id, "!", on_ack(), false)),
        }
        assert!(answer(confirm).is_nack());
    }
}

#[test]
fn report_is_nacked_when_the_producer_does_not_answer_in_time() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let (_worker, confirm) = report(&case, on_ack_within(200));
    assert!(answer(confirm).is_nack());
    case.client.ack(&case.client.get_soon(&case.reply));
    case.nothing_more();
}
