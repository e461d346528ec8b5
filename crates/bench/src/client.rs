//! A small blocking AMQP client for load generation.
//!
//! One thread owns a connection: it reads whatever has arrived with one call, and writes as it is
//! told (module [`outgoing`](super::outgoing)). No heartbeats (0 is negotiated), no reconnecting, no
//! buffering of methods that nobody waits for. Socket reads and writes time out after [`WAKE_UP`], so that a stop is noticed.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use amqp::{FieldTable, Frame, FrameKind, Method};
use anyhow::{Context, Result, anyhow, bail};
use rustix::net::RecvFlags;

use super::outgoing::Outgoing;
use super::uri::Uri;

/// The one channel every connection uses.
pub(super) const CHANNEL: u16 = 1;
const WAKE_UP: Duration = Duration::from_millis(200);
/// After a stop, how long to keep writing to a broker that does not read.
const LAST_WRITES: Duration = Duration::from_secs(30);
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 << 10;
const FRAME_MAX: u32 = 128 << 10;

/// An open connection with one open channel.
pub(super) struct Connection {
    stream: TcpStream,
    input: Input,
    frame_max: u32,
}

/// Bytes received and not yet decoded: `bytes[start..end]`.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read left no room.
    was_full: bool,
}

impl Connection {
    /// Connects, logs in and opens [`CHANNEL`].
    pub(super) fn open(uri: &Uri, name: &str) -> Result<Self> {
        let mut connection = Self::handshake(uri, name)
            .with_context(|| format!("cannot open a connection to {uri}"))?;
        connection.call(amqp::ChannelOpen {}, |reply| matches!(reply, Method::ChannelOpenOk(_)))?;
        Ok(connection)
    }

