//! The wait between two attempts.

use outcome::DURATION_MS_MAX;

use super::*;
use crate::arguments::RetryKind;

/// `x-retry-delay-min/max`.
fn doubling(min_ms: u64, max_ms: Option<u64>) -> Option<Retry> {
    let arguments = QueueArguments {
        retry_delay_min_ms: Some(min_ms),
        retry_delay_max_ms: max_ms,
        ..QueueArguments::default()
    };
    Settings::resolve(&arguments).retry
}

/// `x-delayed-retry-*`.
fn linear(kind: RetryKind, min_ms: u64, max_ms: Option<u64>) -> Option<Retry> {
    let arguments = QueueArguments {
        delayed_retry: kind,
        delayed_retry_min_ms: Some(min_ms),
        delayed_retry_max_ms: max_ms,
        ..QueueArguments::default()
    };
    Settings::resolve(&arguments).retry
}

/// A queue whose messages always wait this long.
fn rig(wait_ms: u64, change: impl FnOnce(&mut Settings)) -> Rig {
    Rig::new(settings(|s| {
        s.retry = doubling(wait_ms, Some(wait_ms));
        change(s);
    }))
}

/// Publishes a message and lets it fail once.
fn fail(rig: &mut Rig, name: &str, kind: Kind) {
    rig.publish_kind(name, kind);
    fail_again(rig);
}

fn fail_again(rig: &mut Rig) {
    let delivery = rig.get().expect("ready");
    assert!(rig.settle(&delivery, Settlement::Requeue));
}

#[test]
fn a_wait_doubles_from_the_minimum_up_to_the_maximum() {
    // Minimum, maximum, attempts; the shortest and the longest wait.
    let cases = [
        (100, Some(1000), 1, 100, 125),
        (100, Some(1000), 2, 200, 250),
        (100, Some(1000), 3, 400, 500),
        (100, Some(1000), 4, 800, 1000),
        (100, Some(1000), 5, 750, 1000),
        (100, Some(1000), u16::MAX, 750, 1000),
        (1, None, 1, 1, 1),
        (1, None, 3, 4, 5),
        (500, Some(500), 9, 500, 500),
        (90, Some(100), 1, 90, 100),
        (90, Some(100), 2, 90, 100),
        (1, None, 65, DURATION_MS_MAX / 4 * 3, DURATION_MS_MAX),
        (DURATION_MS_MAX, None, u16::MAX, DURATION_MS_MAX, DURATION_MS_MAX),
        // An attempt counter that has wrapped around.
        (100, None, 0, 100, 125),
    ];
    for (min_ms, max_ms, attempts, shortest_ms, longest_ms) in cases {
        let retry = doubling(min_ms, max_ms).expect("a minimum is enough");
        let randoms = (0..5000).chain([u64::MAX, u64::MAX / 3]);
        let waits: Vec<u64> = randoms.map(|random| retry.delay_ms(attempts, random)).collect();
        let bounds = (waits.iter().min().copied(), waits.iter().max().copied());
        if longest_ms < 1 << 20 {
            assert_eq!(bounds, (Some(shortest_ms), Some(longest_ms)), "{min_ms} {attempts}");
        }
        assert!(waits.iter().all(|wait_ms| (shortest_ms..=longest_ms).contains(wait_ms)));
    }
}

#[test]
fn rabbitmqs_wait_is_in_proportion_to_the_deliveries() {
    let cases = [
        (7, Some(20), 1, 7),
        (7, Some(20), 2, 14),
        (7, Some(20), 3, 20),
        (7, Some(20), u16::MAX, 20),
        (7, None, 1000, 7000),
        (0, Some(20), 3, 0),
        (7, Some(3), 1, 3),
        (i64::MAX as u64, None, u16::MAX, DURATION_MS_MAX),
        (i64::MAX as u64, Some(i64::MAX as u64), 1, DURATION_MS_MAX),
    ];
    for (min_ms, max_ms, attempts, wait_ms) in cases {
        let retry = linear(RetryKind::All, min_ms, max_ms).expect("it is on");
        for random in [0, 1, u64::MAX] {
            assert_eq!(retry.delay_ms(attempts, random), wait_ms);
        }
    }
    assert_eq!(linear(RetryKind::Failed, 7, None), linear(RetryKind::All, 7, None));
    assert_eq!(linear(RetryKind::Returned, 7, None), None);
    assert_eq!(linear(RetryKind::Disabled, 7, None), None);
    let no_delay = QueueArguments { delayed_retry: RetryKind::All, ..QueueArguments::default() };
    assert_eq!(Settings::resolve(&no_delay).retry, None);
}

