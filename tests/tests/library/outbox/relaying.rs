//! One relay at a time, order by key, and lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wilco::{Failure, OutboxState, Queue};

use super::super::{connect, shared};
use super::{Counts, Place, Working, block, counting, heard, memory, processed, send_all, unique};

#[test]
fn of_two_relays_one_hands_over_and_the_other_stands_by() {
    one_at_a_time(&Place::file());
}

#[test]
fn a_relay_whose_lease_is_anothers_stops() {
    lease_lost(&Place::file());
}

#[test]
fn messages_with_the_same_key_keep_their_order() {
    in_order(&Place::file());
}

#[test]
fn a_queue_that_does_not_move_holds_up_no_other() {
    lanes(&Place::file());
}

pub(super) fn one_at_a_time(place: &Place) {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("two"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let (one, two) = (place.open().await, place.open().await);
        let other = connect(&broker).await;
        let (first, mut first_heard) = heard(one.relay(&wilco));
        let (second, mut second_heard) = heard(two.relay(&other));
        let (first, second) = (Working::start(first), Working::start(second));
        send_all(&one, &queue, "one", 100).await;
        send_all(&two, &queue, "two", 100).await;
        let mut told = HashMap::new();
        while told.len() < 200 {
            let it = tokio::select! {
                it = first_heard.next() => it,
                it = second_heard.next() => it,
            };
            assert!(processed(&it), "{it}");
            assert!(told.insert(it.id.clone(), it).is_none(), "each is told once");
        }
        let (first, second) = tokio::join!(first.stop(), second.stop());
        assert_eq!(first.handed_over + second.handed_over, 200, "{first} {second}");
        assert_eq!(first.handed_over.min(second.handed_over), 0, "{first} {second}");
        assert!(counts.are_one() && counts.len() == 200);

        // The lease of one that was stopped is free at once.
        let (third, mut heard) = heard(two.relay(&other).lease(Duration::from_secs(3600)));
        let third = Working::start(third);
        send_all(&one, &queue, "three", 1).await;
        heard.next().await;
        assert_eq!(third.stop().await.handed_over, 1);
        worker.abort();
    });
}

/// As if this process had slept for so long that another one took over.
pub(super) fn lease_lost(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String> = Queue::named(unique("lost"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let outbox = place.open().await;
        let (relay, mut heard) = heard(outbox.relay(&wilco).lease(Duration::from_secs(1)));
        let relay = Working::start(relay);
        send_all(&outbox, &queue, "first", 5).await;
        heard.ids(5).await;
        let take = "UPDATE wilco_outbox_relay SET holder = 'other', lease_until = 99999999999999";
        place.execute(take).await;
        // It notices when it renews the lease; and it does nothing once its own clock says that it has ended.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        send_all(&outbox, &queue, "second", 5).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(heard.is_empty() && counts.len() == 5, "the other one would do it");
        let pending = outbox.pending().await.expect("asked");
        assert!(pending.iter().all(|it| !it.is_sent && it.attempts == 0), "{pending:?}");
        place.execute("UPDATE wilco_outbox_relay SET lease_until = 1").await;
        heard.ids(5).await;
        assert!(counts.are_one() && counts.len() == 10);
        relay.stop().await;
        worker.abort();
    });
}

pub(super) fn in_order(place: &Place) {
    const KEYS: usize = 20;
    const EACH: usize = 15;
    block(async {
        let wilco = memory().await;
        let queue: Queue<(usize, usize)> = Queue::named(unique("order"));
        let seen: Arc<Mutex<Vec<Vec<usize>>>> = Arc::new(Mutex::new(vec![Vec::new(); KEYS]));
        let handler = {
            let seen = Arc::clone(&seen);
            move |(key, number): (usize, usize)| {
                seen.lock().expect("no panic")[key].push(number);
                async { Ok::<_, Failure>(()) }
            }
        };
        let worker = wilco.worker().handle(queue.clone(), handler).concurrency(1);
        let worker = tokio::spawn(worker.run());
        let outbox = place.open().await;
        // Half of them wait already; all of the first key come first.
        for number in 0..EACH {
            outbox.send(queue.clone(), &(0, number)).key("0").await.expect("put in");
        }
        let send = async |number: usize| {
            for key in 1..KEYS {
                let send = outbox.send(queue.clone(), &(key, number)).key(key.to_string());
                send.await.expect("put in");
            }
        };
        for number in 0..EACH / 2 {
            send(number).await;
        }
        let (relay, mut one) = heard(outbox.relay(&wilco).window(50));
        let relay = Working::start(relay);
        for number in EACH / 2..EACH {
            send(number).await;
        }
        // Another one goes on in the middle.
        one.ids(40).await;
        let first = relay.stop().await;
        let (relay, mut two) = heard(outbox.relay(&wilco).window(7));
        let relay = Working::start(relay);
        two.ids(KEYS * EACH - first.told as usize).await;
        relay.stop().await;
        let expected: Vec<_> = (0..EACH).collect();
        for (key, numbers) in seen.lock().expect("no panic").iter().enumerate() {
            assert_eq!(*numbers, expected, "key {key}");
        }
        worker.abort();
    });
}

pub(super) fn lanes(place: &Place) {
    block(async {
        let wilco = memory().await;
        let (stuck, moving): (Queue<String>, Queue<String>) =
            (Queue::named("stuck"), Queue::named("moving"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(moving.clone(), counting(&counts)).run());
        let outbox = place.open().await;
        send_all(&outbox, &stuck, "stuck", 30).await;
        send_all(&outbox, &moving, "moving", 30).await;
        // A body that is larger than the window goes alone.
        let large = "x".repeat(100_000);
        outbox.send(moving.clone(), &large).id("large").await.expect("put in");
        let (relay, mut heard) = heard(outbox.relay(&wilco).window(4).window_bytes(10_000));
        let relay = Working::start(relay);
        let told = heard.ids(31).await;
        assert!(told.values().all(|it| it.target == "moving"), "{told:?}");
        let pending = outbox.pending().await.expect("asked");
        let sent = pending.iter().filter(|it| it.is_sent).count();
        assert_eq!((pending.len(), sent), (30, 4), "the window holds the others back");
        let next = outbox.pending_after(&pending[9]).await.expect("asked");
        assert_eq!((next.len(), &next[0].id), (20, &pending[10].id));
        let state = outbox.state(stuck.clone(), "stuck-0").await.expect("asked");
        assert!(matches!(state, OutboxState::Sent), "{state:?}");
        let late = tokio::spawn(wilco.worker().handle(stuck, counting(&counts)).run());
        heard.ids(30).await;
        assert!(counts.are_one() && counts.len() == 61);
        relay.stop().await;
        worker.abort();
        late.abort();
    });
}
