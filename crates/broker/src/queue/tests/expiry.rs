//! Time to live, of messages and of the queue itself.

use super::*;

fn expiring(ms: u64) -> Kind {
    Kind { expiration_ms: Some(ms), ..Kind::default() }
}

#[test]
fn the_shorter_time_to_live_counts() {
    // Time to live of the queue, of the message; when it expires.
    let cases = [
        (None, None, None),
        (Some(50), None, Some(50)),
        (None, Some(20), Some(20)),
        (Some(50), Some(20), Some(20)),
        (Some(20), Some(50), Some(20)),
        (Some(u64::MAX), None, None),
    ];
    for (of_queue, of_message, expected) in cases {
        let mut rig = Rig::new(settings(|s| s.message_ttl_ms = of_queue));
        let has_time = of_queue.is_some() || of_message.is_some();
        rig.publish_kind("a", Kind { expiration_ms: of_message, ..Kind::default() });
        assert_eq!(rig.queue.has_deadlines(), has_time);
        assert_eq!(rig.queue.next_deadline_ms(), expected.map(|ms| 1000 + ms));
        if let Some(ms) = expected {
            rig.now_ms += ms;
            let mut early = rig.now_ms - 1;
            std::mem::swap(&mut early, &mut rig.now_ms);
            rig.tick();
            assert_eq!(rig.ready(), 1, "not a millisecond early");
            rig.now_ms = early;
        } else {
            rig.now_ms += 1 << 40;
        }
        assert_eq!(rig.tick(), Tick::Again(None));
        match expected {
            Some(_) => assert_eq!(rig.gone(), reasons("a", Reason::Expired)),
            None => assert!(rig.gone().is_empty()),
        }
    }
}

#[test]
fn a_time_to_live_of_nothing_is_now_or_never() {
    for (of_queue, kind) in [(Some(0), Kind::default()), (None, expiring(0))] {
        let mut rig = Rig::new(settings(|s| s.message_ttl_ms = of_queue));
        rig.consume(|c| c.prefetch = 1);
        rig.publish_kind("now", kind);
        rig.publish_kind("never", kind);
        assert_eq!(rig.gone(), reasons("never", Reason::Expired), "nobody is ready for it");
        let now = rig.deliver().remove(0);
        assert_eq!(now.name(), "now");
        rig.now_ms += 1;
        rig.settle(&now, Settlement::Requeue);
        assert_eq!(rig.gone(), reasons("now", Reason::Expired), "once given back, it is late");
        assert!(rig.deliver().is_empty());
    }
}

#[test]
fn what_lives_for_no_time_goes_to_who_is_ready_at_that_moment_or_to_nobody() {
    for (of_queue, kind) in [(Some(0), Kind::default()), (None, expiring(0))] {
        let mut rig = Rig::new(settings(|s| s.message_ttl_ms = of_queue));
        rig.publish_kind("a", kind);
        assert!(rig.get().is_none(), "in the same millisecond");
        assert_eq!(rig.gone(), reasons("a", Reason::Expired));
        rig.publish_kind("b", kind);
        rig.consume(|c| c.prefetch = 1);
        assert!(rig.deliver().is_empty(), "the consumer came after it");
        assert_eq!(rig.gone(), reasons("b", Reason::Expired));
        // Given back in the same millisecond, it goes to whoever is ready then.
        rig.publish_kind("c", kind);
        let taken = rig.deliver().remove(0);
        rig.settle(&taken, Settlement::Requeue);
        assert_eq!(rig.deliver().remove(0).name(), "c");
        // More of them than deliveries may wait for dispatch.
        rig.consume(|_| ());
        for _ in 0..2000 {
            rig.publish_kind("d", kind);
        }
        assert_eq!(rig.deliver().len(), 2000);
        assert!(rig.gone().is_empty());
    }
}

#[test]
fn messages_expire_at_the_head_only() {
    let mut rig = Rig::plain();
    rig.publish_kind("1000", expiring(1000));
    rig.publish_kind("10", expiring(10));
    rig.publish("for ever");
    rig.publish_kind("5", expiring(5));
    rig.now_ms += 100;
    assert_eq!(rig.tick(), Tick::Again(Some(2000)));
    assert_eq!(rig.ready(), 4);
    rig.now_ms += 900;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(rig.gone(), reasons("1000 10", Reason::Expired));
    assert_eq!(rig.drain(), ["for ever"]);
    assert_eq!(rig.gone()[0], ("for ever".to_owned(), Reason::AutoAcked));
}

#[test]
fn nobody_gets_what_has_expired_though_no_clock_ticked() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", expiring(10));
    rig.publish_kind("b", expiring(50));
    rig.now_ms += 11;
    assert_eq!(rig.get().map(|d| d.name()), Some("b".to_owned()));
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
    rig.publish_kind("c", expiring(10));
    rig.now_ms += 11;
    rig.consume(|_| ());
    assert!(rig.deliver().is_empty());
    assert_eq!(rig.gone(), reasons("c", Reason::Expired));
}

#[test]
fn what_is_unsettled_does_not_expire() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", expiring(10));
    let a = rig.get().expect("ready");
    rig.now_ms += 100;
    assert_eq!(rig.tick(), Tick::Again(None));
    rig.settle(&a, Settlement::Requeue);
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
}

#[test]
fn a_restart_does_not_give_more_time() {
    let mut rig = Rig::new(settings(|s| s.message_ttl_ms = Some(500)));
    let restored = Restored {
        position: 3,
        published_at_ms: 800,
        expiration_ms: Some(900),
        body_bytes: 1,
        ..Restored::default()
    };
    rig.queue.restore(&restored);
    assert_eq!(rig.queue.next_deadline_ms(), Some(1300));
}

#[test]
fn an_unused_queue_expires() {
    let mut rig = Rig::new(settings(|s| s.expires_ms = Some(100)));
    assert!(rig.queue.has_deadlines());
    // Publishing does not count as use; getting, consuming and redeclaring do.
    rig.now_ms += 60;
    rig.publish_all("a b");
    assert_eq!(rig.tick(), Tick::Again(Some(1100)));
    rig.get().expect("ready");
    assert_eq!(rig.tick(), Tick::Again(Some(1160)));
    rig.now_ms += 60;
    rig.queue.touch(rig.now_ms);
    assert_eq!(rig.tick(), Tick::Again(Some(1220)));
    let consumer = rig.consume(|_| ());
    rig.now_ms += 1000;
    assert_eq!(rig.tick(), Tick::Again(None));
    rig.remove(consumer);
    rig.now_ms += 99;
    assert_eq!(rig.tick(), Tick::Again(Some(rig.now_ms + 1)));
    rig.now_ms += 1;
    assert_eq!(rig.tick(), Tick::QueueExpired);
}
