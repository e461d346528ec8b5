//! Deadlines of producers: reported once, and the message stays.

use super::*;

fn due(at_ms: u64) -> Kind {
    Kind { is_tracked: true, deadline_at_ms: at_ms, ..Kind::default() }
}

/// The messages whose deadlines have passed since the last call, and how often they were delivered.
fn missed(rig: &mut Rig) -> Vec<(String, u16)> {
    let missed = rig.effects.missed.drain(..);
    missed.map(|noted| (noted.name(), noted.attempts)).collect()
}

fn named(name: &str, attempts: u16) -> Vec<(String, u16)> {
    vec![(name.to_owned(), attempts)]
}

#[test]
fn a_deadline_is_told_once_and_the_message_stays() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", due(1050));
    rig.publish("b");
    assert!(rig.queue.has_deadlines());
    assert_eq!(rig.queue.next_deadline_ms(), Some(1050));
    rig.now_ms = 1049;
    assert_eq!(rig.tick(), Tick::Again(Some(1050)));
    assert!(rig.effects.is_empty());
    rig.now_ms = 1050;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert!(!rig.effects.is_empty());
    assert_eq!(missed(&mut rig), named("a", 0));
    rig.now_ms = 9000;
    rig.tick();
    assert!(rig.effects.is_empty());
    assert_eq!(rig.drain(), ["a", "b"]);
    let late: Vec<bool> = rig.effects.removed.iter().map(|gone| gone.missed_deadline).collect();
    assert_eq!(late, [true, false]);
}

#[test]
fn whatever_ends_a_late_message_is_marked_so() {
    let settlements = [
        (Settlement::Ack, Reason::Acked),
        (Settlement::AutoAck, Reason::AutoAcked),
        (Settlement::Reject, Reason::Rejected),
    ];
    for (settlement, reason) in settlements {
        for is_late in [true, false] {
            let mut rig = Rig::plain();
            rig.publish_kind("a", due(1050));
            let a = rig.get().expect("ready");
            rig.now_ms = if is_late { 1050 } else { 1049 };
            rig.tick();
            rig.settle(&a, settlement);
            let gone = &rig.effects.removed[0];
            assert_eq!((gone.reason, gone.missed_deadline), (reason, is_late));
            rig.now_ms = 2000;
            rig.tick();
            assert_eq!(missed(&mut rig).len(), usize::from(is_late), "not told of what is settled");
        }
    }
}

#[test]
fn a_message_can_expire_after_its_deadline() {
    // The deadline passes before the other event or together with it, seen in one tick or in two.
    for (deadline_at_ms, looks_ms) in
        [(1050, vec![1050, 1100]), (1050, vec![5000]), (1100, vec![1100])]
    {
        let mut rig = Rig::plain();
        rig.publish_kind("a", Kind { expiration_ms: Some(100), ..due(deadline_at_ms) });
        for at_ms in looks_ms {
            rig.now_ms = at_ms;
            rig.tick();
        }
        assert_eq!(missed(&mut rig), named("a", 0));
        let gone = &rig.effects.removed[0];
        assert_eq!((gone.reason, gone.missed_deadline), (Reason::Expired, true));
    }
}

#[test]
fn a_deadline_after_the_expiry_is_not_told() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", Kind { expiration_ms: Some(100), ..due(1200) });
    rig.now_ms = 1100;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert!(!rig.effects.removed[0].missed_deadline);
    rig.now_ms = 1300;
    rig.tick();
    assert_eq!(missed(&mut rig), []);
}

#[test]
fn deadlines_of_ready_held_and_waiting_messages_are_told() {
    let mut rig = Rig::new(settings(|s| {
        let arguments =
            QueueArguments { retry_delay_min_ms: Some(1000), ..QueueArguments::default() };
        s.retry = Settings::resolve(&arguments).retry;
        s.priority_max = 3;
    }));
    for (name, priority) in [("waiting", 3), ("held", 2), ("settled", 1), ("ready", 0)] {
        rig.publish_kind(name, Kind { priority, ..due(1100 - u64::from(priority)) });
    }
    let [waiting, _held, settled] = [(); 3].map(|()| rig.get().expect("ready"));
    rig.settle(&waiting, Settlement::Requeue);
    rig.settle(&settled, Settlement::Ack);
    rig.now_ms = 1100;
    rig.tick();
    let told = ["waiting", "held", "ready"].map(str::to_owned).into_iter().zip([1, 1, 0]);
    assert_eq!(missed(&mut rig), told.collect::<Vec<_>>());
    assert_eq!(rig.counts(), (1, 1, 1));
}

