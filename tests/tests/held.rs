//! What held or unfinished publishers take up: bounded while they live, freed when they are gone.

use end_to_end::{
    Broker, eventually,
    raw::{Args, BODY, Event, Frame, Login, Raw, publish},
    turn,
};
use std::{fs, io::Write, path::Path, time::Duration};

/// The largest piece of a body that fits into one frame.
const PIECE_BYTES: usize = 131_064;
const MIB: usize = 1 << 20;

fn start(test: &str, directory: &Path, config: &str) -> Option<Broker> {
    let file = directory.join("wilco.toml");
    fs::write(&file, config).expect("a file");
    Broker::own_with(test, None, &["--config", file.to_str().expect("a path in UTF-8")])
}

/// A publish whose body lacks its last byte.
fn unfinished(channel: u16, exchange: &str, key: &str, body_bytes: usize) -> Vec<u8> {
    let arguments = Args::new().u16(0).short(exchange).short(key).u8(0);
    let mut bytes = Frame::method(channel, 60, 40, &arguments);
    bytes.extend(Frame::header(channel, body_bytes as u64));
    let mut left = body_bytes - 1;
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        bytes.extend(Frame::encode(BODY, channel, &vec![b'x'; piece]));
        left -= piece;
    }
    bytes
}

/// The same including its last byte.
fn whole(channel: u16, key: &str, body_bytes: usize) -> Vec<u8> {
    let mut bytes = unfinished(channel, "", key, body_bytes);
    bytes.extend(Frame::encode(BODY, channel, b"x"));
    bytes
}

fn select_tx(raw: &mut Raw, channel: u16) {
    raw.method(channel, 90, 10, &Args::new());
    raw.expect(90, 11);
}

/// Whether a message of 16 MiB is accepted, on a channel of its own; otherwise it is too much for
/// now.
fn is_taken(publisher: &mut Raw, channel: u16) -> bool {
    publisher.open_channel(channel);
    publisher.confirm_select(channel);
    publisher.send(&whole(channel, "q", 16 * MIB));
    let frame = publisher.next_frame().expect("a frame");
    if frame.is(60, 80) {
        return true;
    }
    assert!(frame.is(20, 40), "{frame:?}");
    assert_eq!(frame.reply_code(), 311, "{}", frame.reply_text());
    publisher.method(channel, 20, 41, &Args::new());
    false
}

/// How a client dies.
#[derive(Clone, Copy)]
enum Death {
    /// Its machine dies, or a firewall intervenes.
    Reset,
    /// It hangs up when everything it had to send is on its way.
    HangsUp,
}

/// A client that leaves a lot with the broker and is then as good as dead.
fn hoarder(broker: &Broker, in_transaction: bool) -> Raw {
    let mut raw = Raw::connect(broker.address());
    // It is sent nothing more: a socket with unread bytes would not end with a FIN.
    raw.login(&Login { capabilities: &[], ..Login::default() }).expect("a handshake");
    raw.open_channel(1);
    let writer = raw.writer();
    writer.set_write_timeout(Some(Duration::from_secs(1))).expect("a write time-out");
    let mut bytes = Vec::new();
    // A transaction that is too large is dropped as a whole, so these stay below the limit.
    let count = if in_transaction { 4 } else { 7 };
    for channel in 1..=count {
        if in_transaction {
            bytes.extend(whole(1, "q", 16 * MIB));
        } else {
            if channel > 1 {
                raw.open_channel(channel);
            }
            bytes.extend(unfinished(channel, "", "q", 16 * MIB));
        }
    }
    if in_transaction {
        select_tx(&mut raw, 1);
    }
    // Ends early when the broker stops reading.
    let _ = (&writer).write_all(&bytes);
    raw
}

/// Clients with a lot under way take all the memory there is for that, and die.
#[track_caller]
fn leaves_nothing(test: &str, in_transaction: bool, death: Death) {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    // A quarter of it is for what is unfinished, and half of that for one user.
    let config = "[limits]\nmemory_bytes_max = 600000000\n";
    let Some(broker) = start(test, directory.path(), config) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    publisher.publish_confirmed(1, "q", b"before");
    let hoarders: Vec<_> = (0..3).map(|_| hoarder(&broker, in_transaction)).collect();
    let mut channels = 2..;
    let mut next = || channels.next().expect("a channel");
    eventually("there is no more room", || !is_taken(&mut publisher, next()));
    // A publish that needs none of it is unaffected.
    publisher.publish_confirmed(1, "q", b"meanwhile");
    for raw in hoarders {
        match death {
            Death::Reset => raw.reset(),
            Death::HangsUp => drop(raw),
        }
    }
    eventually("there is room again", || is_taken(&mut publisher, next()));
    publisher.publish_confirmed(1, "q", b"afterwards");
}

