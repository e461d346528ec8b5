//! Queues with `x-max-priority`.

use super::*;

fn rig(priority_max: u8, change: impl FnOnce(&mut Settings)) -> Rig {
    Rig::new(settings(|s| {
        s.priority_max = priority_max;
        change(s);
    }))
}

/// Publishes messages named by their priority and a letter.
fn publish(rig: &mut Rig, names: &str) {
    for name in names.split(' ') {
        let priority = name.trim_end_matches(char::is_alphabetic).parse().expect("a priority");
        rig.publish_kind(name, Kind { priority, ..Kind::default() });
    }
}

#[test]
fn higher_priority_goes_first_and_order_holds_within() {
    // The queue's highest priority; published; order of delivery.
    let cases = [
        (1, "0a 1b 0c 1d", "1b 1d 0a 0c"),
        (10, "3a 9b 0c 9d 10e 3f", "10e 9b 9d 3a 3f 0c"),
        (255, "0a 255b 128c 64d 63e 1f", "255b 128c 64d 63e 1f 0a"),
        // A priority beyond the highest counts as the highest.
        (2, "2a 200b 1c 2d", "2a 200b 2d 1c"),
        (0, "0a 9b 3c", "0a 9b 3c"),
    ];
    for (priority_max, published, order) in cases {
        let mut rig = rig(priority_max, |_| ());
        publish(&mut rig, published);
        assert_eq!(rig.drain().join(" "), order);
    }
}

#[test]
fn every_priority_has_its_place() {
    for priority_max in 1..=255u8 {
        let mut rig = rig(priority_max, |_| ());
        for priority in 0..=priority_max {
            // Any order of arrival will do.
            let priority = priority.wrapping_mul(37) % priority_max.saturating_add(1).max(1);
            publish(&mut rig, &priority.to_string());
        }
        let mut order: Vec<u8> = rig.drain().iter().map(|n| n.parse().expect("number")).collect();
        let as_delivered = order.clone();
        order.sort_by(|a, b| b.cmp(a));
        assert_eq!(as_delivered, order);
    }
}

#[test]
fn a_requeued_delivery_keeps_its_position_within_its_priority() {
    let mut rig = rig(5, |_| ());
    publish(&mut rig, "1a 5b 1c 5d");
    let held: Vec<_> = (0..3).filter_map(|_| rig.get()).collect();
    for delivery in &held {
        rig.settle(delivery, Settlement::Requeue);
    }
    assert_eq!(rig.drain(), ["5b", "5d", "1a", "1c"]);
}

#[test]
fn time_to_live_counts_at_the_head_of_all() {
    let mut rig = rig(1, |_| ());
    let short = Kind { expiration_ms: Some(10), ..Kind::default() };
    rig.publish_kind("0short", short);
    publish(&mut rig, "1long");
    rig.publish_kind("0shorter", Kind { expiration_ms: Some(5), ..short });
    rig.now_ms += 20;
    assert_eq!(rig.tick(), Tick::Again(None), "what never expires stands in front");
    assert!(rig.gone().is_empty());
    assert_eq!(rig.get().map(|d| d.name()), Some("1long".to_owned()));
    rig.tick();
    assert_eq!(rig.gone(), reasons("0short 0shorter", Reason::Expired));
}

#[test]
fn the_head_that_is_dropped_is_the_highest_priority() {
    let mut rig = rig(3, |s| s.length_max = Some(2));
    publish(&mut rig, "1a 3b 2c");
    assert_eq!(rig.gone(), reasons("3b", Reason::MaxLength));
    publish(&mut rig, "3d");
    assert_eq!(rig.gone(), reasons("3d", Reason::MaxLength));
    assert_eq!(rig.drain(), ["2c", "1a"]);
}

#[test]
fn limits_count_over_all_priorities() {
    let mut rig = rig(3, |s| {
        s.bytes_max = Some(6);
        s.overflow = Overflow::RejectPublish;
    });
    publish(&mut rig, "1a 3b 0c 2d");
    assert_eq!(rig.gone(), reasons("2d", Reason::Refused));
    assert_eq!(rig.queue.purge(&mut rig.effects), 3);
}