#[test]
fn what_failed_together_does_not_come_back_together() {
    let mut rig = Rig::new(settings(|s| s.retry = doubling(1000, None)));
    for number in 0..100 {
        let kind = Kind { is_tracked: true, position: Some(number), ..Kind::default() };
        rig.publish_kind("x", kind);
    }
    let held: Vec<_> = (0..100).filter_map(|_| rig.get()).collect();
    held.iter().for_each(|delivery| assert!(rig.settle(delivery, Settlement::Requeue)));
    let mut waits: Vec<u64> =
        rig.effects.requeued.iter().map(|noted| noted.retry_at_ms - rig.now_ms).collect();
    waits.sort_unstable();
    assert!(waits[0] >= 1000 && waits[99] <= 1250);
    waits.dedup();
    assert!(waits.len() > 50, "{waits:?}");
}

#[test]
fn a_waiting_message_comes_back_to_its_place_when_its_time_has_come() {
    let mut rig = rig(100, |_| ());
    rig.publish_all("1 2 3 4");
    let held: Vec<_> = (0..3).filter_map(|_| rig.get()).collect();
    rig.settle(&held[1], Settlement::Requeue);
    assert_eq!(rig.counts(), (1, 2, 1));
    assert_eq!(rig.queue.depth().ready_bytes, 1);
    assert_eq!(rig.tick(), Tick::Again(Some(1100)));
    rig.now_ms += 99;
    assert_eq!(rig.tick(), Tick::Again(Some(1100)));
    rig.consume(|_| ());
    assert_eq!(rig.names(), ["4"], "not before its time");
    rig.publish("5");
    rig.settle(&held[0], Settlement::Undelivered);
    rig.now_ms += 1;
    assert_eq!(rig.tick(), Tick::Again(None));
    let again = rig.deliver();
    let seen: Vec<_> = again.iter().map(|d| (d.name(), d.redelivered, d.attempts_before)).collect();
    let expected = [("1", false, 0), ("2", true, 1), ("5", false, 0)];
    assert_eq!(seen, expected.map(|(name, again, before)| (name.to_owned(), again, before)));
    assert!(rig.gone().is_empty());
}

#[test]
fn no_wait_is_back_at_once() {
    let mut rig = Rig::new(settings(|s| s.retry = linear(RetryKind::All, 0, None)));
    fail(&mut rig, "a", Kind { is_tracked: true, ..Kind::default() });
    assert_eq!((rig.counts(), rig.queue.next_deadline_ms()), ((1, 0, 0), None));
    assert_eq!(rig.effects.requeued[0].retry_at_ms, 0);
}

#[test]
fn what_reached_nobody_does_not_wait() {
    let mut rig = rig(100, |_| ());
    rig.publish("a");
    let delivery = rig.get().expect("ready");
    rig.settle(&delivery, Settlement::Undelivered);
    let consumer = rig.consume(|_| ());
    rig.assign();
    rig.remove(consumer);
    assert_eq!(rig.counts(), (1, 0, 0));
}

#[test]
fn a_channel_that_closes_gives_back_many() {
    let mut rig = rig(100, |s| s.length_max = Some(600));
    for _ in 0..1000 {
        rig.publish_kind("x", Kind { is_tracked: true, ..Kind::default() });
    }
    rig.gone();
    let held: Vec<_> = (0..600).filter_map(|_| rig.get()).collect();
    for delivery in held.iter().rev() {
        assert!(rig.settle(delivery, Settlement::Requeue));
        assert!(!rig.settle(delivery, Settlement::Ack), "settled already");
    }
    assert_eq!(rig.counts(), (0, 0, 600));
    assert!(rig.effects.requeued.iter().all(|noted| noted.retry_at_ms == 1100));
    assert_eq!(rig.effects.requeued.len(), 600);
    // Waiting messages do not count against the limit until they are ready again.
    for _ in 0..10 {
        rig.publish("y");
    }
    assert!(rig.gone().is_empty());
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.counts(), (600, 0, 0));
    assert_eq!(rig.gone(), reasons(&["x"; 10].join(" "), Reason::MaxLength));
}

