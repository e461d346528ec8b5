//! From assigned to dispatched, and what happens in between.

use super::super::dispatch::OUTGOING_MAX;
use super::*;
use crate::Position;

#[test]
fn outgoing_is_taken_back_when_its_consumer_is_removed() {
    let mut rig = Rig::plain();
    let (a, b) = (rig.consume(|_| ()), rig.consume(|_| ()));
    rig.publish_all("1 2 3 4");
    rig.assign();
    assert_eq!(rig.unsettled(), 4);
    assert!(rig.remove(a));
    assert_eq!((rig.ready(), rig.unsettled()), (2, 2));
    let delivered = rig.deliver();
    let names: Vec<_> = delivered.iter().map(|d| d.name()).collect();
    assert_eq!(names, ["2", "4", "1", "3"]);
    assert!(delivered.iter().all(|d| d.consumer == b && !d.redelivered && d.attempts_before == 0));
    assert!(rig.effects.is_empty());
}

#[test]
fn what_is_taken_back_gives_its_room_back() {
    let mut rig = Rig::plain();
    let port = Port::with_room(10);
    let a = rig.consume_at(port.clone(), |_| ());
    rig.publish_all("1 2 3");
    rig.assign();
    assert_eq!(port.0.room.get(), 7);
    rig.remove(a);
    assert_eq!(port.0.room.get(), 10);
}

#[test]
fn taking_back_leaves_alone_what_another_consumer_holds_by_now() {
    let mut rig = Rig::new(settings(|s| s.consumer_timeout_ms = Some(100)));
    let a = rig.consume(|c| c.prefetch = 1);
    rig.publish("m");
    rig.assign();
    // Nobody dispatches it in time; it goes to the next consumer, and only then the first one
    // leaves.
    let b = rig.consume(|c| c.priority = 1);
    rig.now_ms += 100;
    rig.tick();
    rig.assign();
    assert!(rig.remove(a));
    let mut delivered = rig.deliver();
    let held = delivered.pop().expect("assigned to the other");
    assert!(delivered.is_empty());
    assert_eq!((held.consumer, held.attempts_before), (b, 1));
    assert_eq!((rig.ready(), rig.unsettled()), (0, 1));
    assert!(rig.settle(&held, Settlement::Ack));
    assert_eq!(rig.gone(), reasons("m", Reason::Acked));
}

#[test]
fn what_was_sent_without_ack_is_not_taken_back() {
    let mut rig = Rig::plain();
    let a = rig.consume(|c| c.no_ack = true);
    rig.publish_all("1 2");
    rig.assign();
    assert_eq!(rig.gone(), reasons("1 2", Reason::AutoAcked));
    rig.remove(a);
    assert_eq!(rig.ready(), 0);
    assert_eq!(rig.names(), ["1", "2"]);
}

#[test]
fn without_ack_a_body_in_the_log_is_settled_after_the_dispatch() {
    let mut rig = Rig::plain();
    rig.consume(|c| c.no_ack = true);
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    rig.publish("b");
    let delivered = rig.deliver();
    assert_eq!(rig.gone(), reasons("b", Reason::AutoAcked));
    let a = &delivered[0];
    assert!(a.settle_after && a.message.is_none() && a.position == Some(Position::new(7)));
    assert!(!delivered[1].settle_after);
    assert_eq!(rig.unsettled(), 1);
    assert!(rig.settle(a, Settlement::AutoAck));
    assert_eq!(rig.gone(), reasons("@7", Reason::AutoAcked));
    assert!(!rig.settle(a, Settlement::Undelivered));
}

#[test]
fn undelivered_goes_back_as_if_it_had_never_been_taken() {
    let mut rig = Rig::new(settings(|s| s.delivery_limit = Some(1)));
    rig.consume(|_| ());
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    for _ in 0..5 {
        let delivery = rig.deliver().remove(0);
        assert!(!delivery.redelivered);
        assert_eq!((delivery.attempts_before, delivery.id.attempt()), (0, 1));
        assert!(rig.settle(&delivery, Settlement::Undelivered));
    }
    assert!(rig.effects.is_empty());
    assert_eq!(rig.ready(), 1);
}

#[test]
fn only_one_driver_hands_over() {
    let mut rig = Rig::plain();
    rig.consume(|_| ());
    rig.publish("a");
    rig.assign();
    assert!(rig.queue.begin_dispatch());
    assert!(!rig.queue.begin_dispatch());
    let mut taken = Outgoing::default();
    assert!(rig.queue.take_outgoing(&mut taken));
    assert_eq!(taken.deliveries.len(), 1);
    assert!(!rig.queue.begin_dispatch());
    taken.clear();
    assert!(!rig.queue.take_outgoing(&mut taken));
    assert!(rig.queue.begin_dispatch());
}

#[test]
fn each_turn_names_its_own_endpoints() {
    let mut rig = Rig::plain();
    let ports = [Port::with_room(2), Port::with_room(9)];
    let keys: Vec<_> = ports.iter().map(|port| rig.consume_at(port.clone(), |_| ())).collect();
    rig.publish_all("1 2 3 4 5 6");
    let mut taken = Outgoing::default();
    rig.assign();
    rig.queue.begin_dispatch();
    for publish in [true, false] {
        assert!(rig.queue.take_outgoing(&mut taken));
        for delivery in &taken.deliveries {
            let at = keys.iter().position(|key| *key == delivery.consumer).expect("known");
            assert!(Rc::ptr_eq(&taken.endpoints[delivery.endpoint as usize].0, &ports[at].0));
        }
        taken.clear();
        if publish {
            rig.publish_all("7 8");
            rig.assign();
        }
    }
}

#[test]
fn what_waits_for_its_dispatch_is_bounded() {
    let mut rig = Rig::plain();
    rig.consume(|_| ());
    for _ in 0..2000 {
        rig.publish("x");
    }
    rig.assign();
    assert_eq!(rig.unsettled(), OUTGOING_MAX as u64);
    assert_eq!(rig.deliver().len(), 2000);
}
