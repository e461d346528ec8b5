//! Memory is proportional to the number of messages, whatever stays behind.

use super::*;

/// Chunks that may be held by a handful of messages.
const FEW: usize = 24;

fn flow_past(rig: &mut Rig, consumer_takes: bool, count: u64) -> usize {
    let mut most = 0;
    for number in 0..count {
        rig.publish("x");
        if consumer_takes {
            let delivered = rig.deliver();
            assert_eq!(delivered.len(), 1);
            assert!(rig.settle(&delivered[0], Settlement::Ack));
        }
        if number % 4096 == 0 {
            rig.effects.removed.clear();
            most = most.max(rig.queue.levels.chunk_count());
        }
    }
    rig.effects.removed.clear();
    most.max(rig.queue.levels.chunk_count())
}

#[test]
fn one_unsettled_message_does_not_hold_the_million_that_flow_past() {
    let mut rig = Rig::plain();
    rig.publish("sleeper");
    let sleeper = rig.get().expect("ready");
    rig.consume(|_| ());
    assert!(flow_past(&mut rig, true, 1_000_000) <= FEW);
    assert!(rig.settle(&sleeper, Settlement::Requeue));
    let delivered = rig.deliver();
    assert_eq!(delivered[0].name(), "sleeper");
    assert!(rig.settle(&delivered[0], Settlement::Ack));
    assert_eq!(rig.gone(), reasons("sleeper", Reason::Acked));
    assert_eq!(rig.queue.depth(), Depth { consumer_count: 1, ..Depth::default() });
}

#[test]
fn one_unsettled_message_does_not_hold_what_is_dropped_behind_it() {
    let mut rig = Rig::new(settings(|s| s.length_max = Some(10)));
    rig.publish("sleeper");
    let sleeper = rig.get().expect("ready");
    assert!(flow_past(&mut rig, false, 200_000) <= FEW);
    assert!(rig.settle(&sleeper, Settlement::Ack));
    assert_eq!(rig.ready(), 10);
}

#[test]
fn one_unsettled_message_does_not_hold_what_expires_behind_it() {
    let mut rig = Rig::new(settings(|s| s.message_ttl_ms = Some(1)));
    rig.publish("sleeper");
    let _sleeper = rig.get().expect("ready");
    for _ in 0..100_000 {
        rig.publish("x");
        rig.now_ms += 1;
        rig.tick();
        rig.effects.removed.clear();
    }
    assert!(rig.queue.levels.chunk_count() <= FEW);
}

#[test]
fn many_sleepers_cost_by_their_number() {
    // One message in this many is never settled: so that no chunk is ever empty, and so that most
    // are.
    for one_in in [50, 1000] {
        let mut rig = Rig::plain();
        rig.consume(|_| ());
        let mut sleepers = Vec::new();
        for number in 0..200_000 {
            rig.publish("x");
            let delivery = rig.deliver().remove(0);
            if number % one_in == 0 {
                sleepers.push(delivery);
            } else {
                rig.settle(&delivery, Settlement::Ack);
            }
            rig.effects.removed.clear();
        }
        // At most one chunk for eight of them, besides the few that are always allowed.
        assert!(rig.queue.levels.chunk_count() <= FEW + sleepers.len() / 8);
        for sleeper in sleepers.iter().rev() {
            assert!(rig.settle(sleeper, Settlement::Requeue));
        }
        let again: Vec<_> = rig.deliver().iter().map(|delivery| delivery.id.number).collect();
        let before: Vec<_> = sleepers.iter().map(|delivery| delivery.id.number).collect();
        assert_eq!(again, before);
    }
}

#[test]
fn redelivery_to_a_held_front_survives_a_purge_of_everything_behind_it() {
    let mut rig = Rig::plain();
    for _ in 0..64 {
        rig.publish("x");
    }
    let held: Vec<_> = std::iter::from_fn(|| rig.get()).collect();
    for _ in 0..64 * 40 {
        rig.publish("y");
    }
    assert_eq!(rig.queue.purge(&mut rig.effects), 64 * 40);
    assert!(rig.settle(&held[3], Settlement::Requeue));
    let again = rig.get().expect("given back");
    assert_eq!(again.id.number, held[3].id.number);
    rig.publish("z");
    assert_eq!(rig.drain(), ["z"]);
    for delivery in held.iter().filter(|delivery| delivery.id != held[3].id).chain([&again]) {
        assert!(rig.settle(delivery, Settlement::Ack));
    }
    assert_eq!(rig.queue.depth(), Depth::default());
}

#[test]
fn an_emptied_queue_keeps_no_chunks_but_the_last() {
    let mut rig = Rig::plain();
    for _ in 0..10_000 {
        rig.publish("x");
    }
    assert!(rig.queue.levels.chunk_count() >= 10_000 / 64);
    rig.queue.purge(&mut rig.effects);
    assert!(rig.queue.levels.chunk_count() <= 1);
}
