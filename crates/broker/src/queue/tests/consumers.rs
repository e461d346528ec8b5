//! Who gets the next message.

use super::*;

fn takers(delivered: &[Delivery], keys: &[ConsumerKey]) -> String {
    let letter = |delivery: &Delivery| {
        let at = keys.iter().position(|key| *key == delivery.consumer).expect("known");
        char::from(b'a' + at as u8)
    };
    delivered.iter().map(letter).collect()
}

#[test]
fn consumers_take_turns() {
    let mut rig = Rig::plain();
    let keys = [rig.consume(|_| ()), rig.consume(|_| ()), rig.consume(|_| ())];
    rig.publish_all("1 2 3 4 5 6 7");
    assert_eq!(takers(&rig.deliver(), &keys), "abcabca");
    rig.publish_all("8 9");
    assert_eq!(takers(&rig.deliver(), &keys), "bc");
}

#[test]
fn who_has_all_it_may_hold_is_passed_over_and_comes_back_last() {
    let mut rig = Rig::plain();
    let keys = [rig.consume(|c| c.prefetch = 1), rig.consume(|_| ())];
    rig.publish_all("1 2 3 4");
    let delivered = rig.deliver();
    assert_eq!(takers(&delivered, &keys), "abbb");
    rig.settle(&delivered[0], Settlement::Ack);
    rig.publish_all("5 6 7");
    assert_eq!(takers(&rig.deliver(), &keys), "bab");
}

#[test]
fn prefetch_bounds_what_is_unsettled() {
    for settlement in
        [Settlement::Ack, Settlement::Reject, Settlement::Requeue, Settlement::Undelivered]
    {
        let mut rig = Rig::plain();
        rig.consume(|c| c.prefetch = 2);
        rig.publish_all("1 2 3 4");
        let delivered = rig.deliver();
        assert_eq!(delivered.len(), 2);
        assert!(rig.deliver().is_empty());
        rig.settle(&delivered[0], settlement);
        assert_eq!(rig.deliver().len(), 1, "{settlement:?}");
        assert_eq!(rig.unsettled(), 2);
    }
}

#[test]
fn prefetch_means_nothing_without_ack() {
    let mut rig = Rig::plain();
    rig.consume(|c| {
        c.prefetch = 1;
        c.no_ack = true;
    });
    rig.publish_all("1 2 3");
    assert_eq!(rig.names(), ["1", "2", "3"]);
    assert_eq!(rig.gone(), reasons("1 2 3", Reason::AutoAcked));
    assert_eq!(rig.unsettled(), 0);
}

#[test]
fn higher_priority_is_served_first_and_lower_when_it_has_no_room() {
    let mut rig = Rig::plain();
    let keys = [
        rig.consume(|c| c.priority = -5),
        rig.consume(|c| {
            c.priority = 10;
            c.prefetch = 2;
        }),
        rig.consume(|_| ()),
        rig.consume(|_| ()),
    ];
    rig.publish_all("1 2 3 4 5 6");
    let delivered = rig.deliver();
    assert_eq!(takers(&delivered, &keys), "bbcdcd");
    rig.settle(&delivered[1], Settlement::Ack);
    rig.publish_all("7 8");
    assert_eq!(takers(&rig.deliver(), &keys), "bc");
    rig.remove(keys[2]);
    rig.remove(keys[3]);
    rig.publish("9");
    assert_eq!(takers(&rig.deliver(), &keys), "a");
}

#[test]
fn an_endpoint_that_refuses_is_left_out_until_it_is_resumed() {
    let mut rig = Rig::plain();
    let port = Port::with_room(0);
    let keys = [rig.consume_at(port.clone(), |_| ()), rig.consume(|_| ())];
    rig.publish_all("1 2");
    assert_eq!(takers(&rig.deliver(), &keys), "bb");
    port.0.room.set(5);
    rig.publish("3");
    assert_eq!(takers(&rig.deliver(), &keys), "b");
    rig.queue.resume(keys[0]);
    rig.queue.resume(keys[0]);
    rig.publish_all("4 5 6 7");
    assert_eq!(takers(&rig.deliver(), &keys), "baba", "resumed twice, served once a round");
}

#[test]
fn nobody_is_asked_for_room_without_a_message() {
    let mut rig = Rig::plain();
    let port = Port::with_room(5);
    rig.consume_at(port.clone(), |c| c.prefetch = 1);
    rig.deliver();
    rig.publish_all("1 2 3");
    rig.deliver();
    assert_eq!(port.0.reserved_count.get(), 1, "room is taken for deliveries alone");
}

