//! Both close handshakes: what each method does in each of their states, on the channel
//! (`channel.rs`) and on the connection (`connection.rs`, `never_through.rs`).
//!
//! According to AMQP 0-9-1, a peer that has sent `close` discards everything but `close`, which it
//! answers, and `close-ok`, which ends it. So two closes that cross do no harm.

mod channel;
mod connection;
mod never_through;

use end_to_end::raw::{Args, BODY, Frame, publish};

/// What a client may send on a channel, with the bytes of each.
fn on_channel(channel: u16) -> [(&'static str, Vec<u8>); 8] {
    let method = |class, id, arguments: Args| Frame::method(channel, class, id, &arguments);
    let declare = Args::new().u16(0).short("").u8(0b100).table(&Args::new());
    [
        ("channel.open", method(20, 10, Args::new().short(""))),
        ("channel.close", method(20, 40, close())),
        ("channel.close-ok", method(20, 41, Args::new())),
        ("queue.declare", method(50, 10, declare)),
        ("a whole message", publish(channel, "", "nowhere", b"body")),
        ("a body alone", Frame::encode(BODY, channel, b"body")),
        ("basic.ack", method(60, 80, Args::new().u64(7).u8(0))),
        ("channel.flow", method(20, 20, Args::new().u8(1))),
    ]
}

/// Arguments of a close without an error.
fn close() -> Args {
    Args::new().u16(200).short("bye").u16(0).u16(0)
}

/// A passive declaration of a queue that does not exist, which is an error of the channel.
fn mistake(channel: u16) -> Vec<u8> {
    let arguments = Args::new().u16(0).short("not-there").u8(1).table(&Args::new());
    Frame::method(channel, 50, 10, &arguments)
}
