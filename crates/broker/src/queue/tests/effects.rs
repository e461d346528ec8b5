//! Each message leaves once, with what the log and the dead-letter exchange need to know.

use super::*;
use crate::Position;

#[test]
fn a_rejected_message_dies_only_where_the_queue_has_a_dead_letter_exchange() {
    for dead_letters in [true, false] {
        let mut rig = Rig::new(settings(|s| s.dead_letter = dead_letters.then(dlx)));
        rig.publish_kind("a", Kind { position: Some(9), ..Kind::default() });
        rig.publish("b");
        let (a, b) = (rig.get().expect("ready"), rig.get().expect("ready"));
        rig.settle(&b, Settlement::Reject);
        rig.settle(&a, Settlement::Reject);
        let [b, a] = &rig.effects.removed[..] else { panic!("both are gone") };
        assert!(b.message.is_some() && b.position.is_none());
        assert!(a.message.is_none() && a.position == Some(Position::new(9)));
        assert_eq!((a.dead_letter, b.dead_letter), (dead_letters, dead_letters));
    }
}

#[test]
fn memory_is_counted_for_bodies_that_are_kept() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", Kind { position: Some(9), ..Kind::default() });
    assert_eq!(rig.queue.cached_bytes(), 0);
    rig.publish("bbbb");
    let bytes = message("bbbb", Kind::default()).memory_bytes() as u64;
    assert_eq!(rig.queue.cached_bytes(), bytes);
    assert_eq!(rig.queue.depth().ready_bytes, 5);
    let (a, b) = (rig.get().expect("ready"), rig.get().expect("ready"));
    assert_eq!(rig.queue.depth().ready_bytes, 0);
    assert_eq!(rig.queue.cached_bytes(), bytes);
    rig.settle(&a, Settlement::Ack);
    rig.settle(&b, Settlement::Ack);
    assert_eq!(rig.queue.cached_bytes(), 0);
}

#[test]
fn compaction_finds_what_is_in_the_log_and_moves_it() {
    let mut rig = Rig::new(settings(|s| s.priority_max = 255));
    let logged =
        |position, priority| Kind { position: Some(position), priority, ..Kind::default() };
    for position in 0..300 {
        rig.publish_kind("x", logged(position, (position % 2) as u8));
        rig.publish("only in memory");
    }
    let held = rig.get().expect("ready");
    let mut found = Vec::new();
    let mut at = Some((0, 0));
    let mut turns = 0;
    while let Some(from) = at {
        at = rig.queue.positions_in(&|position| position < 100, from, 32, &mut found);
        turns += 1;
    }
    assert!(turns > 300 / 32);
    let mut positions: Vec<_> = found.iter().map(|entry| entry.position).collect();
    positions.sort_unstable();
    assert_eq!(positions, (0..100).collect::<Vec<_>>());
    for &EntryRef { id, position, .. } in &found {
        assert!(rig.queue.relocate(id, position, position + 1000));
        assert!(!rig.queue.relocate(id, position, 7), "it is no longer there");
    }
    rig.settle(&held, Settlement::Ack);
    let moved_to = held.position.expect("it is in the log").get() + 1000;
    assert_eq!(rig.effects.removed[0].position, Some(Position::new(moved_to)));
    assert!(!rig.queue.relocate(held.id, moved_to, 7), "it is gone");
}