#[test]
fn the_delivery_limit_ends_the_waits() {
    let mut rig = Rig::new(settings(|s| {
        s.retry = doubling(100, Some(100));
        s.delivery_limit = Some(2);
    }));
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    for _ in 0..2 {
        fail_again(&mut rig);
        assert_eq!(rig.counts(), (0, 0, 1));
        rig.now_ms += 100;
        rig.tick();
    }
    fail_again(&mut rig);
    assert_eq!(rig.gone(), reasons("@7", Reason::DeliveryLimit));
    assert_eq!(rig.counts(), (0, 0, 0));
}

#[test]
fn a_restart_ends_a_wait_and_the_next_is_longer() {
    let mut rig = Rig::new(settings(|s| s.retry = linear(RetryKind::All, 10, None)));
    rig.publish_kind("a", Kind { position: Some(7), ..Kind::default() });
    fail_again(&mut rig);
    assert_eq!(rig.effects.attempts, [Attempt { position: 7, count: 1 }], "it is logged");
    let mut rig = Rig::new(Settings::clone(rig.queue.settings()));
    rig.queue.restore(&Restored { position: 7, attempts: 1, ..Restored::default() });
    assert_eq!(rig.counts(), (1, 0, 0));
    fail_again(&mut rig);
    assert_eq!(rig.queue.next_deadline_ms(), Some(1020));
}

#[test]
fn a_waiting_message_expires_on_time_wherever_it_stands() {
    let mut rig = rig(1000, |_| ());
    rig.publish("before");
    rig.publish_kind("a", Kind { expiration_ms: Some(100), ..Kind::default() });
    let (before, a) = (rig.get().expect("ready"), rig.get().expect("ready"));
    rig.settle(&before, Settlement::Undelivered);
    rig.settle(&a, Settlement::Requeue);
    assert_eq!(rig.queue.next_deadline_ms(), Some(1100));
    rig.now_ms += 99;
    rig.tick();
    assert_eq!(rig.counts(), (1, 0, 1));
    rig.now_ms += 1;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
    assert_eq!(rig.counts(), (1, 0, 0));
}

#[test]
fn what_has_expired_while_it_was_worked_on_does_not_wait_any_more() {
    let mut rig = rig(1000, |_| ());
    rig.publish_kind("a", Kind { expiration_ms: Some(10), ..Kind::default() });
    let a = rig.get().expect("ready");
    rig.now_ms += 50;
    rig.settle(&a, Settlement::Requeue);
    assert!(rig.queue.next_deadline_ms().is_some_and(|at_ms| at_ms <= rig.now_ms));
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
}

#[test]
fn a_time_to_live_that_is_longer_than_the_wait_goes_on() {
    let mut rig = rig(100, |_| ());
    fail(&mut rig, "a", Kind { expiration_ms: Some(150), ..Kind::default() });
    rig.now_ms += 100;
    assert_eq!(rig.tick(), Tick::Again(Some(1150)));
    assert_eq!(rig.counts(), (1, 0, 0));
    rig.now_ms += 50;
    rig.tick();
    assert_eq!(rig.gone(), reasons("a", Reason::Expired));
}

#[test]
fn waiting_messages_are_purged_and_cleared() {
    for is_purged in [true, false] {
        let mut rig = rig(100, |_| ());
        rig.publish_all("1 2 3");
        let held: Vec<_> = (0..3).filter_map(|_| rig.get()).collect();
        rig.settle(&held[0], Settlement::Requeue);
        rig.settle(&held[1], Settlement::Requeue);
        rig.publish("4");
        if is_purged {
            assert_eq!(rig.queue.purge(&mut rig.effects), 3);
            assert_eq!(rig.gone(), reasons("1 2 4", Reason::Purged));
            assert_eq!(rig.counts(), (0, 1, 0));
        } else {
            assert_eq!(rig.queue.clear(&mut rig.effects), 3);
            assert_eq!(rig.gone(), reasons("1 2 3 4", Reason::QueueDeleted));
            assert_eq!(rig.counts(), (0, 0, 0));
        }
        assert_eq!(rig.queue.next_deadline_ms(), None);
        assert_eq!(rig.queue.cached_bytes(), if is_purged { held_bytes() } else { 0 });
    }
}

fn held_bytes() -> u64 {
    message("3", Kind::default()).memory_bytes() as u64
}

