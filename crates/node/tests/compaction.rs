//! Segments are deleted when nothing in them is needed, and what little is left in them moves on.

mod rig;

use amqp::{FieldTable, FieldValue};
use node::{Destination, Settlement};
use segment_log::Disk;

use rig::{Rig, bodies};

const SEGMENT_BYTES: u64 = 2048;

fn as_strs(bodies: &[String]) -> Vec<&str> {
    bodies.iter().map(String::as_str).collect()
}

#[test]
fn segments_without_living_messages_are_deleted() {
    let rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("q", &[]);
    for number in 0..100 {
        client.publish("", "q", &as_strs(&bodies("m", number..number + 1)));
        rig.commit();
    }
    assert!(rig.node.segment_count() > 5);
    while let Some(got) = client.get("q") {
        client.ack(&got);
    }
    rig.commit();
    rig.maintain(3);
    assert!(rig.node.segment_count() <= 2, "{} segments", rig.node.segment_count());
}

#[test]
fn an_old_message_in_each_of_many_segments_does_not_keep_them() {
    let mut rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("q", &[]);
    let all = bodies("m", 0..400);
    for one in &all {
        client.publish("", "q", &[one]);
        rig.commit();
    }
    let before = rig.node.segment_count();
    let mut kept = Vec::new();
    for index in 0..all.len() {
        let got = client.get("q").expect("one more");
        match index % 20 {
            7 => kept.push(got),
            _ => client.ack(&got),
        }
    }
    rig.commit();
    rig.maintain(30);
    let after = rig.node.segment_count();
    assert!(before > 20 && after <= 4, "{before} segments, then {after}");
    // Earlier deliveries are settled where the messages are now.
    client.ack(&kept.remove(3));
    client.settle(&kept.remove(0), Settlement::Reject);
    rig.commit();
    let expected: Vec<String> = kept.iter().map(|got| got.body.clone()).collect();
    assert_eq!(expected.len(), 18);
    drop(client);
    for _ in 0..3 {
        rig.crash();
        assert_eq!(rig.client().bodies("q"), expected);
        // And again from their new positions.
        rig.client().publish("", "q", &[]);
        rig.maintain(5);
    }
}

#[test]
fn settlements_that_are_carried_forward_count_once() {
    let rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.declare("other", &[]);
    // A segment in which a few of many messages are alive, so that it stays where it is.
    let first = bodies("m", 0..15);
    client.publish("", "q", &as_strs(&first));
    rig.commit();
    for _ in 0..8 {
        let got = client.get("q").expect("one more");
        client.ack(&got);
    }
    // The settlements are in segments that hold nothing else, and are carried along again and
    // again.
    for round in 0..100 {
        client.publish("", "other", &as_strs(&bodies("o", round..round + 10)));
        rig.commit();
        while let Some(got) = client.get("other") {
            client.ack(&got);
        }
        rig.commit();
        rig.maintain(1);
    }
    assert_eq!(client.bodies("q"), first[8..]);
}

#[test]
fn a_fan_out_that_is_partly_settled_moves_for_those_who_have_it() {
    let mut rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    for queue in ["a", "b", "c"] {
        client.declare(queue, &[]);
        let destination = Destination::queue(queue);
        client.session.bind("amq.fanout", &destination, "", &FieldTable::new()).expect("bound");
    }
    let all = bodies("m", 0..200);
    for one in &all {
        client.publish("amq.fanout", "", &[one]);
        rig.commit();
    }
    for queue in ["a", "b", "c"] {
        for index in 0..all.len() {
            let got = client.get(queue).expect("one more");
            let is_kept = match queue {
                "a" => false,
                "b" => index % 40 == 0,
                _ => index % 40 == 0 || index % 50 == 1,
            };
            if !is_kept {
                client.ack(&got);
            }
        }
    }
    client.session.recover(1).expect("open");
    rig.commit();
    rig.maintain(30);
    assert!(rig.node.segment_count() <= 4, "{} segments", rig.node.segment_count());
    let in_b: Vec<String> = all.iter().step_by(40).cloned().collect();
    let with_index = all.iter().enumerate();
    let in_c = with_index.filter(|(index, _)| index % 40 == 0 || index % 50 == 1);
    let in_c: Vec<String> = in_c.map(|(_, body)| body.clone()).collect();
    for _ in 0..2 {
        let mut client = rig.client();
        assert_eq!(client.bodies("a"), Vec::<String>::new());
        assert_eq!(client.bodies("b"), in_b);
        assert_eq!(client.bodies("c"), in_c);
        drop(client);
        rig.crash();
    }
}

