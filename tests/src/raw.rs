//! AMQP 0-9-1 by hand over a TCP socket, for what a well-behaved client would never send.
//!
//! It owns one blocking socket. Reads are bounded by [`PATIENCE`]; a write to a connection that the
//! broker has closed already is not an error, since the close is what the tests look for.

mod wire;

pub use wire::{Args, Fields, Frame, Frames, publish, publish_with};

use crate::PATIENCE;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

/// The header a client opens with.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// Frame type of a method.
pub const METHOD: u8 = 1;
/// Frame type of a content header.
pub const HEADER: u8 = 2;
/// Frame type of a content body.
pub const BODY: u8 = 3;
/// Frame type of a heartbeat.
pub const HEARTBEAT: u8 = 8;

/// A socket and what has been read from it so far.
pub struct Raw {
    stream: TcpStream,
    frames: Frames,
}

/// The result of a bounded read.
#[derive(Debug)]
pub enum Event {
    /// A complete frame.
    Frame(Frame),
    /// The broker closed the socket.
    Closed,
    /// Nothing within the given time.
    Silence,
}

/// A connection.tune's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tune {
    /// The highest channel number.
    pub channel_max: u16,
    /// The largest frame in bytes, all included.
    pub frame_max: u32,
    /// Heartbeat interval in seconds.
    pub heartbeat: u16,
}

/// How a client introduces itself.
pub struct Login<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The client's capabilities that are true.
    pub capabilities: &'a [&'a str],
    /// Changes to what the broker proposed.
    pub tune: fn(Tune) -> Tune,
    /// The virtual host.
    pub vhost: &'a str,
}

impl Default for Login<'_> {
    fn default() -> Self {
        Login {
            user: "guest",
            password: "guest",
            capabilities: &[
                "publisher_confirms",
                "basic.nack",
                "consumer_cancel_notify",
                "connection.blocked",
                "authentication_failure_close",
            ],
            tune: |tune| Tune { heartbeat: 0, ..tune },
            vhost: "/",
        }
    }
}

impl Raw {
    /// Opens the socket, nothing more.
    pub fn connect(address: &str) -> Raw {
        Self::try_connect(address).expect("a TCP connection")
    }

    /// As [`Raw::connect`], from an address of this machine: on Linux these are all of 127.0.0.0/8.
    #[track_caller]
    pub fn connect_from(address: &str, source: Ipv4Addr) -> Raw {
        let stream = crate::client::connect_from(address, source).expect("a TCP connection");
        Raw { stream, frames: Frames::default() }
    }

