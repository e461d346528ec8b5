//! Deliveries that nobody settles.

use super::*;

fn rig(timeout_ms: u64) -> Rig {
    Rig::new(settings(|s| s.consumer_timeout_ms = Some(timeout_ms)))
}

#[test]
fn a_timeout_gives_back_that_message_and_no_other() {
    let mut rig = rig(100);
    let slow = rig.consume(|_| ());
    rig.publish("a");
    let a = rig.deliver().remove(0);
    rig.now_ms += 60;
    rig.publish("b");
    let b = rig.deliver().remove(0);
    rig.now_ms += 39;
    assert_eq!(rig.tick(), Tick::Again(Some(1100)));
    assert_eq!(rig.unsettled(), 2);
    rig.now_ms += 1;
    assert_eq!(rig.tick(), Tick::Again(Some(1160)));
    assert_eq!((rig.ready(), rig.unsettled()), (1, 1));
    assert!(rig.remove(slow));
    let again = rig.get().expect("given back");
    assert_eq!((again.name().as_str(), again.redelivered, again.attempts_before), ("a", true, 1));
    assert!(!rig.settle(&a, Settlement::Ack), "the timed out delivery settles nothing");
    assert!(rig.settle(&b, Settlement::Ack));
    assert_eq!(rig.gone(), reasons("b", Reason::Acked));
}

#[test]
fn who_is_not_heard_is_not_late() {
    let mut rig = rig(100);
    let port = Port::with_room(u32::MAX / 2);
    rig.consume_at(port.clone(), |_| ());
    rig.publish("a");
    let a = rig.deliver().remove(0);
    port.0.is_unheard.set(true);
    for _ in 0..5 {
        rig.now_ms += 1000;
        rig.tick();
        assert_eq!((rig.ready(), rig.unsettled()), (0, 1));
    }
    port.0.is_unheard.set(false);
    rig.now_ms += 999;
    rig.tick();
    assert_eq!(rig.unsettled(), 1, "it may have settled it, which is read now");
    assert!(rig.settle(&a, Settlement::Ack));
    rig.publish("b");
    rig.deliver();
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.ready() + rig.unsettled(), 1);
    assert!(rig.deliver().iter().all(|delivery| delivery.redelivered), "who is heard is late");
}

#[test]
fn a_timeout_counts_against_the_delivery_limit() {
    let mut rig = Rig::new(settings(|s| {
        s.consumer_timeout_ms = Some(100);
        s.delivery_limit = Some(0);
    }));
    rig.publish("a");
    rig.get().expect("ready");
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.gone(), reasons("a", Reason::DeliveryLimit));
}

#[test]
fn a_message_got_without_ack_has_no_timeout() {
    let mut rig = rig(100);
    rig.publish("a");
    assert_eq!(rig.drain(), ["a"]);
    assert_eq!(rig.queue.next_deadline_ms(), None);
}

#[test]
fn the_list_of_deadlines_stays_bounded() {
    let mut rig = rig(60_000);
    rig.consume(|_| ());
    for _ in 0..100_000 {
        rig.publish("x");
        let delivery = rig.deliver().remove(0);
        rig.settle(&delivery, Settlement::Ack);
        rig.effects.removed.clear();
    }
    assert!(rig.queue.consumer_deadlines.len() <= 70);
}

#[test]
fn the_list_of_deadlines_stays_bounded_when_nobody_is_reached() {
    let mut rig = rig(60_000);
    rig.publish("x");
    for _ in 0..10_000 {
        let delivery = rig.get().expect("ready");
        rig.settle(&delivery, Settlement::Undelivered);
    }
    assert!(rig.queue.consumer_deadlines.len() <= 70);
}

#[test]
fn a_delivery_that_reached_nobody_leaves_no_deadline_to_the_next() {
    let mut rig = rig(100);
    rig.publish("a");
    let first = rig.get().expect("ready");
    rig.settle(&first, Settlement::Undelivered);
    rig.now_ms += 50;
    let second = rig.get().expect("ready");
    rig.now_ms += 50;
    assert_eq!(rig.tick(), Tick::Again(Some(1150)));
    assert!(rig.settle(&second, Settlement::Ack));
}

#[test]
fn a_timeout_of_nothing_does_not_go_round_for_ever() {
    let mut rig = Rig::new(settings(|s| {
        s.consumer_timeout_ms = Some(0);
        s.length_max = Some(0);
    }));
    rig.consume(|_| ());
    rig.publish("a");
    assert_eq!(rig.names(), ["a"]);
    rig.tick();
    assert_eq!(rig.ready() + rig.unsettled(), 1);
}
