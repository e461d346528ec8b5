//! What becomes of a delivery.

use super::*;

#[test]
fn a_requeued_delivery_keeps_its_position() {
    let mut rig = Rig::plain();
    rig.publish_all("1 2 3 4 5");
    let held: Vec<_> = (0..4).filter_map(|_| rig.get()).collect();
    for give_back in [2, 0, 3] {
        assert!(rig.settle(&held[give_back], Settlement::Requeue));
    }
    rig.publish("6");
    rig.consume(|_| ());
    let again = rig.deliver();
    let seen: Vec<_> = again.iter().map(|d| (d.name(), d.redelivered)).collect();
    let expected = [("1", true), ("3", true), ("4", true), ("5", false), ("6", false)];
    assert_eq!(seen, expected.map(|(name, redelivered)| (name.to_owned(), redelivered)));
    assert!(rig.gone().is_empty());
}

#[test]
fn an_earlier_attempt_settles_nothing() {
    let mut rig = Rig::plain();
    rig.publish("a");
    let first = rig.get().expect("ready");
    assert!(rig.settle(&first, Settlement::Requeue));
    for settlement in [Settlement::Ack, Settlement::Requeue, Settlement::Undelivered] {
        assert!(!rig.settle(&first, settlement), "it is ready");
    }
    let second = rig.get().expect("ready");
    assert_ne!(first.id, second.id);
    for settlement in [Settlement::Ack, Settlement::Reject, Settlement::Requeue] {
        assert!(!rig.settle(&first, settlement), "it is somebody else's");
    }
    assert_eq!(rig.unsettled(), 1);
    assert!(rig.settle(&second, Settlement::Reject));
    assert!(!rig.settle(&second, Settlement::Reject), "it is gone");
    assert_eq!(rig.gone(), reasons("a", Reason::Rejected));
}

#[test]
fn an_earlier_attempt_makes_no_room_for_its_consumer() {
    let mut rig = Rig::plain();
    rig.consume(|c| c.prefetch = 1);
    rig.publish_all("a b");
    let first = rig.deliver().remove(0);
    rig.settle(&first, Settlement::Requeue);
    let second = rig.deliver().remove(0);
    assert!(!rig.settle(&first, Settlement::Ack));
    assert!(rig.deliver().is_empty());
    rig.settle(&second, Settlement::Ack);
    assert_eq!(rig.names(), ["b"]);
}

#[test]
fn purge_leaves_the_unsettled_alone() {
    let mut rig = Rig::plain();
    rig.publish_all("1 2 3 4");
    let (one, two) = (rig.get().expect("ready"), rig.get().expect("ready"));
    rig.settle(&one, Settlement::Requeue);
    assert_eq!(rig.queue.purge(&mut rig.effects), 3);
    assert_eq!(rig.gone(), reasons("1 3 4", Reason::Purged));
    let depth = Depth { unsettled_count: 1, ..Depth::default() };
    assert_eq!(rig.queue.depth(), depth);
    assert!(rig.settle(&two, Settlement::Requeue));
    assert_eq!(rig.drain(), ["2"]);
    assert_eq!(rig.queue.purge(&mut rig.effects), 0);
}

#[test]
fn clear_takes_everything_once() {
    let mut rig = Rig::new(settings(|s| s.priority_max = 2));
    for (name, priority) in [("1", 0), ("2", 2), ("3", 1), ("4", 0), ("5", 0)] {
        rig.publish_kind(name, Kind { priority, ..Kind::default() });
    }
    let held = rig.get().expect("ready");
    assert_eq!(held.name(), "2");
    rig.consume(|c| c.prefetch = 1);
    rig.assign();
    assert_eq!(rig.queue.clear(&mut rig.effects), 3);
    let mut gone = rig.gone();
    gone.sort();
    assert_eq!(gone, reasons("1 2 3 4 5", Reason::QueueDeleted));
    assert_eq!(rig.queue.depth(), Depth { consumer_count: 1, ..Depth::default() });
    assert_eq!(rig.queue.cached_bytes(), 0);
    assert!(rig.deliver().is_empty());
    for settlement in [Settlement::Ack, Settlement::Requeue, Settlement::Undelivered] {
        assert!(!rig.settle(&held, settlement));
    }
    assert!(rig.gone().is_empty());
}

#[test]
fn a_cleared_queue_can_be_used_on() {
    let mut rig = Rig::plain();
    rig.consume(|_| ());
    rig.publish("1");
    rig.assign();
    rig.queue.clear(&mut rig.effects);
    rig.publish("2");
    rig.assign();
    let mut taken = Outgoing::default();
    assert!(rig.queue.begin_dispatch() && rig.queue.take_outgoing(&mut taken));
    assert_eq!(taken.deliveries.len(), 1);
    assert!((taken.deliveries[0].endpoint as usize) < taken.endpoints.len());
}

#[test]
fn get_takes_from_the_head() {
    let mut rig = Rig::plain();
    assert!(rig.get().is_none());
    rig.publish_all("1 2");
    let one = rig.get().expect("ready");
    assert_eq!((one.name().as_str(), one.consumer), ("1", ConsumerKey::GET));
    assert_eq!(rig.drain(), ["2"]);
    assert_eq!(rig.gone(), reasons("2", Reason::AutoAcked));
    assert!(rig.settle(&one, Settlement::Ack));
}