#[test]
fn attempts_survive_compaction_of_the_message_and_of_their_own_segment() {
    let mut rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("counted", &[("x-delivery-limit", FieldValue::I64(9))]);
    client.declare("other", &[]);
    let kept = bodies("kept", 0..12);
    client.publish("", "counted", &as_strs(&kept));
    rig.commit();
    for _ in 0..3 {
        let got = client.get("counted").expect("it is there");
        client.settle(&got, Settlement::Requeue);
        rig.commit();
    }
    // The counts are in a segment that would be deleted at once if they did not matter.
    for round in 0..60 {
        client.publish("", "other", &as_strs(&bodies("o", round..round + 10)));
        rig.commit();
        while let Some(got) = client.get("other") {
            client.ack(&got);
        }
        rig.maintain(1);
    }
    drop(client);
    rig.crash();
    let mut client = rig.client();
    let got = client.get("counted").expect("it is there");
    assert_eq!((got.body.as_str(), got.delivery_count), (kept[0].as_str(), Some(3)));
    client.settle(&got, Settlement::Requeue);
    // Now the message itself moves, because all its neighbours are gone.
    let first = client.get("counted").expect("it is there");
    assert_eq!(first.delivery_count, Some(4));
    while let Some(got) = client.get("counted") {
        client.ack(&got);
    }
    client.settle(&first, Settlement::Requeue);
    for round in 0..60 {
        client.publish("", "other", &as_strs(&bodies("o", round..round + 10)));
        rig.commit();
        while let Some(got) = client.get("other") {
            client.ack(&got);
        }
        rig.maintain(1);
    }
    assert!(rig.node.segment_count() <= 3, "{} segments", rig.node.segment_count());
    drop(client);
    rig.crash();
    let got = rig.client().get("counted").expect("it is there");
    assert_eq!((got.body.as_str(), got.delivery_count), (kept[0].as_str(), Some(5)));
}

#[test]
fn a_log_at_rest_is_not_rewritten_for_ever() {
    let rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("q", &[]);
    let all = bodies("m", 0..600);
    for one in &all {
        client.publish("", "q", &[one]);
        rig.commit();
    }
    // Every other message goes: no segment is mostly dead, and the settlements fill segments.
    for index in 0..all.len() {
        let got = client.get("q").expect("one more");
        if index % 2 == 0 {
            client.ack(&got);
            rig.commit();
        }
    }
    rig.maintain(40);
    let newest = || {
        let names = rig.disk.list().expect("up");
        names.into_iter().filter(|name| name.ends_with(".log")).max()
    };
    let before = newest();
    rig.maintain(40);
    assert_eq!(before, newest(), "segments are written although nobody does anything");
}