    /// As [`Raw::connect`], when nobody may be listening.
    pub fn try_connect(address: &str) -> std::io::Result<Raw> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream, frames: Frames::default() })
    }

    /// The whole handshake as guest on the default virtual host.
    #[track_caller]
    pub fn handshake(&mut self) -> Tune {
        self.login(&Login::default()).expect("a handshake")
    }

    /// The handshake; on error, the frame that came instead, or `None` for a closed socket.
    pub fn login(&mut self, login: &Login<'_>) -> Result<Tune, Option<Frame>> {
        self.send(PROTOCOL_HEADER);
        self.answer(10, 10)?;
        self.start_ok(login);
        let tune = self.answer(10, 30)?;
        let mut fields = tune.fields();
        let proposed =
            Tune { channel_max: fields.u16(), frame_max: fields.u32(), heartbeat: fields.u16() };
        self.tune_ok((login.tune)(proposed));
        self.connection_open(login.vhost);
        self.answer(10, 41)?;
        Ok(proposed)
    }

    /// connection.start-ok with PLAIN.
    pub fn start_ok(&mut self, login: &Login<'_>) {
        let capabilities = login
            .capabilities
            .iter()
            .fold(Args::new(), |table, name| table.short(name).u8(b't').u8(1));
        let properties = Args::new().short("capabilities").u8(b'F').table(&capabilities);
        let arguments = Args::new()
            .table(&properties)
            .short("PLAIN")
            .long(format!("\0{}\0{}", login.user, login.password).as_bytes())
            .short("en_US");
        self.method(0, 10, 11, &arguments);
    }

    /// connection.tune-ok.
    pub fn tune_ok(&mut self, tune: Tune) {
        let arguments = Args::new().u16(tune.channel_max).u32(tune.frame_max).u16(tune.heartbeat);
        self.method(0, 10, 31, &arguments);
    }

    /// connection.open.
    pub fn connection_open(&mut self, vhost: &str) {
        self.method(0, 10, 40, &Args::new().short(vhost).short("").u8(0));
    }

    /// The `version` in the server's properties.
    pub fn server_version(&mut self) -> String {
        self.send(PROTOCOL_HEADER);
        let start = self.expect(10, 10);
        let mark = b"\x07versionS";
        let at = start.payload.windows(mark.len()).position(|window| window == mark);
        let length = at.map(|at| at + mark.len()).expect("a version");
        let text = &start.payload[length..];
        let bytes = u32::from_be_bytes([text[0], text[1], text[2], text[3]]) as usize;
        String::from_utf8_lossy(&text[4..4 + bytes]).into_owned()
    }

    /// Opens a channel and waits for the answer.
    #[track_caller]
    pub fn open_channel(&mut self, channel: u16) {
        self.method(channel, 20, 10, &Args::new().short(""));
        self.expect(20, 11);
    }

    /// Declares a durable queue and waits for the answer.
    #[track_caller]
    pub fn declare(&mut self, channel: u16, queue: &str) {
        let arguments = Args::new().u16(0).short(queue).u8(0b10).table(&Args::new());
        self.method(channel, 50, 10, &arguments);
        self.expect(50, 11);
    }

    /// Turns on confirms and waits for the answer.
    #[track_caller]
    pub fn confirm_select(&mut self, channel: u16) {
        self.method(channel, 85, 10, &Args::new().u8(0));
        self.expect(85, 11);
    }

    /// Starts a consumer with manual acknowledgement and waits for the answer.
    #[track_caller]
    pub fn consume(&mut self, channel: u16, queue: &str) {
        let arguments = Args::new().u16(0).short(queue).short("").u8(0).table(&Args::new());
        self.method(channel, 60, 20, &arguments);
        self.expect(60, 21);
    }

    /// Acknowledges.
    pub fn ack(&mut self, channel: u16, tag: u64, multiple: bool) {
        self.method(channel, 60, 80, &Args::new().u64(tag).u8(multiple.into()));
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // What matters is what the broker does next; reading shows whether the socket is closed.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.send(&Frame::encode(kind, channel, payload));
    }

    /// Sends a method.
    pub fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &Args) {
        self.send(&Frame::method(channel, class, method, arguments));
    }

    /// Reads until there is something to report or `within` has passed.
    pub fn read(&mut self, within: Duration) -> Event {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = self.frames.cut() {
                return Event::Frame(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Event::Silence;
            }
            self.stream.set_read_timeout(Some(left)).expect("a read time-out");
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Event::Closed,
                Ok(count) => self.frames.push(&chunk[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Event::Closed,
            }
        }
    }

    /// The next frame that is not a heartbeat; `None` when the socket is closed.
    #[track_caller]
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.read(PATIENCE) {
                Event::Frame(frame) if frame.kind == HEARTBEAT => {}
                Event::Frame(frame) => return Some(frame),
                Event::Closed => return None,
                Event::Silence => panic!("the broker says nothing"),
            }
        }
    }

    /// The next frame, which must be this method.
    #[track_caller]
    pub fn expect(&mut self, class: u16, method: u16) -> Frame {
        match self.answer(class, method) {
            Ok(frame) => frame,
            Err(other) => panic!("expected method {class}.{method}, got {other:?}"),
        }
    }

    #[track_caller]
    fn answer(&mut self, class: u16, method: u16) -> Result<Frame, Option<Frame>> {
        match self.next_frame() {
            Some(frame) if frame.is(class, method) => Ok(frame),
            other => Err(other),
        }
    }

    /// The next frame must be connection.close; answers it and returns code and text.
    #[track_caller]
    pub fn expect_connection_close(&mut self) -> (u16, String) {
        let close = self.expect(10, 50);
        self.method(0, 10, 51, &Args::new());
        (close.reply_code(), close.reply_text())
    }

    /// The next frame must be channel.close on this channel with this code; answers it.
    #[track_caller]
    pub fn expect_channel_close(&mut self, channel: u16, code: u16) {
        let close = self.expect(20, 40);
        assert_eq!((close.channel, close.reply_code()), (channel, code), "{}", close.reply_text());
        self.method(channel, 20, 41, &Args::new());
    }

    /// Only the end of the stream may come.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(frame) = self.next_frame() {
            panic!("expected the socket to be closed, got {frame:?}");
        }
    }

    /// Whatever comes, the connection must end; a connection.close on the way is returned.
    #[track_caller]
    pub fn ends(&mut self) -> Option<Frame> {
        let mut close = None;
        while let Some(frame) = self.next_frame() {
            if frame.is(10, 50) {
                self.method(0, 10, 51, &Args::new());
                close = Some(frame);
            }
        }
        close
    }

    /// Publishes a persistent message and waits for its confirm.
    #[track_caller]
    pub fn publish_confirmed(&mut self, channel: u16, key: &str, body: &[u8]) {
        self.send(&publish(channel, "", key, body));
        self.expect(60, 80);
    }

    /// The next frames must be a delivery; returns its body.
    #[track_caller]
    pub fn delivery(&mut self) -> Vec<u8> {
        self.expect(60, 60);
        self.content()
    }

    /// The next frames must be a content header and the body it announces.
    #[track_caller]
    pub fn content(&mut self) -> Vec<u8> {
        let header = self.next_frame().expect("a content header");
        assert_eq!(header.kind, HEADER, "{header:?}");
        let size = header.fields().u64() as usize;
        let mut body = Vec::new();
        while body.len() < size {
            let frame = self.next_frame().expect("a body frame");
            assert_eq!(frame.kind, BODY, "{frame:?}");
            body.extend(frame.payload);
        }
        body
    }

    /// The remaining bytes, up to the end of the stream.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.frames).into_bytes();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
                Err(error) => panic!("the socket was not closed: {error}"),
            }
        }
    }

    /// Ends the connection as a crashed machine or a firewall does: RST, no FIN.
    pub fn reset(self) {
        crate::client::reset(self.stream);
    }

    /// A second handle on the socket, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a second handle")
    }
}
