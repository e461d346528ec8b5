//! A confirmed message dies with all its headers, however odd: it is refused when published or
//! passed on byte for byte, but never confirmed and then lost.

use end_to_end::{
    Broker, PATIENCE, Told,
    broker::is_external,
    client::Client,
    eventually, int,
    raw::{Args, Event, Frame, HEADER, Raw, publish_with},
    shared, table, text, unique,
};
use lapin::types::{AMQPValue, FieldTable};

/// How a message dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Rejected,
    Expired,
    DroppedForLength,
    GivenBackTooOften,
}

impl Death {
    /// The queue argument that this needs.
    fn arguments(self) -> Option<(&'static str, AMQPValue)> {
        match self {
            Death::Rejected => None,
            Death::Expired => Some(("x-message-ttl", int(50))),
            Death::DroppedForLength => Some(("x-max-length", int(1))),
            Death::GivenBackTooOften => Some(("x-delivery-limit", int(0))),
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            Death::Rejected | Death::GivenBackTooOften => "failed",
            Death::Expired => "expired",
            Death::DroppedForLength => "dropped",
        }
    }
}

/// A value as it is in a table: its type and its bytes.
fn value(kind: u8, bytes: &[u8]) -> Args {
    Args::new().u8(kind).raw(bytes)
}

/// This many nested tables or arrays; `kinds` alternate from the inside out.
fn nested(depth: usize, kinds: &[u8], innermost: Args) -> Args {
    (0..depth).fold(innermost, |inner, level| {
        let kind = kinds[level % kinds.len()];
        let content = if kind == b'F' { Args::new().short("a") } else { Args::new() };
        Args::new().u8(kind).table(&content.raw(inner.bytes()))
    })
}

/// Values for a header that are deep, of an unknown type, or truncated.
fn odd_values() -> Vec<(String, Args)> {
    let number = || value(b'I', &[0, 0, 0, 1]);
    let mut values = Vec::new();
    for depth in [30, 31, 32, 33, 40, 200] {
        // The table of all headers is another level.
        for kinds in [&b"F"[..], b"A", b"FA"] {
            let name = format!("{depth} times {:?}", String::from_utf8_lossy(kinds));
            values.push((name, nested(depth, kinds, number())));
        }
    }
    let unknown = value(b'?', &[1, 2, 3]);
    values.push(("an unknown type".into(), unknown.clone()));
    values.push(("an unknown type in a table".into(), nested(1, b"F", unknown.clone())));
    values.push(("an unknown type in an array".into(), nested(2, b"AF", unknown)));
    let long = Args::new().u8(b'S').u32(100).raw(b"short");
    values.push(("a cut text".into(), long.clone()));
    values.push(("a cut text in a table".into(), nested(1, b"F", long.clone())));
    values.push(("a cut text deep down".into(), nested(40, b"F", long)));
    values.push(("a cut number".into(), value(b'l', &[1, 2])));
    values.push(("a cut number in an array".into(), nested(1, b"A", value(b'l', &[1, 2]))));
    values.push(("a table without its end".into(), Args::new().u8(b'F').u32(50).raw(b"\x01aI")));
    values.push(("a cut name".into(), Args::new().u8(b'F').table(&Args::new().u8(9).raw(b"a"))));
    values.push(("no type".into(), Args::new()));
    values.push(("a text that is no UTF-8".into(), Args::new().u8(b'S').long(&[0xFF, 0xC0, 0])));
    values
}

/// Properties of a persistent message with `odd` among its headers, before and after plain ones.
fn properties(odd: &Args, tracked: Option<(&str, &str)>) -> Args {
    let mut headers = Args::new().short("first").u8(b'S').long(b"1");
    if tracked.is_some() {
        headers = headers.short("x-notify").u8(b'S').long(b"all");
    }
    // Last, because a truncated value swallows whatever follows it.
    let headers = headers.short("odd").raw(odd.bytes());
    let flags = if tracked.is_some() { 0x3000 | 0x0280 } else { 0x3000 };
    let start = Args::new().u16(flags).table(&headers).u8(2);
    match tracked {
        Some((reply_to, id)) => start.short(reply_to).short(id),
        None => start,
    }
}

/// Publishes and returns whether the message was confirmed. If it is refused, the channel or the
/// connection is closed with a text that says so.
#[track_caller]
fn is_confirmed(broker: &Broker, queue: &str, properties: &Args, case: &str) -> bool {
    let mut raw = broker.raw();
    raw.confirm_select(1);
    raw.send(&publish_with(1, "", queue, b"body", properties));
    let frame = raw.next_frame();
    let Some(frame) = frame else {
        assert!(is_external(), "{case}: hung up without a word");
        return false;
    };
    if frame.is(60, 80) {
        return true;
    }
    assert!(frame.is(10, 50) || frame.is(20, 40) || frame.is(60, 120), "{case}: {frame:?}");
    false
}

