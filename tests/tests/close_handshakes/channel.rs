//! The channel's close handshake: before, during and after it, next to another channel that must
//! not be affected.

use crate::{close, mistake, on_channel};
use end_to_end::{
    Broker, broker,
    raw::{Args, Event, Raw},
    shared,
};
use std::time::Duration;

/// The channel that each case is about; channel 2 is the other one.
const CHANNEL: u16 = 1;

#[derive(Clone, Copy, Debug)]
enum Answer {
    Nothing,
    Method(u16, u16),
    /// An error of the channel.
    Channel(u16),
    /// An error of the connection, by one of these codes.
    Connection(&'static [u16]),
}

use Answer::{Channel, Connection, Method, Nothing};

impl Answer {
    fn is(self, event: &Event) -> bool {
        let Event::Frame(frame) = event else { return false };
        match self {
            Nothing => false,
            Method(class, method) => frame.is(class, method),
            Channel(code) => frame.is(20, 40) && frame.reply_code() == code,
            Connection(codes) => frame.is(10, 50) && codes.contains(&frame.reply_code()),
        }
    }
}

/// Answers to the items of [`on_channel`], in the same order.
type Answers = [Answer; 8];

/// The answer to something harmless that is discarded, where RabbitMQ closes the connection.
fn nothing_or(codes_of_rabbitmq: &'static [u16]) -> Answer {
    if broker::is_external() { Connection(codes_of_rabbitmq) } else { Nothing }
}

fn when_open() -> Answers {
    [
        Connection(&[504]),
        Method(20, 41),
        nothing_or(&[503]), // Nobody asked for a close-ok.
        Method(50, 11),
        Nothing,
        Connection(&[505]),
        Channel(406),
        Method(20, 21),
    ]
}

fn when_closing() -> Answers {
    let (open, body) = (nothing_or(&[504]), nothing_or(&[505]));
    [open, Method(20, 41), Nothing, Nothing, Nothing, body, Nothing, Nothing]
}

fn when_closed() -> Answers {
    let refused = Connection(&[504]);
    let (close_ok, body) = (nothing_or(&[504]), Connection(&[504, 505]));
    [Method(20, 11), refused, close_ok, refused, refused, body, refused, refused]
}

/// A connection whose channels 1 and 2 are open.
fn open(broker: &Broker) -> Raw {
    let mut raw = broker.raw();
    raw.open_channel(2);
    raw
}

/// The server has sent `channel.close`.
fn closing(broker: &Broker) -> Raw {
    let mut raw = open(broker);
    raw.send(&mistake(CHANNEL));
    let close = raw.expect(20, 40);
    assert_eq!((close.channel, close.reply_code()), (CHANNEL, 404));
    raw
}

/// The client has answered it.
fn closed_by_the_server(broker: &Broker) -> Raw {
    let mut raw = closing(broker);
    raw.method(CHANNEL, 20, 41, &Args::new());
    raw
}

fn closed_by_the_client(broker: &Broker) -> Raw {
    let mut raw = open(broker);
    raw.method(CHANNEL, 20, 40, &close());
    raw.expect(20, 41);
    raw
}

fn never_opened(broker: &Broker) -> Raw {
    let mut raw = Raw::connect(broker.address());
    raw.handshake();
    raw.open_channel(2);
    raw
}

/// Sends each item in the state created by `prepare`, and reports which answers were wrong.
/// `afterwards` checks a connection that is still open.
fn check(
    prepare: fn(&Broker) -> Raw,
    answers: Answers,
    afterwards: fn(&mut Raw, &str) -> Result<(), String>,
) {
    let broker = shared();
    let mut wrong = Vec::new();
    for ((what, bytes), expected) in on_channel(CHANNEL).into_iter().zip(answers) {
        let mut raw = prepare(&broker);
        raw.send(&bytes);
        if !matches!(expected, Nothing) {
            let event = raw.read(Duration::from_secs(3));
            if !expected.is(&event) {
                wrong.push(format!("{what}: {} instead of {expected:?}", in_words(&event)));
                continue;
            }
        }
        if matches!(expected, Connection(_)) {
            continue;
        }
        let lives_on = the_other_works(&mut raw).and_then(|()| afterwards(&mut raw, what));
        if let Err(found) = lives_on {
            wrong.push(format!("{what}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The other channel answers, and nothing else comes.
fn the_other_works(raw: &mut Raw) -> Result<(), String> {
    raw.method(2, 60, 10, &Args::new().u32(0).u16(0).u8(0));
    answers(raw, "the other channel", (60, 11))?;
    match raw.read(Duration::from_millis(30)) {
        Event::Silence => Ok(()),
        more => Err(format!("not asked for: {}", in_words(&more))),
    }
}

fn answers(raw: &mut Raw, what: &str, (class, method): (u16, u16)) -> Result<(), String> {
    let event = raw.read(Duration::from_secs(3));
    let is_right = Method(class, method).is(&event);
    is_right.then_some(()).ok_or_else(|| format!("{what}: {}", in_words(&event)))
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Frame(frame) if frame.is(10, 50) || frame.is(20, 40) => frame.reply_text(),
        other => format!("{other:?}"),
    }
}

fn can_be_opened(raw: &mut Raw) -> Result<(), String> {
    raw.method(CHANNEL, 20, 10, &Args::new().short(""));
    answers(raw, "opened again", (20, 11))
}

#[test]
fn open_channel_answers_each_method() {
    check(open, when_open(), |raw, what| match what {
        "channel.close" => can_be_opened(raw),
        "basic.ack" => {
            raw.method(CHANNEL, 20, 41, &Args::new());
            can_be_opened(raw)
        }
        _ => {
            raw.method(CHANNEL, 60, 10, &Args::new().u32(0).u16(0).u8(0));
            answers(raw, "the channel", (60, 11))
        }
    });
}

#[test]
fn closing_channel_answers_close_and_nothing_else_until_close_ok() {
    check(closing, when_closing(), |raw, what| {
        if what != "channel.close-ok" {
            // The channel is still closing: a close is answered, and there is still a close-ok to
            // come.
            raw.method(CHANNEL, 20, 40, &close());
            answers(raw, "another close", (20, 41))?;
            raw.method(CHANNEL, 20, 41, &Args::new());
        }
        can_be_opened(raw)
    });
}

#[test]
fn closed_channel_can_be_opened_and_nothing_else() {
    let prepared: [fn(&Broker) -> Raw; 3] =
        [closed_by_the_server, closed_by_the_client, never_opened];
    for prepare in prepared {
        check(prepare, when_closed(), |raw, what| match what {
            "channel.open" => Ok(()),
            _ => can_be_opened(raw),
        });
    }
}

#[test]
fn a_channel_close_may_cross_the_servers() {
    let broker = shared();
    let mut raw = open(&broker);
    for round in 0..5 {
        raw.send(&mistake(CHANNEL));
        raw.method(CHANNEL, 20, 40, &close());
        raw.expect_channel_close(CHANNEL, 404);
        raw.expect(20, 41);
        let lives_on = the_other_works(&mut raw).and_then(|()| can_be_opened(&mut raw));
        lives_on.unwrap_or_else(|found| panic!("round {round}: {found}"));
    }
}