#[test]
fn a_full_disk_while_segments_are_emptied_loses_nothing() {
    let mut rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("q", &[]);
    let all = bodies("m", 0..200);
    for one in &all {
        client.publish("", "q", &[one]);
        rig.commit();
    }
    for index in 0..all.len() {
        let got = client.get("q").expect("one more");
        if index % 20 != 0 {
            client.ack(&got);
        }
    }
    rig.commit();
    client.session.recover(1).expect("open");
    let names = rig.disk.list().expect("up");
    let used: usize =
        names.iter().filter_map(|name| rig.disk.contents(name)).map(|c| c.len()).sum();
    rig.disk.set_capacity_bytes(Some(used as u64));
    for _ in 0..5 {
        rig.node.maintain();
        rig.node.commit().expect("a full disk is no failure");
    }
    rig.disk.set_capacity_bytes(None);
    let expected: Vec<String> = all.iter().step_by(20).cloned().collect();
    // One commit writes what found no room; a crash after that must not find the segments gone.
    rig.commit();
    assert_eq!(client.bodies("q"), expected);
    drop(client);
    rig.crash();
    assert_eq!(rig.client().bodies("q"), expected);
    rig.maintain(20);
    assert!(rig.node.segment_count() <= 4, "{} segments", rig.node.segment_count());
    assert_eq!(rig.client().bodies("q"), expected);
}

#[test]
fn after_a_restart_settlements_of_deleted_messages_are_not_carried() {
    let mut rig = Rig::new(SEGMENT_BYTES);
    let mut client = rig.client();
    client.declare("stays", &[]);
    client.declare("q", &[]);
    // A segment that stays, then many that are deleted, then settlements of messages in those and
    // in the first.
    let stays = bodies("s", 0..14);
    client.publish("", "stays", &as_strs(&stays));
    rig.commit();
    for number in 0..120 {
        client.publish("", "q", &as_strs(&bodies("m", number..number + 1)));
        rig.commit();
    }
    for _ in 0..3 {
        let got = client.get("stays").expect("one more");
        client.ack(&got);
    }
    while let Some(got) = client.get("q") {
        client.ack(&got);
        rig.commit();
    }
    client.session.recover(1).expect("open");
    drop(client);
    rig.crash();
    rig.maintain(20);
    assert!(rig.node.segment_count() <= 3, "{} segments", rig.node.segment_count());
    assert_eq!(rig.client().bodies("stays"), stays[3..]);
}

/// Two seconds of a running node: settlements, moves, commits and deletions race each other.
#[test]
fn settlements_that_race_moves_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = node::StoreOptions {
        segment_bytes_max: 8192,
        body_cache_bytes: 0,
        disk_free_bytes_min: 0,
        relaxed: false,
        ..node::StoreOptions::default()
    };
    let data = directory.path().to_owned();
    let options = node::Options { data, store, ..node::Options::default() };
    let living = node::Node::open(options.clone()).expect("an empty directory");
    let client = || {
        let inbox = Box::new(rig::Inbox::default());
        let mut session = living.open_session("/", "guest", inbox).expect("guest may");
        session.open_channel(1).expect("a new channel");
        rig::Client { session }
    };
    let (mut publisher, mut worker) = (client(), client());
    publisher.declare("q", &[]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
    let mut random: u64 = 1;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % bound
    };
    let (mut held, mut published) = (Vec::new(), 0);
    while std::time::Instant::now() < until {
        publisher.publish("", "q", &as_strs(&bodies("m", published..published + 20)));
        published += 20;
        for _ in 0..20 {
            held.push(worker.get("q").expect("just published"));
        }
        // Most at once, some much later.
        while held.len() > 60 {
            let at = if below(50) == 0 { below(held.len()) } else { held.len() - 1 - below(20) };
            let got = held.swap_remove(at);
            worker.ack(&got);
        }
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    while !worker.session.is_settled_in_store().expect("a disk that works") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut expected: Vec<String> = held.into_iter().map(|got| got.body).collect();
    expected.sort();
    drop((publisher, worker));
    living.close();
    drop(living);
    let living = node::Node::open(options).expect("as it was closed");
    let inbox = Box::new(rig::Inbox::default());
    let mut session = living.open_session("/", "guest", inbox).expect("guest may");
    session.open_channel(1).expect("a new channel");
    let mut found = rig::Client { session }.bodies("q");
    found.sort();
    assert_eq!(found, expected, "of {published}");
    living.close();
}