/// The bytes of the content header of a message taken from the queue.
fn take_header(raw: &mut Raw, queue: &str) -> Option<Vec<u8>> {
    raw.method(1, 60, 70, &Args::new().u16(0).short(queue).u8(1));
    let answer = raw.next_frame().expect("a frame");
    if answer.is(60, 72) {
        return None;
    }
    assert!(answer.is(60, 71), "{answer:?}");
    let header = raw.next_frame().expect("a content header");
    assert_eq!(header.kind, HEADER);
    let Frame { payload, .. } = raw.next_frame().expect("a body");
    assert_eq!(payload, b"body");
    Some(header.payload)
}

/// Makes the queue's only message die.
fn kill(broker: &Broker, queue: &str, death: Death) {
    match death {
        // Happens by itself.
        Death::Expired => {}
        Death::DroppedForLength => {
            let mut raw = broker.raw();
            raw.confirm_select(1);
            raw.publish_confirmed(1, queue, b"the next one");
        }
        Death::Rejected | Death::GivenBackTooOften => {
            let mut raw = broker.raw();
            raw.consume(1, queue);
            assert_eq!(raw.delivery(), b"body");
            let requeue = u8::from(death == Death::GivenBackTooOften);
            raw.method(1, 60, 90, &Args::new().u64(1).u8(requeue));
            // What was sent has been handled when the connection has been closed in good order.
            raw.method(0, 10, 50, &Args::new().u16(200).short("").u16(0).u16(0));
            while let Event::Frame(_) = raw.read(PATIENCE) {}
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Each odd message is refused, or dies and arrives with its odd header unchanged.
fn nothing_is_lost(death: Death, is_tracked: bool) {
    let broker = shared();
    let client = broker.client();
    for (case, odd) in odd_values() {
        let case = format!("{death:?}, {case}");
        let graveyard = client.queue("graveyard", FieldTable::default());
        let mut arguments = table([
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&graveyard)),
        ]);
        if let Some((name, value)) = death.arguments() {
            arguments.insert(name.into(), value);
        }
        let queue = client.queue("q", arguments);
        let answers = client.queue("answers", FieldTable::default());
        let id = unique("id");
        let tracked = is_tracked.then_some((answers.as_str(), id.as_str()));
        if is_confirmed(&broker, &queue, &properties(&odd, tracked), &case) {
            kill(&broker, &queue, death);
            let mut raw = broker.raw();
            let mut header = None;
            eventually(&format!("{case}: confirmed, and dead-lettered"), || {
                header = take_header(&mut raw, &graveyard);
                header.is_some()
            });
            let header = header.expect("a header");
            assert!(contains(&header, &[b"\x03odd", odd.bytes()].concat()), "{case}: {header:?}");
            assert!(contains(&header, b"\x05firstS"), "{case}: {header:?}");
            assert!(contains(&header, b"\x07x-death"), "{case}: {header:?}");
            if is_tracked {
                is_told(&client, &answers, &id, death, &case);
            }
        } else {
            assert_eq!(client.ready_count(&queue), 0, "{case}: refused, and there");
        }
        for queue in [&queue, &graveyard, &answers] {
            client.delete(queue);
        }
    }
}

#[track_caller]
fn is_told(client: &Client, answers: &str, id: &str, death: Death, case: &str) {
    let told = Told::read(&client.take_soon(answers));
    assert_eq!((told.outcome.as_str(), told.message_id.as_str()), (death.outcome(), id), "{case}");
}

macro_rules! deaths {
    ($($plain:ident, $tracked:ident: $death:ident;)*) => {$(
        #[test]
        fn $plain() {
            nothing_is_lost(Death::$death, false);
        }

        #[test]
        fn $tracked() {
            if !is_external() {
                nothing_is_lost(Death::$death, true);
            }
        }
    )*};
}

deaths! {
    odd_headers_survive_a_reject, odd_headers_and_outcome_survive_a_reject: Rejected;
    odd_headers_survive_expiry, odd_headers_and_outcome_survive_expiry: Expired;
    odd_headers_survive_a_length_limit, odd_headers_and_outcome_survive_a_length_limit: DroppedForLength;
    odd_headers_survive_a_delivery_limit, odd_headers_and_outcome_survive_a_delivery_limit: GivenBackTooOften;
}
