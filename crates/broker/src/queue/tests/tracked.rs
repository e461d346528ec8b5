//! What the effects say about messages whose outcome somebody may ask for.

use super::*;

fn tracked(position: u64) -> Kind {
    Kind { is_tracked: true, position: Some(position), ..Kind::default() }
}

#[test]
fn a_removal_names_who_settled_a_tracked_message_and_how_often_it_was_delivered() {
    let settlements = [
        (Settlement::Ack, Reason::Acked),
        (Settlement::Reject, Reason::Rejected),
        (Settlement::AutoAck, Reason::AutoAcked),
        (Settlement::Requeue, Reason::DeliveryLimit),
    ];
    for (settlement, reason) in settlements {
        for is_tracked in [true, false] {
            let mut rig = Rig::new(settings(|s| s.delivery_limit = Some(1)));
            rig.publish_kind("a", Kind { is_tracked, ..Kind::default() });
            let first = rig.get().expect("ready");
            rig.settle_by(&first, Settlement::Requeue, &worker("first"));
            let second = rig.get().expect("ready");
            rig.settle_by(&second, settlement, &worker("second"));
            let [gone] = &rig.effects.removed[..] else { panic!("it is gone, once") };
            assert_eq!((gone.reason, gone.attempts, gone.is_tracked), (reason, 2, is_tracked));
            let by = gone.by.as_ref().map(|by| &*by.worker);
            assert_eq!(by, is_tracked.then_some("second"));
            let requeued: Vec<_> = rig.effects.requeued.iter().map(Named::name).collect();
            assert_eq!(requeued.is_empty(), !is_tracked);
        }
    }
}

#[test]
fn a_consumer_that_does_not_ack_is_named_by_its_endpoint() {
    // If its body is kept, it is gone once it is assigned, otherwise once it is dispatched.
    for position in [None, Some(9)] {
        let mut rig = Rig::plain();
        let port = Port::with_room(10);
        *port.0.settled_by.borrow_mut() = Some(worker("w"));
        rig.consume_at(port, |c| c.no_ack = true);
        rig.publish_kind("a", Kind { is_tracked: true, position, ..Kind::default() });
        rig.publish_kind("b", Kind { position, ..Kind::default() });
        for delivery in rig.deliver() {
            assert_eq!(delivery.settle_after, position.is_some());
            if delivery.settle_after {
                rig.settle_by(&delivery, Settlement::AutoAck, &worker("w"));
            }
        }
        let gone = rig.effects.removed.iter();
        let gone: Vec<_> =
            gone.map(|gone| (gone.reason, gone.by.as_ref().map(|by| &*by.worker))).collect();
        assert_eq!(gone, [(Reason::AutoAcked, Some("w")), (Reason::AutoAcked, None)]);
        assert_eq!(rig.effects.removed[0].attempts, 1);
    }
}

#[test]
fn what_nobody_settled_names_nobody() {
    let mut rig = Rig::new(settings(|s| {
        s.length_max = Some(2);
        s.message_ttl_ms = Some(50);
    }));
    for name in ["dropped", "expired", "purged"] {
        rig.publish_kind(name, Kind { is_tracked: true, ..Kind::default() });
        rig.now_ms += 10;
    }
    rig.now_ms = 1060;
    rig.tick();
    rig.queue.purge(&mut rig.effects);
    let gone: Vec<_> =
        rig.effects.removed.iter().map(|r| (r.name(), r.reason, r.by.is_some())).collect();
    let expected = [
        ("dropped".to_owned(), Reason::MaxLength, false),
        ("expired".to_owned(), Reason::Expired, false),
        ("purged".to_owned(), Reason::Purged, false),
    ];
    assert_eq!(gone, expected);
}

#[test]
fn every_giving_back_of_a_tracked_message_is_told_and_its_attempts_are_logged() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", tracked(7));
    rig.publish_kind("in memory", Kind { is_tracked: true, ..Kind::default() });
    rig.publish_kind("ordinary", Kind { position: Some(8), ..Kind::default() });
    for _ in 0..2 {
        let held: Vec<_> = (0..3).filter_map(|_| rig.get()).collect();
        held.iter().for_each(|delivery| assert!(rig.settle(delivery, Settlement::Requeue)));
    }
    let held = rig.get().expect("ready");
    rig.settle(&held, Settlement::Undelivered);
    let requeued: Vec<_> = rig.effects.requeued.iter().map(|n| (n.name(), n.attempts)).collect();
    let expected = [("@7", 1), ("in memory", 1), ("@7", 2), ("in memory", 2)];
    assert_eq!(requeued, expected.map(|(name, attempts)| (name.to_owned(), attempts)));
    assert!(rig.effects.requeued.iter().all(|noted| noted.retry_at_ms == 0));
    let attempts = [Attempt { position: 7, count: 1 }, Attempt { position: 7, count: 2 }];
    assert_eq!(rig.effects.attempts, attempts);
}

