//! Length limits and what happens at them.

use end_to_end::{Client, Level, client::block, eventually, int, shared, table, text, unique};
use lapin::{BasicProperties, options::QueueDeclareOptions, types::AMQPValue};

/// Publishes one by one and returns which bodies were confirmed.
fn accepted<'a>(client: &Client, queue: &str, bodies: &[&'a str]) -> Vec<&'a str> {
    let mut accepted = bodies.to_vec();
    accepted.retain(|body| client.confirmed("", queue, body).is_ack());
    accepted
}

fn check<const N: usize>(limits: [(&str, AMQPValue); N], confirmed: &[&str], kept: &[&str]) {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", table(limits));
    assert_eq!(accepted(&client, &queue, &["one", "two", "three", "four"]), confirmed);
    assert_eq!(client.drain(&queue), kept);
}

#[test]
fn length_limit_drops_the_oldest() {
    check([("x-max-length", int(2))], &["one", "two", "three", "four"], &["three", "four"]);
}

#[test]
fn byte_limit_drops_the_oldest() {
    // Only bodies count: "three" and "four" have nine bytes.
    check([("x-max-length-bytes", int(9))], &["one", "two", "three", "four"], &["three", "four"]);
    check([("x-max-length-bytes", int(8))], &["one", "two", "three", "four"], &["four"]);
}

#[test]
fn the_stricter_of_both_limits_counts() {
    check(
        [("x-max-length", int(1)), ("x-max-length-bytes", int(1000))],
        &["one", "two", "three", "four"],
        &["four"],
    );
}

#[test]
fn drop_head_by_name_is_the_default() {
    check(
        [("x-max-length", int(2)), ("x-overflow", text("drop-head"))],
        &["one", "two", "three", "four"],
        &["three", "four"],
    );
}

#[test]
fn reject_publish_refuses_the_newest_with_a_negative_confirm() {
    check(
        [("x-max-length", int(2)), ("x-overflow", text("reject-publish"))],
        &["one", "two"],
        &["one", "two"],
    );
}

#[test]
fn reject_publish_counts_bytes() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let limits = table([("x-max-length-bytes", int(6)), ("x-overflow", text("reject-publish"))]);
    let queue = client.queue("q", limits);
    assert!(client.confirmed("", &queue, "three").is_ack());
    // A queue below its limit accepts the message that exceeds it.
    drop(client.confirmed("", &queue, "four"));
    assert!(client.confirmed("", &queue, "five").is_nack());
}

#[test]
fn reject_publish_dlx_refuses_the_newest_and_dead_letters_it() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let graveyard = client.queue("graveyard", Default::default());
    let queue = client.queue(
        "q",
        table([
            ("x-max-length", int(1)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&graveyard)),
        ]),
    );
    assert_eq!(accepted(&client, &queue, &["one", "two"]), ["one"]);
    assert_eq!(client.take_soon(&graveyard).data, b"two");
    assert_eq!(client.drain(&queue), ["one"]);
}

#[test]
fn room_made_by_an_ack_is_used_again() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let limits = table([("x-max-length", int(1)), ("x-overflow", text("reject-publish"))]);
    let queue = client.queue("q", limits);
    assert_eq!(accepted(&client, &queue, &["one", "two"]), ["one"]);
    assert!(client.take(&queue).is_some());
    assert_eq!(accepted(&client, &queue, &["three", "four"]), ["three"]);
}

#[test]
fn unsettled_messages_do_not_count() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", table([("x-max-length", int(2))]));
    let consumer = client.consume(&queue);
    for body in ["one", "two", "three"] {
        assert!(client.confirmed("", &queue, body).is_ack());
    }
    let held: Vec<_> = (0..3).map(|_| consumer.next()).collect();
    client.cancel(&consumer);
    for message in &held {
        client.nack(message, true);
    }
    // Once requeued they count again; the limit is enforced at once or at the next publish.
    drop(client.confirmed("", &queue, "four"));
    eventually("the limit holds again", || client.ready_count(&queue) == 2);
}

#[test]
fn zero_length_keeps_nothing_but_delivers_to_a_waiting_consumer() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", table([("x-max-length", int(0))]));
    assert!(client.confirmed("", &queue, "gone").is_ack());
    assert_eq!(client.ready_count(&queue), 0);
    let consumer = client.consume(&queue);
    assert!(client.confirmed("", &queue, "met").is_ack());
    assert_eq!(consumer.bodies(1), ["met"]);
}

#[test]
fn limits_hold_under_a_burst_without_confirms() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", table([("x-max-length", int(10))]));
    for n in 0..1000 {
        let properties = BasicProperties::default().with_delivery_mode(2);
        client.publish_with("", &queue, n.to_string(), properties);
    }
    client.round_trip();
    let expected: Vec<_> = (990..1000).map(|n: u32| n.to_string()).collect();
    eventually("the last ten are left", || client.ready_count(&queue) == 10);
    assert_eq!(client.drain(&queue), expected);
}

#[test]
fn limited_queue_confirms_a_whole_batch_in_parts() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let limits = table([("x-max-length", int(50)), ("x-overflow", text("reject-publish"))]);
    let queue = client.queue("q", limits);
    let confirms: Vec<_> = (0..200)
        .map(|n| client.send("", &queue, n.to_string(), BasicProperties::default(), false))
        .collect();
    let accepted: Vec<_> = confirms
        .into_iter()
        .enumerate()
        .filter_map(|(n, confirm)| {
            block(confirm).expect("a confirm").is_ack().then(|| n.to_string())
        })
        .collect();
    assert!((50..200).contains(&accepted.len()), "{} were accepted", accepted.len());
    let kept = client.drain(&queue);
    assert_eq!(kept, accepted, "accepted is what is kept");
}

#[test]
fn wrong_limits_are_refused() {
    let broker = shared();
    let client = broker.client();
    let cases = [
        ("x-max-length", int(-1)),
        ("x-max-length", text("10")),
        ("x-max-length-bytes", int(-1)),
        ("x-max-length-bytes", text("10")),
        ("x-overflow", text("explode")),
        ("x-overflow", int(1)),
    ];
    for (name, value) in cases {
        client.refuses(406, Level::Channel, |channel| {
            let arguments = table([(name, value)]);
            channel.try_declare(&unique("q"), QueueDeclareOptions::durable(), arguments)
        });
    }
}