    fn handshake(uri: &Uri, name: &str) -> Result<Self> {
        let addresses = (uri.host.as_str(), uri.port).to_socket_addrs()?;
        let stream = addresses
            .map(|address| TcpStream::connect_timeout(&address, Duration::from_secs(10)))
            .reduce(|first, next| first.or(next))
            .context("the host has no address")??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAKE_UP))?;
        stream.set_write_timeout(Some(WAKE_UP))?;
        let input = Input { bytes: vec![0; 4096], start: 0, end: 0, was_full: false };
        let mut connection = Self { stream, input, frame_max: FRAME_MAX };
        connection.stream.write_all(&amqp::PROTOCOL_HEADER)?;
        connection.expect(0, |reply| matches!(reply, Method::ConnectionStart(_)).then_some(()))?;

        let response = format!("\0{}\0{}", uri.user, uri.password);
        connection.send_method(
            0,
            amqp::ConnectionStartOk {
                client_properties: client_properties(name),
                mechanism: "PLAIN",
                response: response.as_bytes(),
                locale: "en_US",
            },
        )?;
        let (channel_max, frame_max) = connection.expect(0, |reply| match reply {
            Method::ConnectionTune(tune) => Some((tune.channel_max, tune.frame_max)),
            _ => None,
        })?;
        if frame_max != 0 {
            connection.frame_max = frame_max.min(FRAME_MAX);
        }
        let frame_max = connection.frame_max;
        connection
            .send_method(0, amqp::ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 })?;
        connection.send_method(0, amqp::ConnectionOpen { virtual_host: &uri.virtual_host })?;
        connection.expect(0, |reply| matches!(reply, Method::ConnectionOpenOk(_)).then_some(()))?;
        Ok(connection)
    }

    /// The negotiated size of a whole frame.
    pub(super) fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// The socket, to be polled.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a method on [`CHANNEL`] and waits for the reply that `accept` recognises.
    pub(super) fn call<'m>(
        &mut self,
        method: impl Into<Method<'m>>,
        accept: impl Fn(&Method<'_>) -> bool,
    ) -> Result<()> {
        self.ask(method, |reply| accept(reply).then_some(()))
    }

    /// Sends a method on [`CHANNEL`] and waits for the reply that `accept` turns into a value.
    pub(super) fn ask<'m, T>(
        &mut self,
        method: impl Into<Method<'m>>,
        accept: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T> {
        let method = method.into();
        let name = method.name();
        self.send_method(CHANNEL, method)?;
        self.expect(CHANNEL, accept).with_context(|| format!("{name} failed"))
    }

    fn send_method<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Result<()> {
        let mut out = Vec::new();
        amqp::write_method(&mut out, channel, &method.into());
        Ok(self.stream.write_all(&out)?)
    }

    /// Waits for a method, and drops whatever comes before it.
    fn expect<T>(&mut self, channel: u16, accept: impl Fn(&Method<'_>) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + REPLY_TIMEOUT;
        loop {
            while let Some(frame) = self.input.next_frame(self.frame_max)? {
                if frame.kind != FrameKind::Method {
                    continue;
                }
                let method = Method::decode(frame.payload)?;
                check_open(&method)?;
                if frame.channel == channel
                    && let Some(reply) = accept(&method)
                {
                    return Ok(reply);
                }
            }
            if Instant::now() > deadline {
                bail!("no answer within {} s", REPLY_TIMEOUT.as_secs());
            }
            self.receive(true)?;
        }
    }

    /// Reads what has arrived, waiting up to [`WAKE_UP`] for it, or not at all. True if there was
    /// anything.
    pub(super) fn receive(&mut self, wait: bool) -> Result<bool> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match rustix::net::recv(&self.stream, self.input.spare(), flags) {
            Ok((0, _)) => bail!("the broker closed the connection"),
            Ok((count, _)) => {
                self.input.end += count;
                self.input.was_full = self.input.end == self.input.bytes.len();
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Hands every complete frame to `handle`, which sees content and all methods except those
    /// that close: they become errors.
    #[inline]
    pub(super) fn frames(&mut self, mut handle: impl FnMut(Frame<'_>) -> Result<()>) -> Result<()> {
        while let Some(frame) = self.input.next_frame(self.frame_max)? {
            handle(frame)?;
        }
        Ok(())
    }

    /// Writes everything, as [`Connection::send`] does, in as many pieces as it is meant to be.
    pub(super) fn send_all(&mut self, outgoing: &Outgoing, stop: &AtomicBool) -> Result<bool> {
        for piece in outgoing.pieces() {
            if !self.send(piece, stop)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes everything. Once `stop` is set, it does not try forever: it gives up with false, and
    /// the connection is no longer usable. It does try for a while, since what the broker has not
    /// read of one run would be published into the next.
    pub(super) fn send(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        let mut tries_left = LAST_WRITES.as_millis() / WAKE_UP.as_millis();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {
                    if stop.load(Ordering::Relaxed) {
                        if tries_left == 0 {
                            return Ok(false);
                        }
                        tries_left -= 1;
                    }
                }
                Err(error) => return Err(self.why_closed(error)),
            }
        }
        Ok(true)
    }

    /// The reason the broker gave before a write failed, if there is one to read.
    fn why_closed(&mut self, error: io::Error) -> anyhow::Error {
        while let Ok(true) = self.receive(false) {
            while let Ok(Some(frame)) = self.input.next_frame(self.frame_max) {
                if frame.kind == FrameKind::Method
                    && let Ok(method) = Method::decode(frame.payload)
                    && let Err(closed) = check_open(&method)
                {
                    return closed;
                }
            }
        }
        error.into()
    }

    /// Closes in an orderly way; what still arrives is dropped.
    pub(super) fn close(mut self) -> Result<()> {
        let close =
            amqp::ConnectionClose { reply_code: 200, reply_text: "bye", ..Default::default() };
        self.send_method(0, close)?;
        self.expect(0, |reply| matches!(reply, Method::ConnectionCloseOk(_)).then_some(()))
    }
}

impl Input {
    /// Room for the next read. Undecoded bytes move to the front.
    fn spare(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // A buffer that was filled grows, first to its usual size, then as a long frame requires:
        // so idle connections stay small.
        if self.was_full {
            let bytes_max = self.bytes.len();
            if bytes_max < READ_BYTES || self.end * 2 > bytes_max {
                self.bytes.resize((bytes_max * 2).max(READ_BYTES), 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    #[inline]
    fn next_frame(&mut self, frame_max: u32) -> Result<Option<Frame<'_>>> {
        match amqp::decode_frame(&self.bytes[self.start..self.end], frame_max)? {
            Some((frame, taken)) => {
                self.start += taken;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The error that a closing method stands for.
pub(super) fn check_open(method: &Method<'_>) -> Result<()> {
    match method {
        Method::ConnectionClose(close) => {
            Err(anyhow!("the broker closed the connection: {}", close.reply_text))
        }
        Method::ChannelClose(close) => {
            Err(anyhow!("the broker closed the channel: {}", close.reply_text))
        }
        Method::BasicCancel(cancel) => {
            Err(anyhow!("the broker cancelled consumer {}", cancel.consumer_tag))
        }
        _ => Ok(()),
    }
}

fn client_properties(name: &str) -> FieldTable {
    let capabilities: FieldTable = [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ]
    .into_iter()
    .map(|capability| (capability, true))
    .collect();
    let mut properties = FieldTable::new();
    properties.push("product", "wilco bench");
    properties.push("version", env!("CARGO_PKG_VERSION"));
    properties.push("connection_name", name);
    properties.push("capabilities", capabilities);
    properties
}