#[test]
fn unfinished_messages_go_with_a_connection_that_is_reset() {
    let test = "unfinished_messages_go_with_a_connection_that_is_reset";
    leaves_nothing(test, false, Death::Reset);
}

#[test]
fn unfinished_messages_go_with_a_client_that_is_killed() {
    // What it still had to send comes before its end, so only a server that reads on reaches that.
    leaves_nothing("unfinished_messages_go_with_a_client_that_is_killed", false, Death::HangsUp);
}

#[test]
fn open_transactions_go_with_a_connection_that_is_reset() {
    let test = "open_transactions_go_with_a_connection_that_is_reset";
    leaves_nothing(test, true, Death::Reset);
}

#[test]
fn open_transactions_go_with_a_client_that_is_killed() {
    leaves_nothing("open_transactions_go_with_a_client_that_is_killed", true, Death::HangsUp);
}

#[test]
fn held_client_that_hangs_up_is_noticed() {
    let test = "held_client_that_hangs_up_is_noticed";
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[limits]\nmemory_bytes_max = 33554432\n";
    let Some(broker) = start(test, directory.path(), config) else { return };
    // The last client dies with more under way than is read, like a busy publisher.
    let cases = [("reset", Death::Reset), ("ended", Death::HangsUp), ("stuffed", Death::HangsUp)];
    let mut publisher = broker.raw();
    publisher.confirm_select(1);
    for (queue, _) in cases {
        publisher.declare(1, queue);
        publisher.publish_confirmed(1, queue, b"work");
    }
    // More than it may use: publishers are held until the end.
    publisher.declare(1, "filler");
    let mut filler = broker.raw();
    let mut writer = filler.writer();
    writer.set_write_timeout(Some(Duration::from_secs(1))).expect("a write time-out");
    let message = publish(1, "", "filler", &[b'x'; PIECE_BYTES]);
    // A broker that is quick to hold it does not take all of this.
    let _ = (0..400).try_for_each(|_| writer.write_all(&message));
    filler.expect(10, 60);
    let client = broker.client();
    for (queue, death) in cases {
        let mut held = broker.raw();
        held.consume(1, queue);
        assert_eq!(held.delivery(), b"work");
        held.send(&publish(1, "", "nowhere", b"x"));
        let blocked = held.next_frame().expect("a frame");
        assert!(blocked.is(10, 60), "{blocked:?}");
        assert_eq!(client.ready_count(queue), 0);
        if queue == "stuffed" {
            let mut writer = held.writer();
            writer.set_write_timeout(Some(Duration::from_secs(1))).expect("a write time-out");
            let message = publish(1, "", "nowhere", &[b'x'; PIECE_BYTES]);
            while writer.write_all(&message).is_ok() {}
        }
        match death {
            Death::Reset => held.reset(),
            Death::HangsUp => drop(held),
        }
        client.await_ready(queue, 1);
    }
}

#[test]
fn publish_without_permission_is_refused_before_its_body() {
    let test = "publish_without_permission_is_refused_before_its_body";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), "") else { return };
    broker.manage(&["user", "add", "bob", "--password", "secret"]);
    broker.manage(&["permission", "set", "/", "bob", "", "amq\\.topic", ""]);
    let mut bob = Raw::connect(broker.address());
    let login = Login { user: "bob", password: "secret", ..Login::default() };
    bob.login(&login).expect("a handshake");
    let before = broker.resident_mib();
    for channel in 1..=10 {
        bob.open_channel(channel);
        let exchange = if channel % 2 == 0 { "" } else { "amq.direct" };
        bob.send(&unfinished(channel, exchange, "q", 16 * MIB));
        bob.expect_channel_close(channel, 403);
    }
    let after = broker.resident_mib();
    assert!(after < before + 60, "{before} MiB before, {after} MiB after");
    // The rest of a refused body is not an error, and the channel can be opened again.
    bob.open_channel(20);
    bob.confirm_select(20);
    bob.send(&unfinished(20, "", "q", MIB));
    let close = bob.expect(20, 40);
    assert_eq!((close.channel, close.reply_code()), (20, 403), "{}", close.reply_text());
    bob.send(&Frame::encode(BODY, 20, b"x"));
    bob.method(20, 20, 41, &Args::new());
    bob.open_channel(20);
    bob.confirm_select(20);
    bob.send(&publish(20, "amq.topic", "allowed", b"x"));
    bob.expect(60, 80);
}