#[test]
fn places_of_cancelled_waits_stay_bounded() {
    let mut rig = rig(60_000, |_| ());
    for position in 0..10_000 {
        fail(&mut rig, "x", Kind { position: Some(position), ..Kind::default() });
        let entry = rig.entry(position);
        assert_eq!(rig.queue.cancel(entry, &mut rig.effects), Some(true));
    }
    assert!(rig.queue.delayed.len() <= 70);
    rig.now_ms += 60_000;
    assert_eq!(rig.tick(), Tick::Again(None));
    assert_eq!(rig.counts(), (0, 0, 0));
}

#[test]
fn a_timeout_leads_to_a_wait() {
    let mut rig = rig(100, |s| s.consumer_timeout_ms = Some(50));
    rig.consume(|_| ());
    rig.publish_kind("a", Kind { is_tracked: true, ..Kind::default() });
    let late = rig.deliver().remove(0);
    rig.now_ms += 50;
    assert_eq!(rig.tick(), Tick::Again(Some(1150)));
    assert_eq!(rig.counts(), (0, 0, 1));
    let noted = &rig.effects.requeued[0];
    assert_eq!((noted.name().as_str(), noted.attempts, noted.retry_at_ms), ("a", 1, 1150));
    assert!(!rig.settle(&late, Settlement::Ack), "it is nobody's");
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.names(), ["a"]);
}

#[test]
fn a_single_active_consumer_gets_others_meanwhile() {
    let mut rig = rig(100, |s| s.single_active_consumer = true);
    rig.publish_all("1 2");
    let active = rig.consume(|c| c.prefetch = 1);
    let next = rig.consume(|_| ());
    let one = rig.deliver().remove(0);
    assert_eq!(one.consumer, active);
    rig.settle(&one, Settlement::Requeue);
    let two = rig.deliver().remove(0);
    assert_eq!((two.name().as_str(), two.consumer), ("2", active));
    rig.remove(active);
    rig.settle(&two, Settlement::Ack);
    rig.now_ms += 100;
    rig.tick();
    let one = rig.deliver().remove(0);
    assert_eq!((one.name().as_str(), one.consumer, one.attempts_before), ("1", next, 1));
}

#[test]
fn a_waiting_message_lets_less_urgent_ones_pass_and_comes_back_before_them() {
    let mut rig = rig(100, |s| s.priority_max = 200);
    for (name, priority) in [("low", 0), ("high", 200), ("middle", 70)] {
        rig.publish_kind(name, Kind { priority, ..Kind::default() });
    }
    let high = rig.get().expect("ready");
    rig.settle(&high, Settlement::Requeue);
    assert_eq!(rig.get().map(|d| d.name()), Some("middle".to_owned()));
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.drain(), ["high", "low"]);
}

#[test]
fn memory_follows_what_is_there_also_after_waits_that_ended_in_expiry() {
    let mut rig = rig(100, |_| ());
    for _ in 0..5000 {
        fail(&mut rig, "x", Kind { expiration_ms: Some(50), ..Kind::default() });
    }
    rig.now_ms += 50;
    rig.tick();
    assert_eq!(rig.gone().len(), 5000);
    for _ in 0..5000 {
        rig.publish("y");
    }
    let held: Vec<_> = (0..5000).filter_map(|_| rig.get()).collect();
    for (_, delivery) in held.iter().enumerate().filter(|(place, _)| place % 100 > 0) {
        rig.settle(delivery, Settlement::Ack);
    }
    assert!(rig.queue.levels.chunk_count() < 20, "{}", rig.queue.levels.chunk_count());
}

#[test]
fn waiting_messages_survive_the_freeing_of_their_chunks() {
    let mut rig = rig(100, |_| ());
    for number in 0..5000 {
        rig.publish(&number.to_string());
    }
    let held: Vec<_> = (0..5000).filter_map(|_| rig.get()).collect();
    let is_late = |place: usize| place.is_multiple_of(1000);
    for (_, delivery) in held.iter().enumerate().filter(|(place, _)| is_late(*place)) {
        rig.settle(delivery, Settlement::Requeue);
    }
    for (_, delivery) in held.iter().enumerate().filter(|(place, _)| !is_late(*place)) {
        rig.settle(delivery, Settlement::Ack);
    }
    assert!(rig.queue.levels.chunk_count() < 15, "{}", rig.queue.levels.chunk_count());
    assert_eq!(rig.counts(), (0, 0, 5));
    rig.now_ms += 100;
    rig.tick();
    assert_eq!(rig.drain(), ["0", "1000", "2000", "3000", "4000"]);
    assert_eq!(rig.counts(), (0, 0, 0));
}
