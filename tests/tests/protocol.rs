//! Bytes that no well-behaved client sends: each gets its close, and nobody else loses anything.

use end_to_end::{
    Bystander, broker,
    raw::{Args, BODY, Event, Frame, HEADER, HEARTBEAT, METHOD},
    shared, skip, unique,
};
use std::time::Duration;

fn method(class: u16, id: u16, arguments: Args) -> Vec<u8> {
    Frame::method(1, class, id, &arguments)
}

fn qos(channel: u16) -> Vec<u8> {
    Frame::method(channel, 60, 10, &Args::new().u32(0).u16(0).u8(0))
}

fn publish_method(channel: u16) -> Vec<u8> {
    Frame::method(channel, 60, 40, &Args::new().u16(0).short("").short("nowhere").u8(0))
}

fn declare(table: &[u8]) -> Vec<u8> {
    let entries = Args::new().raw(table);
    method(50, 10, Args::new().u16(0).short(&unique("q")).u8(2).table(&entries))
}

/// Sends each case on a connection of its own with channel 1 open and expects connection.close
/// with one of its codes.
fn check(cases: &[(&str, Vec<u8>, &[u16])]) {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let mut wrong = Vec::new();
    for (what, bytes, codes) in cases {
        let mut raw = broker.raw();
        raw.send(bytes);
        match raw.read(Duration::from_secs(3)) {
            Event::Frame(frame) if frame.is(10, 50) && codes.contains(&frame.reply_code()) => {}
            Event::Frame(frame) if frame.is(10, 50) => {
                wrong.push(format!("{what}: {} {}", frame.reply_code(), frame.reply_text()));
            }
            other => wrong.push(format!("{what}: {other:?}")),
        }
        bystander.still_works();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// As [`check`], for what makes RabbitMQ drop the connection silently or with 541.
fn check_stricter(cases: &[(&str, Vec<u8>, &[u16])]) {
    if !broker::is_external() {
        return check(cases);
    }
    let broker = shared();
    for (_, bytes, _) in cases {
        let mut raw = broker.raw();
        raw.send(bytes);
        if let Some(frame) = raw.next_frame() {
            assert_eq!(frame.reply_code(), 541);
        }
    }
}

#[test]
fn malformed_frames_are_frame_errors() {
    let mut bad_end = qos(1);
    *bad_end.last_mut().expect("an end") = 0;
    let mut announced_too_large = vec![BODY, 0, 1];
    announced_too_large.extend(500_000u32.to_be_bytes());
    let mut endless = vec![METHOD, 0, 1];
    endless.extend(u32::MAX.to_be_bytes());
    check(&[
        ("wrong end octet", bad_end, &[501]),
        ("frame larger than negotiated", announced_too_large, &[501]),
        ("frame of four gigabytes", endless, &[501]),
        ("unknown frame type 9", Frame::encode(9, 1, b""), &[501]),
        ("unknown frame type 0", Frame::encode(0, 1, b""), &[501]),
        ("heartbeat with a payload", Frame::encode(HEARTBEAT, 0, b"x"), &[501]),
        ("method frame too short for its ids", Frame::encode(METHOD, 1, b"\0"), &[501]),
        ("arguments cut off", method(50, 10, Args::new().u16(0).u8(32).raw(b"ab")), &[501, 502]),
        ("no arguments", method(50, 10, Args::new()), &[501, 502]),
        ("trailing bytes", method(60, 10, Args::new().u32(0).u16(0).u8(0).u32(7)), &[501, 502]),
        (
            "table longer than its frame",
            method(50, 10, Args::new().u16(0).short("q").u8(2).u32(1000).u8(0)),
            &[501, 502],
        ),
    ]);
}

#[test]
fn frames_in_the_wrong_order_are_unexpected() {
    let after_publish = |bytes: Vec<u8>| [publish_method(1), bytes].concat();
    let other_class = Args::new().u16(50).u16(0).u64(1).u16(0);
    let amid_body = [Frame::header(1, 5), Frame::encode(BODY, 1, b"xyz"), qos(1)].concat();
    check(&[
        ("header without publish", Frame::header(1, 1), &[505]),
        ("body without publish", Frame::encode(BODY, 1, b"x"), &[505]),
        ("method instead of header", after_publish(qos(1)), &[505]),
        ("body instead of header", after_publish(Frame::encode(BODY, 1, b"x")), &[505]),
        (
            "header of another class",
            after_publish(Frame::encode(HEADER, 1, other_class.bytes())),
            &[505],
        ),
        ("method amid a body", after_publish(amid_body), &[505]),
        ("header on channel 0", Frame::header(0, 1), &[505]),
        ("body on channel 0", Frame::encode(BODY, 0, b"x"), &[505]),
        ("header on a channel that is not open", Frame::header(7, 1), &[504, 505]),
        ("body on a channel that is not open", Frame::encode(BODY, 7, b"x"), &[504, 505]),
        ("heartbeat on channel 1", Frame::encode(HEARTBEAT, 1, b""), &[501, 505]),
    ]);
}

#[test]
fn methods_on_the_wrong_channel_are_channel_errors() {
    let content = [publish_method(7), Frame::header(7, 0)].concat();
    let start_ok =
        Args::new().table(&Args::new()).short("PLAIN").long(b"\0guest\0guest").short("en_US");
    let tune_ok = Args::new().u16(0).u32(0).u16(0);
    let open = Args::new().short("/").short("").u8(0);
    check(&[
        ("method on a channel that is not open", qos(7), &[504]),
        ("publish on a channel that is not open", content, &[504]),
        ("channel opened twice", method(20, 10, Args::new().short("")), &[504]),
        ("channel class on channel 0", Frame::method(0, 20, 10, &Args::new().short("")), &[504]),
        ("basic class on channel 0", qos(0), &[504]),
        ("start-ok once more", Frame::method(0, 10, 11, &start_ok), &[504]),
        ("tune-ok once more", Frame::method(0, 10, 31, &tune_ok), &[504]),
        ("open once more", Frame::method(0, 10, 40, &open), &[504]),
        ("close-ok unasked for", Frame::method(0, 10, 51, &Args::new()), &[504]),
    ]);
}

#[test]
fn methods_only_a_server_sends_are_invalid() {
    let declare_ok = Args::new().short("q").u32(0).u32(0);
    let close = Args::new().u16(200).short("").u16(0).u16(0);
    check(&[
        ("declare-ok", method(50, 11, declare_ok), &[503]),
        ("connection class on channel 1", method(10, 50, close), &[503]),
    ]);
}

#[test]
fn what_is_not_implemented_says_so() {
    check(&[
        ("prefetch in bytes", method(60, 10, Args::new().u32(1).u16(1).u8(0)), &[540]),
        ("flow turned off by the client", method(20, 20, Args::new().u8(0)), &[540]),
    ]);
}

#[test]
fn unknown_methods_and_bad_contents_get_a_code() {
    let mut deep = Vec::new();
    for _ in 0..2000 {
        deep = Args::new().short("").u8(b'F').long(&deep).bytes().to_vec();
    }
    let header = |rest: Args| {
        let header = Args::new().u16(60).u16(0).u64(1).raw(rest.bytes());
        [publish_method(1), Frame::encode(HEADER, 1, header.bytes()), Frame::encode(BODY, 1, b"x")]
            .concat()
    };
    let no_fields = header(Args::new().u16(0xF000));
    let cut_short_string = header(Args::new().u16(0x8000).u8(255).raw(b"ab"));
    check_stricter(&[
        ("unknown class", method(99, 10, Args::new()), &[503, 540]),
        ("unknown method", method(60, 99, Args::new()), &[503, 540]),
        ("unknown method of the connection", Frame::method(0, 10, 99, &Args::new()), &[503, 540]),
        ("unknown type of a table's value", declare(b"\x01a?\0\0\0\0"), &[501, 502]),
        ("table's value cut off", declare(b"\x01aS\0\0\0\x50x"), &[501, 502]),
        ("properties announced and not there", no_fields, &[501, 502]),
        ("property cut off", cut_short_string, &[501, 502]),
    ]);
    // RabbitMQ accepts tables of any depth.
    if !broker::is_external() {
        let broker = shared();
        let mut bystander = Bystander::new(&broker);
        let mut raw = broker.raw();
        raw.send(&declare(&deep));
        let frame = raw.next_frame();
        let right = frame.is_some_and(|frame| frame.is(50, 11) || frame.is(10, 50));
        assert!(right, "a deep table is taken or refused");
        bystander.still_works();
    }
}

#[test]
fn body_longer_than_its_header_says_is_refused() {
    if broker::is_external() {
        let test = "body_longer_than_its_header_says_is_refused";
        return skip(test, "RabbitMQ waits for ever");
    }
    let content = [publish_method(1), Frame::header(1, 1), Frame::encode(BODY, 1, b"xyz")];
    check(&[("three bytes for one", content.concat(), &[501, 505])]);
}

#[test]
fn content_on_a_channel_being_closed_is_ignored() {
    let broker = shared();
    let mut raw = broker.raw();
    let missing = Args::new().u16(0).short(&unique("missing")).u8(1).table(&Args::new());
    let mut bytes = method(50, 10, missing);
    for _ in 0..3 {
        bytes.extend(
            [publish_method(1), Frame::header(1, 1), Frame::encode(BODY, 1, b"x")].concat(),
        );
        bytes.extend(qos(1));
    }
    raw.send(&bytes);
    raw.expect_channel_close(1, 404);
    raw.open_channel(1);
    raw.send(&qos(1));
    raw.expect(60, 11);
}

#[test]
fn closing_is_answered() {
    let broker = shared();
    let mut raw = broker.raw();
    let close = Args::new().u16(200).short("bye").u16(0).u16(0);
    raw.method(1, 20, 40, &close);
    raw.expect(20, 41);
    raw.open_channel(1);
    raw.method(0, 10, 50, &close);
    raw.expect(10, 51);
}

#[test]
fn small_methods_are_answered() {
    let broker = shared();
    let mut raw = broker.raw();
    raw.method(1, 20, 20, &Args::new().u8(1));
    assert_eq!(raw.expect(20, 21).fields().u8(), 1, "flow on");
    raw.method(1, 30, 10, &Args::new().short("/data").u8(0));
    raw.expect(30, 11);
    raw.method(0, 10, 70, &Args::new().long(b"guest").short("renewed"));
    raw.expect(10, 71);
}

#[test]
fn nowait_is_not_answered() {
    let broker = shared();
    let mut raw = broker.raw();
    let queue = unique("q");
    let table = Args::new();
    raw.method(1, 50, 10, &Args::new().u16(0).short(&queue).u8(0b10010).table(&table));
    let bind = Args::new().u16(0).short(&queue).short("amq.direct").short(&queue).u8(1);
    raw.method(1, 50, 20, &bind.table(&table));
    raw.method(1, 85, 10, &Args::new().u8(1));
    let consume = Args::new().u16(0).short(&queue).short("tag").u8(0b1000).table(&table);
    raw.method(1, 60, 20, &consume);
    raw.send(&end_to_end::raw::publish(1, "amq.direct", &queue, b"m"));
    // Only the delivery and the confirm come, in either order.
    let first = raw.next_frame().expect("a frame");
    if first.is(60, 80) {
        assert_eq!(raw.delivery(), b"m");
    } else {
        assert!(first.is(60, 60), "{first:?}");
        assert_eq!(raw.content(), b"m");
        raw.expect(60, 80);
    }
    raw.method(1, 60, 30, &Args::new().short("tag").u8(1));
    raw.method(1, 50, 40, &Args::new().u16(0).short(&queue).u8(0b100));
    raw.send(&qos(1));
    raw.expect(60, 11);
}