#[test]
fn a_deadline_stands_before_what_else_the_same_look_finds() {
    let mut rig = Rig::new(settings(|s| {
        s.consumer_timeout_ms = Some(60);
        s.delivery_limit = Some(0);
    }));
    rig.publish_kind("a", due(1050));
    rig.get().expect("ready");
    rig.now_ms = 5000;
    rig.tick();
    assert_eq!(missed(&mut rig), named("a", 1));
    let gone = &rig.effects.removed[0];
    assert_eq!((gone.reason, gone.missed_deadline), (Reason::DeliveryLimit, true));
}

#[test]
fn given_back_after_its_deadline_it_is_not_told_again() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", due(1050));
    let a = rig.get().expect("ready");
    rig.now_ms = 1050;
    rig.tick();
    rig.settle(&a, Settlement::Requeue);
    rig.now_ms = 2000;
    rig.tick();
    assert_eq!(missed(&mut rig), named("a", 1));
    assert_eq!(rig.queue.next_deadline_ms(), None);
}

#[test]
fn a_deadline_that_has_passed_already_is_told_at_the_next_look() {
    let mut rig = Rig::plain();
    rig.publish_kind("a", due(3));
    assert_eq!(rig.queue.next_deadline_ms(), Some(3));
    rig.tick();
    assert_eq!(missed(&mut rig), named("a", 0));
}

#[test]
fn deadlines_of_what_is_gone_are_forgotten() {
    let mut rig = Rig::plain();
    rig.consume(|_| ());
    for number in 0..20_000 {
        // Later messages have earlier deadlines, so that none can be dropped from the front.
        rig.publish_kind("x", due(1_000_000 - number));
        let delivery = rig.deliver().remove(0);
        rig.settle(&delivery, Settlement::Ack);
        rig.effects.removed.clear();
    }
    assert!(rig.queue.deadlines.len() <= 70);
    assert_eq!(rig.queue.next_deadline_ms(), None);
    assert!(rig.queue.deadlines.is_empty());
}

#[test]
fn a_sweep_keeps_the_deadlines_of_what_is_there() {
    let mut rig = Rig::plain();
    for number in 0..100 {
        rig.publish_kind("stays", due(5000 + number));
    }
    for _ in 0..1000 {
        rig.publish_kind("goes", due(9000));
    }
    assert_eq!(rig.queue.deadlines.len(), 1100);
    rig.drain();
    for number in 0..100 {
        rig.publish_kind("stays", due(5000 + number));
    }
    assert!(rig.queue.deadlines.len() <= 264);
    rig.now_ms = 5099;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(missed(&mut rig), vec![("stays".to_owned(), 0); 100]);
}

#[test]
fn purged_and_cleared_messages_have_no_deadline() {
    for is_purged in [true, false] {
        let mut rig = Rig::plain();
        rig.publish_kind("a", due(1050));
        match is_purged {
            true => rig.queue.purge(&mut rig.effects),
            false => rig.queue.clear(&mut rig.effects),
        };
        assert_eq!(rig.queue.next_deadline_ms(), None);
        rig.now_ms = 2000;
        rig.tick();
        assert_eq!(missed(&mut rig), []);
    }
}

#[test]
fn a_restart_keeps_the_deadline_and_that_it_was_told() {
    let tracked = Restored { is_tracked: true, body_bytes: 1, ..Restored::default() };
    let mut rig = Rig::plain();
    rig.queue.restore(&Restored { position: 1, deadline_at_ms: 1050, ..tracked });
    rig.queue.restore(&Restored { position: 2, missed_deadline: true, ..tracked });
    let told = Restored { position: 3, deadline_at_ms: 1040, missed_deadline: true, ..tracked };
    rig.queue.restore(&told);
    rig.queue.restore(&Restored { position: 4, ..tracked });
    rig.queue.restore(&Restored { position: 5, body_bytes: 1, ..Restored::default() });
    let marks: Vec<bool> = rig.standings().iter().map(|s| s.missed_deadline).collect();
    assert_eq!(marks, [false, true, true, false, false]);
    assert_eq!(rig.queue.next_deadline_ms(), Some(1050));
    rig.now_ms = 1050;
    rig.tick();
    assert_eq!(missed(&mut rig), named("@1", 0));
    rig.drain();
    let gone = rig.effects.removed.iter();
    let gone: Vec<_> = gone.map(|gone| (gone.is_tracked, gone.missed_deadline)).collect();
    assert_eq!(gone, [(true, true), (true, true), (true, true), (true, false), (false, false)]);
}
