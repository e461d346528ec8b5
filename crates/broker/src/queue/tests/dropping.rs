//! What happens when a queue is full.

use super::*;

use Overflow::{DropHead, RejectPublish, RejectPublishDlx};

fn rig(overflow: Overflow, length_max: Option<u64>, bytes_max: Option<u64>) -> Rig {
    Rig::new(settings(|s| {
        s.overflow = overflow;
        s.length_max = length_max;
        s.bytes_max = bytes_max;
    }))
}

#[test]
fn the_head_is_dropped_or_the_newcomer_refused() {
    // Overflow, allowed length and bytes; published; what leaves (and why); what stays.
    let cases = [
        (DropHead, Some(2), None, "a b c d", "a b", "c d"),
        (DropHead, Some(0), None, "a b", "a b", ""),
        (DropHead, None, Some(4), "aa bb c d", "aa", "bb c d"),
        (DropHead, None, Some(4), "a b ccccc", "a b ccccc", ""),
        (DropHead, None, Some(0), "a b", "a b", ""),
        (DropHead, Some(2), Some(3), "aa bb c d", "aa bb", "c d"),
        (RejectPublish, Some(2), None, "a b c d", "c d", "a b"),
        (RejectPublish, Some(0), None, "a", "a", ""),
        (RejectPublish, None, Some(4), "aa bb c d", "c d", "aa bb"),
        // A message that would exceed the limit is refused; one that still fits is not.
        (RejectPublish, None, Some(4), "aa bbb cc d", "bbb d", "aa cc"),
        (RejectPublishDlx, None, Some(4), "ccccc a", "ccccc", "a"),
        (RejectPublishDlx, Some(1), Some(9), "a b", "b", "a"),
    ];
    for (overflow, length_max, bytes_max, published, gone, left) in cases {
        let case = format!("{overflow:?} {length_max:?} {bytes_max:?} {published}");
        let mut rig = rig(overflow, length_max, bytes_max);
        let mut refused = Vec::new();
        for name in published.split(' ') {
            if rig.publish(name) == Published::Refused {
                refused.push(name);
            }
        }
        let is_dead_letter = rig.effects.removed.iter().all(|removed| removed.dead_letter);
        assert_eq!(is_dead_letter, overflow != RejectPublish, "{case}");
        match overflow {
            DropHead => {
                assert_eq!(rig.gone(), reasons(gone, Reason::MaxLength), "{case}");
                assert!(refused.is_empty(), "{case}");
            }
            _ => {
                assert_eq!(rig.gone(), reasons(gone, Reason::Refused), "{case}");
                assert_eq!(refused.join(" "), gone, "{case}");
            }
        }
        let bytes: usize = left.split(' ').map(str::len).sum();
        assert_eq!(rig.queue.depth().ready_bytes, bytes as u64, "{case}");
        assert_eq!(rig.drain().join(" "), left, "{case}");
    }
}

#[test]
fn a_consumer_with_room_gets_messages_before_they_are_dropped_or_refused() {
    for overflow in [DropHead, RejectPublish, RejectPublishDlx] {
        let mut rig = rig(overflow, Some(1), None);
        rig.consume(|c| c.prefetch = 3);
        rig.publish_all("1 2 3 4 5");
        let gone = if overflow == DropHead {
            reasons("4", Reason::MaxLength)
        } else {
            reasons("5", Reason::Refused)
        };
        assert_eq!(rig.gone(), gone, "{overflow:?}");
        assert_eq!(rig.names(), ["1", "2", "3"], "{overflow:?}");
    }
}

#[test]
fn nothing_is_dropped_that_somebody_has_room_for_however_many_wait_for_the_dispatch() {
    for overflow in [DropHead, RejectPublish] {
        let mut rig = rig(overflow, Some(1), None);
        rig.consume(|_| ());
        for _ in 0..2000 {
            rig.publish("x");
        }
        assert!(rig.gone().is_empty(), "{overflow:?}");
        assert_eq!(rig.deliver().len(), 2000, "{overflow:?}");
    }
}

#[test]
fn unsettled_messages_do_not_count() {
    let mut rig = rig(DropHead, Some(1), None);
    rig.publish("a");
    let _a = rig.get().expect("ready");
    rig.publish("b");
    assert!(rig.gone().is_empty());
}

#[test]
fn what_comes_back_to_a_full_queue_is_dropped_from_the_head() {
    for settlement in [Settlement::Requeue, Settlement::Undelivered] {
        let mut rig = rig(DropHead, Some(1), None);
        rig.publish("a");
        let a = rig.get().expect("ready");
        rig.publish("b");
        assert!(rig.settle(&a, settlement));
        assert_eq!(rig.gone(), reasons("a", Reason::MaxLength), "{settlement:?}");
        assert_eq!(rig.drain(), ["b"], "{settlement:?}");
    }
}

#[test]
fn what_comes_back_to_a_queue_that_refuses_stays() {
    let mut rig = rig(RejectPublish, Some(1), None);
    rig.publish("a");
    let a = rig.get().expect("ready");
    rig.publish("b");
    assert!(rig.settle(&a, Settlement::Requeue));
    assert!(rig.gone().is_empty());
    assert_eq!(rig.drain(), ["a", "b"]);
}

#[test]
fn a_removed_consumer_does_not_leave_the_queue_over_its_limit() {
    let mut rig = rig(DropHead, Some(2), None);
    let a = rig.consume(|_| ());
    rig.publish_all("1 2 3 4 5");
    rig.assign();
    assert!(rig.gone().is_empty());
    rig.remove(a);
    assert_eq!(rig.gone(), reasons("1 2 3", Reason::MaxLength));
    assert_eq!(rig.drain(), ["4", "5"]);
}

#[test]
fn what_has_expired_makes_room_as_expired() {
    let mut rig = Rig::new(settings(|s| {
        s.length_max = Some(1);
        s.message_ttl_ms = Some(10);
    }));
    rig.publish("a");
    rig.now_ms += 11;
    rig.publish("b");
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
    assert_eq!(rig.drain(), ["b"]);
}

#[test]
fn other_settings_hold_from_the_moment_they_are_changed() {
    let mut rig = Rig::new(settings(|s| s.priority_max = 2));
    for name in ["a", "b", "c"] {
        rig.publish(name);
    }
    let shorter = settings(|s| (s.length_max, s.priority_max) = (Some(1), 5));
    rig.queue.change_settings(0, &shorter, &mut rig.effects);
    let dropped: Vec<_> = rig.effects.removed.iter().map(|removed| removed.reason).collect();
    assert_eq!(dropped, [Reason::MaxLength; 2], "a limit holds at once");
    assert_eq!(rig.queue.settings().priority_max, 2, "what it is built for stays");
    rig.effects.removed.clear();
    let endless = settings(|_| ());
    rig.queue.change_settings(0, &endless, &mut rig.effects);
    rig.publish("d");
    assert!(rig.effects.removed.is_empty(), "and ends at once");
}
