//! A full disk holds publishers, and only them, until there is room again.
//!
//! The data directory is on a tmpfs of a few megabytes; mounting it needs root.

use end_to_end::{
    Broker, Bystander, SmallDisk, eventually,
    raw::{Args, Event, Login, Raw, publish},
};
use std::{fs, time::Duration};

/// A broker on the disk that wants this many bytes free.
fn start(test: &str, disk: &SmallDisk, free_bytes_min: u64) -> Option<Broker> {
    let config = disk.path().join("wilco.toml");
    let text =
        format!("[store]\nsegment_bytes = 1048576\ndisk_free_bytes_min = {free_bytes_min}\n");
    fs::write(&config, text).expect("a file");
    let data = disk.path().join("data");
    Broker::own_with(test, Some(&data), &["--config", config.to_str().expect("a path in UTF-8")])
}

/// Waits for a method on channel 0 and returns what came before.
#[track_caller]
fn await_method(raw: &mut Raw, class: u16, method: u16) {
    let frame = raw.next_frame().expect("a frame");
    assert!(frame.is(class, method), "{frame:?}");
}

#[test]
fn low_disk_holds_publishers_and_nobody_else() {
    let test = "low_disk_holds_publishers_and_nobody_else";
    let Some(disk) = SmallDisk::mount(test, 40) else { return };
    let Some(broker) = start(test, &disk, 8 << 20) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    for n in 0..10 {
        publisher.publish_confirmed(1, "q", n.to_string().as_bytes());
    }
    // A client that did not say it understands `connection.blocked` is held without notice.
    let mut simple = Raw::connect(broker.address());
    simple.login(&Login { capabilities: &[], ..Login::default() }).expect("a handshake");
    simple.open_channel(1);
    simple.confirm_select(1);
    simple.publish_confirmed(1, "q", b"10");

    let filler = disk.filler(35);
    // A publisher learns that it is blocked when that happens, or at its next publish.
    publisher.send(&publish(1, "", "q", b"held"));
    let mut confirmed_early = false;
    let mut frame = publisher.next_frame().expect("a frame");
    while frame.is(60, 80) {
        confirmed_early = true;
        std::thread::sleep(Duration::from_millis(200));
        publisher.send(&publish(1, "", "q", b"held"));
        frame = publisher.next_frame().expect("a frame");
    }
    assert!(frame.is(10, 60), "connection.blocked, not {frame:?}");
    simple.send(&publish(1, "", "q", b"held too"));
    assert!(matches!(publisher.read(Duration::from_millis(300)), Event::Silence));
    assert!(matches!(simple.read(Duration::from_millis(300)), Event::Silence));

    // Consuming, acknowledging and declaring still work.
    let client = broker.client();
    for n in 0..=10 {
        let message = client.get("q").expect("a message");
        assert_eq!(message.data, n.to_string().as_bytes());
        client.ack(&message);
    }
    client.queue("another", Default::default());

    fs::remove_file(filler).expect("the filler goes");
    await_method(&mut publisher, 10, 61);
    await_method(&mut publisher, 60, 80);
    await_method(&mut simple, 60, 80);
    let bodies = client.drain("q");
    assert!(bodies.contains(&"held".to_owned()) && bodies.contains(&"held too".to_owned()));
    assert!(confirmed_early || bodies.len() == 2, "{bodies:?}");
    Bystander::new(&broker).still_works();
}

#[test]
fn full_disk_loses_nothing_that_was_confirmed() {
    let test = "full_disk_loses_nothing_that_was_confirmed";
    let Some(disk) = SmallDisk::mount(test, 24) else { return };
    let Some(mut broker) = start(test, &disk, 0) else { return };
    let filler = disk.filler(10);
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    // One at a time until there is no room: then there is neither a confirm nor an error.
    let body = vec![b'x'; 100_000];
    let mut confirmed = 0;
    let blocked = loop {
        assert!(confirmed < 1000, "the disk does not fill up");
        publisher.send(&publish(1, "", "q", &body));
        match publisher.read(Duration::from_secs(2)) {
            Event::Frame(frame) if frame.is(60, 80) => confirmed += 1,
            Event::Frame(frame) => {
                assert!(frame.is(10, 60), "{frame:?}");
                break true;
            }
            Event::Silence => break false,
            Event::Closed => panic!("the publisher was thrown out"),
        }
    };
    assert!(confirmed > 20, "{confirmed} fitted");
    let client = broker.client();
    assert!(client.ready_count("q") >= confirmed);
    if !blocked {
        let frame = publisher.next_frame().expect("a frame");
        assert!(frame.is(10, 60), "{frame:?}");
    }

    fs::remove_file(filler).expect("the filler goes");
    // The message that was held is confirmed in the end, without any help.
    let mut is_confirmed = false;
    while !is_confirmed {
        let frame = publisher.next_frame().expect("a frame");
        is_confirmed = frame.is(60, 80);
        assert!(is_confirmed || frame.is(10, 61) || frame.is(10, 60), "{frame:?}");
    }
    confirmed += 1;
    drop(client);
    broker.restart();
    let client = broker.client();
    assert_eq!(client.ready_count("q"), confirmed);
    assert!(client.take("q").expect("a message").data == body);
}

#[test]
fn draining_a_full_disk_makes_room_again() {
    let test = "draining_a_full_disk_makes_room_again";
    let Some(disk) = SmallDisk::mount(test, 32) else { return };
    let Some(broker) = start(test, &disk, 6 << 20) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    let body = vec![b'x'; 100_000];
    let mut confirmed = 0;
    loop {
        assert!(confirmed < 1000, "the disk does not fill up");
        publisher.send(&publish(1, "", "q", &body));
        let frame = publisher.next_frame().expect("a frame");
        if frame.is(10, 60) {
            break;
        }
        assert!(frame.is(60, 80), "{frame:?}");
        confirmed += 1;
        // Publishing faster than the disk is checked would only test the end of the disk.
        std::thread::sleep(Duration::from_millis(15));
    }
    let mut consumer = broker.raw();
    consumer.consume(1, "q");
    for tag in 1..=confirmed {
        assert!(consumer.delivery() == body);
        consumer.ack(1, tag, false);
    }
    let mut going_on = false;
    eventually("publishers go on", || {
        match publisher.read(Duration::from_millis(100)) {
            Event::Frame(frame) => going_on |= frame.is(10, 61),
            Event::Silence => {}
            Event::Closed => panic!("the publisher was thrown out"),
        }
        going_on
    });
    consumer.method(1, 60, 10, &Args::new().u32(0).u16(0).u8(0));
    publisher.method(1, 60, 10, &Args::new().u32(0).u16(0).u8(0));
}
