//! The connection's close handshake: what either side says last is not lost.
//!
//! Once a close is settled, or a login refused, the server reads on and discards whatever still
//! comes. If it closed its socket over unread bytes, the kernel would send a reset, which overtakes
//! the answer at the peer. It does not wait for ever for the peer to hang up.

use crate::{close, mistake, on_channel};
use end_to_end::{
    Broker,
    raw::{Args, Event, Frame, HEARTBEAT, Login, PROTOCOL_HEADER, Raw, Tune, publish},
    shared,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::Duration,
};

const ROUNDS: u32 = 20;

/// The answer that ends a connection may take the half second of a refused login, or the three
/// seconds that RabbitMQ takes when it says nothing.
const SOON: Duration = Duration::from_secs(5);

/// How a connection ends for a client that reads on.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    /// Not within the given time.
    Open,
    /// There was more to read.
    More,
}

/// Looks at the socket itself: [`Raw`] does not distinguish these ends.
fn end(raw: &Raw, within: Duration) -> End {
    let mut stream = raw.writer();
    stream.set_read_timeout(Some(within)).expect("a read time-out");
    match stream.read(&mut [0; 100]) {
        Ok(0) => End::Fin,
        Ok(_) => End::More,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            End::Open
        }
        Err(_) => End::Reset,
    }
}

/// Messages for a moment, still under way.
fn publish_on(raw: &Raw, times: u32) -> Result<(), String> {
    let messages = publish(1, "", "nowhere", b"under way").repeat(100);
    for _ in 0..times {
        let sent = raw.writer().write_all(&messages);
        sent.map_err(|error| format!("while data was under way: {error}"))?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Sends the handshake up to the login, and what clients may send after it without waiting.
pub(crate) fn log_in_blindly(broker: &Broker, login: &Login<'_>) -> Raw {
    let mut raw = Raw::connect(broker.address());
    raw.send(PROTOCOL_HEADER);
    raw.expect(10, 10);
    raw.start_ok(login);
    raw.tune_ok(Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 });
    raw.connection_open(login.vhost);
    raw.method(1, 20, 10, &Args::new().short(""));
    raw
}

const WRONG_PASSWORD: Login<'static> = Login {
    user: "guest",
    password: "wrong",
    capabilities: &["authentication_failure_close"],
    tune: |tune| tune,
    vhost: "/",
};

const WRONG_PASSWORD_AND_DEAF: Login<'static> = Login { capabilities: &[], ..WRONG_PASSWORD };

const WRONG_HOST: Login<'static> =
    Login { password: "guest", vhost: "no-such-host", ..WRONG_PASSWORD };

/// Logins that are refused, with the code for that.
pub(crate) const REFUSED: [(&str, Login<'static>, Option<u16>); 3] = [
    ("a wrong password", WRONG_PASSWORD, Some(403)),
    ("a wrong password of a client that does not know the answer", WRONG_PASSWORD_AND_DEAF, None),
    ("an unknown virtual host", WRONG_HOST, Some(530)),
];

/// Reads up to the connection.close.
pub(crate) fn read_refusal(raw: &mut Raw, code: u16) -> Result<(), String> {
    loop {
        match raw.read(SOON) {
            Event::Frame(frame) if frame.is(10, 30) => {}
            Event::Frame(frame) if frame.is(10, 50) && frame.reply_code() == code => return Ok(()),
            other => return Err(format!("{other:?} instead of {code}")),
        }
    }
}

#[test]
fn closing_connection_answers_close_and_nothing_else_until_close_ok() {
    let broker = shared();
    for closes in 0..3 {
        let mut raw = broker.raw();
        // Opening the channel a second time is an error of the connection.
        raw.method(1, 20, 10, &Args::new().short(""));
        assert_eq!(raw.expect(10, 50).reply_code(), 504);
        for channel in [1, 2] {
            for (_, bytes) in on_channel(channel) {
                raw.send(&bytes);
            }
            raw.send(&mistake(channel));
        }
        raw.frame(HEARTBEAT, 0, b"");
        assert!(matches!(raw.read(Duration::from_millis(100)), Event::Silence));
        for _ in 0..closes {
            raw.method(0, 10, 50, &close());
            raw.expect(10, 51);
        }
        raw.method(0, 10, 51, &Args::new());
        assert_eq!(end(&raw, Duration::from_secs(1)), End::Fin, "after {closes} closes");
    }
}

#[test]
fn close_ok_reaches_a_client_that_has_data_under_way() {
    let broker = shared();
    let round = || {
        let mut raw = broker.raw();
        let mut bytes = publish(1, "", "nowhere", b"before").repeat(500);
        bytes.extend(Frame::method(0, 10, 50, &close()));
        raw.send(&bytes);
        publish_on(&raw, 5)?;
        match raw.read(SOON) {
            Event::Frame(frame) if frame.is(10, 51) => {}
            other => return Err(format!("{other:?} instead of close-ok")),
        }
        publish_on(&raw, 2)?;
        hang_up(&raw)
    };
    let wrong: Vec<_> = (0..ROUNDS).filter_map(|_| round().err()).collect();
    assert!(wrong.is_empty(), "{} of {ROUNDS}: {wrong:#?}", wrong.len());
}

/// The client is done, and the server agrees.
fn hang_up(raw: &Raw) -> Result<(), String> {
    // After a reset by the server this fails as well.
    let _ = raw.writer().shutdown(Shutdown::Write);
    match end(raw, SOON) {
        End::Fin => Ok(()),
        other => Err(format!("the end is {other:?}")),
    }
}

#[test]
fn refusal_reaches_a_client_that_has_data_under_way() {
    let broker = shared();
    let round = |login, code| {
        let mut raw = log_in_blindly(&broker, login);
        publish_on(&raw, 2)?;
        if let Some(code) = code {
            read_refusal(&mut raw, code)?;
            publish_on(&raw, 2)?;
            raw.method(0, 10, 51, &Args::new());
            publish_on(&raw, 2)?;
        }
        hang_up(&raw)
    };
    let mut wrong = Vec::new();
    for (what, login, code) in &REFUSED {
        let found = (0..3).filter_map(|_| round(login, *code).err());
        wrong.extend(found.map(|found| format!("{what}: {found}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn who_refuses_waits_for_close_ok() {
    let broker = shared();
    for (what, login, code) in &REFUSED {
        let Some(code) = code else { continue };
        let mut raw = log_in_blindly(&broker, login);
        read_refusal(&mut raw, *code).unwrap_or_else(|found| panic!("{what}: {found}"));
        assert_eq!(end(&raw, Duration::from_millis(400)), End::Open, "{what}");
        raw.method(0, 10, 51, &Args::new());
        assert_eq!(end(&raw, Duration::from_secs(1)), End::Fin, "{what}, after close-ok");
    }
}