#[test]
fn a_refused_message_is_as_tracked_as_it_came() {
    for is_tracked in [true, false] {
        let mut rig = Rig::new(settings(|s| {
            s.length_max = Some(0);
            s.overflow = Overflow::RejectPublish;
        }));
        let kind = Kind { is_tracked, deadline_at_ms: 1050, ..Kind::default() };
        assert_eq!(rig.publish_kind("a", kind), Published::Refused);
        let gone = &rig.effects.removed[0];
        assert_eq!((gone.is_tracked, gone.attempts), (is_tracked, 0));
        assert_eq!(rig.effects.special_count, usize::from(is_tracked));
        assert_eq!(rig.queue.next_deadline_ms(), None);
    }
}

#[test]
fn what_is_more_work_than_a_settlement_is_counted() {
    // Whether the queue dead-letters, whether the message is tracked, how it ends; what is counted.
    let cases = [
        (false, false, Settlement::Ack, 0),
        (true, false, Settlement::Ack, 0),
        (false, true, Settlement::Ack, 1),
        (false, false, Settlement::Reject, 0),
        (true, false, Settlement::Reject, 1),
        (true, true, Settlement::Reject, 1),
    ];
    for (dead_letters, is_tracked, settlement, special_count) in cases {
        let mut rig = Rig::new(settings(|s| s.dead_letter = dead_letters.then(dlx)));
        rig.publish_kind("a", Kind { is_tracked, ..Kind::default() });
        let a = rig.get().expect("ready");
        rig.settle(&a, settlement);
        assert_eq!(rig.effects.special_count, special_count);
    }
}

#[test]
fn a_message_that_nobody_works_on_is_cancelled() {
    let mut rig = Rig::new(settings(|s| {
        let arguments =
            QueueArguments { retry_delay_min_ms: Some(1000), ..QueueArguments::default() };
        s.retry = Settings::resolve(&arguments).retry;
    }));
    for position in 1..=4 {
        rig.publish_kind("x", tracked(position));
    }
    let (waiting, _held, settled) = (rig.get(), rig.get(), rig.get().expect("ready"));
    rig.settle(&waiting.expect("ready"), Settlement::Requeue);
    let settled_entry = rig.entry(3);
    rig.settle(&settled, Settlement::Ack);
    rig.gone();
    for (entry, expected) in [
        (rig.entry(1), Some(true)),
        (rig.entry(2), Some(false)),
        (settled_entry, None),
        (rig.entry(4), Some(true)),
        (EntryRef { position: 77, ..rig.entry(2) }, None),
    ] {
        assert_eq!(rig.queue.cancel(entry, &mut rig.effects), expected);
    }
    assert_eq!(rig.gone(), reasons("@1 @4", Reason::Cancelled));
    assert_eq!(rig.counts(), (0, 1, 0));
    assert_eq!(rig.effects.special_count, 3, "an ack and two cancellations");
}

#[test]
fn a_cancelled_message_is_not_sent_on() {
    let mut rig = Rig::plain();
    rig.publish_kind("x", tracked(1));
    let entry = rig.entry(1);
    rig.queue.cancel(entry, &mut rig.effects);
    assert!(rig.queue.settings().dead_letter.is_some() && !rig.effects.removed[0].dead_letter);
    assert_eq!(rig.queue.cancel(entry, &mut rig.effects), None, "it is gone already");
}

#[test]
fn what_waits_for_its_dispatch_is_not_cancelled() {
    let mut rig = Rig::plain();
    let consumer = rig.consume(|_| ());
    rig.publish_kind("x", tracked(1));
    rig.assign();
    let entry = rig.entry(1);
    assert_eq!(rig.queue.cancel(entry, &mut rig.effects), Some(false));
    rig.remove(consumer);
    assert_eq!(rig.queue.cancel(entry, &mut rig.effects), Some(true));
}
