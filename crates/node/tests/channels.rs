//! What happens to deliveries when channels close, transactions end, and consumers share a
//! prefetch.

mod rig;

use amqp::FieldValue;
use node::Settlement;

use rig::Rig;

#[test]
fn a_channel_that_closes_gives_back_what_its_transaction_was_to_settle() {
    let rig = Rig::new(4096);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.publish("", "q", &["1", "2"]);
    client.session.open_channel(2).expect("a new channel");
    client.session.select_transactions(2).expect("a new channel");
    client.consume(2, "q", "consumer", false);
    let got = client.take();
    assert_eq!(got.len(), 2);
    client.ack(&got[0]);
    client.session.close_channel(2).expect("nothing was wrong");
    assert_eq!(client.bodies("q"), ["1", "2"]);
}

#[test]
fn a_channel_that_has_settled_closes_when_that_is_durable() {
    for is_connection in [false, true] {
        let mut rig = Rig::new(1 << 20);
        let mut client = rig.client();
        client.declare("q", &[]);
        client.publish("", "q", &["1", "2"]);
        rig.commit();
        client.session.barrier();
        client.session.open_channel(2).expect("a new channel");
        client.consume(2, "q", "consumer", false);
        let got = client.take();
        client.session.close_channel(2).expect("nothing was wrong");
        assert_eq!(
            client.session.barrier(),
            None,
            "nothing was settled: there is nothing to wait for"
        );
        client.session.open_channel(2).expect("a new channel");
        client.consume(2, "q", "consumer", false);
        client.take().iter().for_each(|again| client.ack(again));
        match is_connection {
            true => assert_eq!(client.session.close().len(), 0),
            false => client.session.close_channel(2).expect("nothing was wrong"),
        }
        let barrier = client.session.barrier().expect("the reply waits");
        assert_eq!(client.session.is_durable(barrier), Ok(false));
        rig.commit();
        assert_eq!(client.session.is_durable(barrier), Ok(true));
        drop(client);
        rig.crash();
        assert_eq!(rig.client().bodies("q").len(), 0, "{} were settled", got.len());
    }
}

#[test]
fn a_channel_with_two_consumers_of_a_queue_closes() {
    let rig = Rig::new(4096);
    let mut client = rig.client();
    client.declare("q", &[("x-single-active-consumer", true.into())]);
    client.session.open_channel(2).expect("a new channel");
    client.session.set_prefetch(2, 1, false).expect("open");
    client.consume(2, "q", "first", false);
    client.consume(2, "q", "second", false);
    client.publish("", "q", &["1", "2", "3"]);
    // When the first consumer goes, the second becomes active, on a channel that is closed already.
    client.session.close_channel(2).expect("nothing was wrong");
    client.take();
    assert_eq!(client.bodies("q"), ["1", "2", "3"]);
}

#[test]
fn a_consumer_without_acks_needs_no_room_of_the_channel() {
    let rig = Rig::new(4096);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.session.set_prefetch(1, 2, true).expect("open");
    client.consume(1, "q", "consumer", true);
    client.publish("", "q", &["1", "2", "3", "4", "5"]);
    assert_eq!(client.take().len(), 5);
}

#[test]
fn what_a_transaction_rejects_is_dead_lettered_with_it() {
    for (sync, is_committed) in [(1, false), (2, true)] {
        let mut rig = Rig::new(1 << 20);
        let mut client = rig.client();
        client.declare("dead", &[]);
        let dead_letter =
            [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "dead".into())];
        client.declare("q", &dead_letter);
        client.publish("", "q", &["rejected"]);
        rig.commit();
        client.session.barrier();
        client.session.open_channel(2).expect("a new channel");
        client.session.select_transactions(2).expect("a new channel");
        client.consume(2, "q", "consumer", false);
        let got = client.take();
        client.settle(&got[0], Settlement::Reject);
        client.session.commit(2).expect("a transactional channel");
        let barrier = client.session.barrier().expect("the reply waits");
        assert_eq!(client.session.is_durable(barrier), Ok(false));
        rig.disk.set_crash_at_sync(sync);
        let committed = rig.node.commit();
        assert_eq!(committed.is_ok(), is_committed);
        assert_eq!(client.session.is_durable(barrier).is_ok(), is_committed);
        drop(client);
        rig.crash();
        let mut client = rig.client();
        let in_queues = (client.bodies("q").len(), client.bodies("dead").len());
        let expected = if is_committed { (0, 1) } else { in_queues };
        assert_eq!(in_queues, expected);
        assert_eq!(in_queues.0 + in_queues.1, 1, "in one of them");
    }
}

#[test]
fn whoever_waits_is_told_when_a_segment_cannot_be_deleted() {
    let rig = Rig::new(1024);
    let mut client = rig.client();
    client.declare("q", &[]);
    for number in 0..30 {
        client.publish("", "q", &[&format!("{number:-<90}")]);
        rig.commit();
    }
    rig.maintain(1);
    let before = rig.node.segment_count();
    while let Some(got) = client.get("q") {
        client.ack(&got);
    }
    // The settlements are synced; the sync that deletes the first segment is not.
    rig.disk.set_crash_at_sync(2);
    assert!(rig.node.commit().is_err());
    assert!(rig.node.segment_count() >= before - 1);
    assert!(client.session.is_durable(u64::MAX).is_err(), "it must not wait for ever");
}

/// The client may still settle it, but its place is free: the channel and its consumers go on.
#[test]
fn a_delivery_that_times_out_gives_its_shared_prefetch_back_once() {
    let rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[("x-consumer-timeout", FieldValue::I64(100))]);
    client.session.set_prefetch(1, 1, true).expect("open");
    client.consume(1, "q", "t", false);
    client.publish("", "q", &["m"]);
    let mut got = client.take();
    for round in 0..3 {
        assert_eq!(got.len(), 1, "round {round}");
        rig.pass_ms(200);
        rig.maintain(1);
        // The first look gives the place to the next delivery.
        assert_eq!(client.take(), []);
        got.extend(client.take());
        let late = got.remove(0);
        client.ack(&late);
    }
    client.publish("", "q", &["another"]);
    assert_eq!(client.take(), [], "the late acks have freed nothing a second time");
    client.ack(&got[0]);
    let next = client.take();
    assert_eq!(next.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(), ["another"]);
}
