//! Publishers are charged while consumers are fast and behind, and at no other time.

use super::*;

/// A queue with so many messages of which one consumer has taken so many in the last 20 ms.
fn with(ready: u32, taken: u32, has_consumer: bool) -> Rig {
    let mut rig = Rig::plain();
    let consumer = rig.consume_at(Port::with_room(taken), |_| ());
    assert_eq!(rig.queue.charge(rig.now_ms, 0), None);
    for _ in 0..ready + taken {
        rig.publish("m");
    }
    assert_eq!(rig.deliver().len() as u32, taken);
    if !has_consumer {
        rig.remove(consumer);
    }
    rig.now_ms += 20;
    rig
}

#[test]
fn only_fast_consumers_that_are_behind_are_waited_for() {
    // 40 messages in 20 ms are 2,000 a second.
    for (ready, taken, has_consumer, waits) in [
        (2048, 40, true, true),
        (2047, 40, true, false),
        (2048, 39, true, false),
        (100_000, 0, true, false),
        (100_000, 1000, false, false),
    ] {
        let mut rig = with(ready, taken, has_consumer);
        let charged = rig.queue.charge(rig.now_ms, 10);
        let expected = waits.then_some(u64::from(taken) + 10);
        assert_eq!(charged, expected, "{ready} ready, {taken} taken");
    }
}

#[test]
fn several_publishers_together_put_in_what_is_taken() {
    let mut rig = with(5000, 100, true);
    assert_eq!(rig.queue.charge(rig.now_ms, 10), Some(110));
    assert_eq!(rig.queue.charge(rig.now_ms, 20), Some(130));
    // What was taken meanwhile without a charge gives no credit for later.
    let consumer = rig.consume_at(Port::with_room(200), |_| ());
    assert_eq!(rig.deliver().len(), 200);
    assert_eq!(rig.queue.taken_count(), 300);
    assert_eq!(rig.queue.charge(rig.now_ms, 5), Some(305));
    rig.remove(consumer);
}

#[test]
fn consumers_that_have_become_slow_are_waited_for_no_longer() {
    let mut rig = with(5000, 100, true);
    assert!(rig.queue.charge(rig.now_ms, 1).is_some());
    rig.now_ms += 20;
    assert_eq!(rig.queue.charge(rig.now_ms, 1), None);
}

#[test]
fn who_gives_back_all_it_takes_is_not_waited_for() {
    let mut rig = Rig::plain();
    for _ in 0..3000 {
        rig.publish("m");
    }
    rig.consume_at(Port::with_room(100), |_| ());
    rig.queue.charge(rig.now_ms, 0);
    for delivery in rig.deliver() {
        rig.settle(&delivery, Settlement::Requeue);
    }
    rig.now_ms += 20;
    assert_eq!(rig.queue.taken_count(), 100);
    assert_eq!(rig.queue.charge(rig.now_ms, 10), None);
}