#[test]
fn a_single_active_consumer_has_the_queue_until_it_goes() {
    let mut rig = Rig::new(settings(|s| s.single_active_consumer = true));
    let first = rig.consume(|_| ());
    let keys = [
        first,
        rig.consume(|_| ()),
        rig.consume(|c| c.priority = 3),
        rig.consume(|c| c.priority = 3),
    ];
    assert_eq!(rig.queue.active_consumer(), Some(first));
    rig.publish_all("1 2 3");
    let delivered = rig.deliver();
    assert_eq!(takers(&delivered, &keys), "aaa");
    // Succession: highest priority, then longest there. The old one keeps what it holds.
    for (leaves, next) in [(0, Some(2)), (2, Some(3)), (3, Some(1)), (1, None)] {
        assert!(rig.remove(keys[leaves]));
        assert_eq!(rig.queue.active_consumer(), next.map(|next: usize| keys[next]));
        rig.publish("x");
        let expected = next.map(|next| char::from(b'a' + next as u8));
        assert_eq!(takers(&rig.deliver(), &keys), String::from_iter(expected));
    }
    assert_eq!(rig.unsettled(), 6);
    assert!(rig.settle(&delivered[0], Settlement::Ack));
    let late = rig.consume(|_| ());
    assert_eq!(rig.queue.active_consumer(), Some(late));
    assert_eq!(rig.deliver().len(), 1);
}

#[test]
fn a_waiting_consumer_that_goes_changes_nothing_for_the_active_one() {
    let mut rig = Rig::new(settings(|s| s.single_active_consumer = true));
    let (a, b) = (rig.consume(|_| ()), rig.consume(|_| ()));
    rig.remove(b);
    assert_eq!(rig.queue.active_consumer(), Some(a));
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut rig = Rig::plain();
    let add = |rig: &mut Rig, exclusive| {
        let settings = ConsumerSettings { exclusive, ..ConsumerSettings::default() };
        rig.queue.add_consumer(rig.now_ms, Port::with_room(9), settings)
    };
    let alone = add(&mut rig, true).expect("the queue is free");
    for exclusive in [true, false] {
        let refused = add(&mut rig, exclusive).expect_err("in use");
        assert_eq!(refused.reply_code(), amqp::ReplyCode::AccessRefused);
    }
    rig.remove(alone);
    let shared = add(&mut rig, false).expect("free again");
    add(&mut rig, true).expect_err("in use");
    add(&mut rig, false).expect("shared");
    assert_eq!(rig.queue.depth().consumer_count, 2);
    assert!(rig.remove(shared));
    assert!(!rig.remove(shared), "only once");
    assert!(!rig.remove(ConsumerKey::GET));
}

#[test]
fn a_queue_with_a_single_active_consumer_has_no_exclusive_ones() {
    let mut rig = Rig::new(settings(|s| s.single_active_consumer = true));
    let settings = ConsumerSettings { exclusive: true, ..ConsumerSettings::default() };
    let added = rig.queue.add_consumer(rig.now_ms, Port::with_room(9), settings);
    assert_eq!(added.map_err(|e| e.reply_code()), Err(amqp::ReplyCode::AccessRefused));
}

#[test]
fn a_place_that_is_used_again_is_another_consumer() {
    let mut rig = Rig::plain();
    let old = rig.consume(|c| c.prefetch = 1);
    rig.publish_all("1 2 3");
    let held = rig.deliver().remove(0);
    rig.remove(old);
    let new = rig.consume(|c| c.prefetch = 1);
    assert_ne!(old, new);
    assert_eq!(rig.names(), ["2"]);
    // The old consumer's ack makes no room for the new one.
    assert!(rig.settle(&held, Settlement::Ack));
    rig.queue.resume(old);
    assert!(rig.deliver().is_empty());
    assert!(!rig.remove(old));
}

#[test]
fn the_queue_knows_whether_it_ever_had_consumers() {
    let mut rig = Rig::plain();
    assert!(!rig.queue.had_consumers());
    let key = rig.consume(|_| ());
    assert_eq!(rig.queue.consumers().map(|(key, _)| key).collect::<Vec<_>>(), [key]);
    rig.remove(key);
    assert!(rig.queue.had_consumers());
    assert_eq!(rig.queue.consumers().count(), 0);
}
