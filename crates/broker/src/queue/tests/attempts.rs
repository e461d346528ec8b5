//! Attempts: how often a message may be given back.

use super::*;

#[test]
fn a_message_is_delivered_once_more_than_the_limit() {
    for limit in [0, 1, 3, 20] {
        let mut rig = Rig::new(settings(|s| s.delivery_limit = Some(limit)));
        rig.consume(|_| ());
        rig.publish_kind("@7", Kind { position: Some(7), ..Kind::default() });
        for attempt in 0..=limit {
            let delivery = rig.deliver().remove(0);
            assert_eq!(u32::from(delivery.attempts_before), attempt);
            assert_eq!(delivery.redelivered, attempt > 0);
            assert!(rig.gone().is_empty());
            assert!(rig.settle(&delivery, Settlement::Requeue));
        }
        assert!(rig.deliver().is_empty());
        assert_eq!(rig.gone(), reasons("@7", Reason::DeliveryLimit));
        let counts: Vec<u32> = rig.effects.attempts.iter().map(|a| u32::from(a.count)).collect();
        assert_eq!(counts, (1..=limit).collect::<Vec<_>>());
        assert!(rig.effects.attempts.iter().all(|attempt| attempt.position == 7));
    }
}

#[test]
fn without_a_limit_a_message_may_be_given_back_for_ever() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    for _ in 0..70_000 {
        let delivery = rig.get().expect("ready");
        assert!(rig.settle(&delivery, Settlement::Requeue));
    }
    assert!(rig.effects.is_empty());
}

#[test]
fn a_limit_beyond_what_is_counted_is_still_a_limit() {
    let mut rig = Rig::new(settings(|s| s.delivery_limit = Some(1_000_000)));
    rig.publish("a");
    for _ in 0..u32::from(u16::MAX) {
        let Some(delivery) = rig.get() else { break };
        rig.settle(&delivery, Settlement::Requeue);
    }
    assert_eq!(rig.gone(), reasons("a", Reason::DeliveryLimit));
}

#[test]
fn attempts_are_kept_for_a_queue_that_counts_without_a_limit() {
    let mut rig = Rig::new(settings(|s| s.counts_deliveries = true));
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    rig.publish("b");
    let (a, b) = (rig.get().expect("ready"), rig.get().expect("ready"));
    rig.settle(&a, Settlement::Requeue);
    rig.settle(&b, Settlement::Requeue);
    assert_eq!(rig.effects.attempts, [Attempt { position: 7, count: 1 }]);
}

#[test]
fn attempts_go_on_where_the_restart_interrupted_them() {
    let mut rig = Rig::new(settings(|s| s.delivery_limit = Some(2)));
    rig.queue.restore(&Restored { position: 7, body_bytes: 3, attempts: 2, ..Restored::default() });
    assert_eq!(rig.queue.depth().ready_bytes, 3);
    let delivery = rig.get().expect("ready");
    assert_eq!((delivery.attempts_before, delivery.redelivered), (2, true));
    rig.settle(&delivery, Settlement::Requeue);
    assert_eq!(rig.gone(), reasons("@7", Reason::DeliveryLimit));
}