/// Limits that are small enough to reach at once: a connection may have 4 MiB and one message under
/// way.
const SMALL: &str = "[limits]\nmessage_bytes_max = 2097152\n\
                     connection_unfinished_bytes_max = 4194304\n";

#[test]
fn unfinished_messages_beyond_the_bound_close_their_channel_only() {
    let test = "unfinished_messages_beyond_the_bound_close_their_channel_only";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), SMALL) else { return };
    let mut raw = broker.raw();
    raw.declare(1, "q");
    let mut open = Vec::new();
    for channel in 1..=8 {
        if channel > 1 {
            raw.open_channel(channel);
        }
        raw.confirm_select(channel);
        raw.send(&unfinished(channel, "", "q", 2 * MIB));
        open.push(channel);
        // An answer on another channel shows that everything sent before has been read.
        raw.method(100 + channel, 20, 10, &Args::new().short(""));
        loop {
            let frame = raw.next_frame().expect("a frame");
            if frame.is(20, 11) {
                break;
            }
            assert!(frame.is(20, 40), "{frame:?}");
            assert_eq!(frame.reply_code(), 311, "{}", frame.reply_text());
            raw.method(frame.channel, 20, 41, &Args::new());
            open.retain(|channel| *channel != frame.channel);
        }
    }
    assert!(open.starts_with(&[1, 2]) && open.len() <= 4, "still open: {open:?}");
    for channel in &open {
        raw.send(&Frame::encode(BODY, *channel, b"x"));
        let confirm = raw.expect(60, 80);
        assert_eq!(confirm.channel, *channel);
    }
    assert_eq!(broker.client().ready_count("q") as usize, open.len());
    // What was closed can be used again, now that there is room.
    raw.open_channel(8);
    raw.confirm_select(8);
    raw.send(&whole(8, "q", 2 * MIB));
    raw.expect(60, 80);
}

#[test]
fn unfinished_messages_are_bounded_by_default() {
    let test = "unfinished_messages_are_bounded_by_default";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), "") else { return };
    let mut raw = broker.raw();
    // 128 MiB and one message are nine of these.
    let mut count = 0;
    let close = loop {
        count += 1;
        assert!(count <= 12, "{count} messages of 16 MiB under way");
        raw.open_channel(1 + count);
        raw.send(&unfinished(1 + count, "", "q", 16 * MIB));
        if let Event::Frame(frame) = raw.read(Duration::from_millis(200)) {
            break frame;
        }
    };
    assert!(close.is(20, 40), "{close:?}");
    assert_eq!(close.reply_code(), 311, "{}", close.reply_text());
    assert!(count >= 8, "refused at the {count}th");
}

#[test]
fn one_message_may_be_larger_than_the_bound() {
    let test = "one_message_may_be_larger_than_the_bound";
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[limits]\nconnection_unfinished_bytes_max = 1048576\n";
    let Some(broker) = start(test, directory.path(), config) else { return };
    let mut raw = broker.raw();
    raw.declare(1, "q");
    raw.confirm_select(1);
    for _ in 0..3 {
        raw.send(&whole(1, "q", 8 * MIB));
        raw.expect(60, 80);
    }
}

#[test]
fn transaction_beyond_the_bound_closes_its_channel_only() {
    let test = "transaction_beyond_the_bound_closes_its_channel_only";
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), SMALL) else { return };
    let mut raw = broker.raw();
    raw.declare(1, "q");
    raw.open_channel(2);
    raw.confirm_select(2);
    select_tx(&mut raw, 1);
    for _ in 0..10 {
        raw.send(&whole(1, "q", MIB));
    }
    raw.expect_channel_close(1, 311);
    raw.publish_confirmed(2, "q", b"of the other channel");
    let client = broker.client();
    assert_eq!(client.ready_count("q"), 1, "nothing of the transaction");

    // Neither a rolled-back transaction nor a committed one counts any more.
    raw.open_channel(1);
    select_tx(&mut raw, 1);
    for method in [30, 20, 30, 20] {
        for _ in 0..3 {
            raw.send(&whole(1, "q", MIB));
        }
        raw.method(1, 90, method, &Args::new());
        raw.expect(90, method + 1);
    }
    assert_eq!(client.ready_count("q"), 1 + 2 * 3);
}
