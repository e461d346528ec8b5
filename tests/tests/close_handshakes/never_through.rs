//! A connection that is over, with a peer that does not hang up: the server ends it.

use crate::{
    close,
    connection::{REFUSED, log_in_blindly, read_refusal},
};
use end_to_end::{
    Broker, broker,
    raw::{Raw, publish},
    shared, skip,
};
use std::{
    io::{ErrorKind, Write},
    time::{Duration, Instant},
};

/// How long a peer that does not hang up may be tolerated.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection that is over, except that the peer has not hung up.
type Over = fn(&Broker) -> Raw;

fn closed(broker: &Broker) -> Raw {
    let mut raw = broker.raw();
    raw.method(0, 10, 50, &close());
    raw.expect(10, 51);
    raw
}

fn refused<const AT: usize>(broker: &Broker) -> Raw {
    let (_, login, code) = &REFUSED[AT];
    let mut raw = log_in_blindly(broker, login);
    if let Some(code) = code {
        read_refusal(&mut raw, *code).expect("a refusal");
    }
    raw
}

/// Does not hang up; returns whether the server ended that.
type Way = fn(&Raw, Instant) -> bool;

/// Nothing for most of the time, then a byte to see whether anybody accepts it.
fn stay_silent(raw: &Raw, start: Instant) -> bool {
    let mut writer = raw.writer();
    std::thread::sleep((LIMIT - Duration::from_millis(500)).saturating_sub(start.elapsed()));
    // The first byte is answered with a reset, which the second one meets.
    let first = writer.write_all(b"x");
    std::thread::sleep(Duration::from_millis(400));
    first.and_then(|()| writer.write_all(b"x")).is_err()
}

fn send_without_end(raw: &Raw, start: Instant) -> bool {
    let mut writer = raw.writer();
    // A peer that does not read must not block this test either.
    writer.set_write_timeout(Some(Duration::from_millis(500))).expect("a write time-out");
    let messages = publish(1, "", "nowhere", b"without end").repeat(100);
    while start.elapsed() < LIMIT {
        match writer.write_all(&messages) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
            Ok(()) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}

#[test]
fn who_does_not_hang_up_is_ended_all_the_same() {
    if broker::is_external() {
        let test = "who_does_not_hang_up_is_ended_all_the_same";
        return skip(test, "RabbitMQ waits 30 seconds");
    }
    let broker = shared();
    let over: [(&str, Over); 4] = [
        ("its own close", closed),
        (REFUSED[0].0, refused::<0>),
        (REFUSED[1].0, refused::<1>),
        (REFUSED[2].0, refused::<2>),
    ];
    let ways: [(&str, Way); 2] = [("silent", stay_silent), ("never through", send_without_end)];
    let broker: &Broker = &broker;
    std::thread::scope(|scope| {
        for (after, over) in over {
            for (how, way) in ways {
                scope.spawn(move || {
                    let raw = over(broker);
                    assert!(way(&raw, Instant::now()), "after {after}, {how}: still there");
                });
            }
        }
    });
}
