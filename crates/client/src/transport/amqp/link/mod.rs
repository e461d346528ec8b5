//! One AMQP connection that outlives its sockets: a state machine without IO, clock or thread.
//!
//! Whoever drives a [`Link`] connects a socket whenever [`Link::reconnect_at`] says so, and then
//!
//! 1. tells it what happens: [`connected`](Link::connected), [`received`](Link::received),
//!    [`disconnected`](Link::disconnected), and [`tick`](Link::tick) at [`Link::wake_at`];
//! 2. writes what [`output`](Link::output) holds, and says how much of it was written;
//! 3. passes on the [`events`](Link::events).
//!
//! Commands ([`publish`](Link::publish), [`consume`](Link::consume), [`call`](Link::call),
//! [`settle`](Link::settle)) may come at any time, with a socket or without.
//!
//! ```text
//!          connected           start               tune               open-ok
//!   Down ───────────▶ Greeting ─────▶ LoggingIn ─────────▶ Entering ─────────▶ Open
//!    ▲                                                                          │
//!    └───── end of stream, an error, connection.close, silence, time-out ───────┘
//! ```
//!
//! *Invariants:* what has been published is kept until it is confirmed or refused, and published again
//! under the same message id on the next socket, in the same order. Consumers are there again on the
//! next socket. A delivery of an earlier socket can no longer be settled: the broker has put its message
//! back. Calls are made again: all of them can be repeated. No input makes it panic.

mod calls;
mod consuming;
mod content;
mod frames;
mod handshake;
mod publishing;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use amqp::{FrameKind, Method, write_method};

use self::calls::Calls;
use self::consuming::Consumers;
use self::content::Contents;
use self::publishing::Publishing;

pub(crate) use self::calls::{Call, Reply};
pub(crate) use self::consuming::{Consumer, ConsumerId, Delivery, DeliveryTag, Settlement};
pub(crate) use self::handshake::{Login, Server};
pub(crate) use self::publishing::{Publish, Published};

/// The channel on which everything is published.
const PUBLISHING: u16 = 1;
/// The channel for declarations and the like.
const CALLS: u16 = 2;
/// Consumers have a channel each, from here on.
const CONSUMING: u16 = 3;

/// How long the other side may take for each step of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells a publish or a call apart for their owner.
pub(crate) trait Token {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
}

/// How long a connection that the broker closes must have lasted for the next attempt to be the first.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Times of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// How often a sign of life is sent; twice as much silence ends the connection.
    pub heartbeat: Duration,
    /// The wait before the first attempt to connect again, doubled by each that fails.
    pub reconnect_min: Duration,
    /// The longest wait.
    pub reconnect_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(10),
        }
    }
}

/// The broker's reason for closing a channel or the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Refusal {
    /// AMQP's reply code.
    pub code: u16,
    /// What the broker says.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if self.code == 0 { Ok(()) } else { write!(f, " ({})", self.code) }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Down {
    /// The socket could not be opened, or ended.
    #[error("{0}")]
    Socket(String),
    /// The broker does not let us in.
    #[error("the broker refuses the login: {0}")]
    Login(String),
    /// There is no such virtual host, or the user may not enter it.
    #[error("{0}")]
    VirtualHost(Refusal),
    /// The broker closed the connection.
    #[error("the broker closed the connection: {0}")]
    Closed(Refusal),
    /// Nothing came for too long.
    #[error("the broker has not been heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// What came is not AMQP 0-9-1.
    #[error("the other side does not speak AMQP 0-9-1: {0}")]
    NotAmqp(String),
    /// TLS is wanted, and what came is something else.
    #[error("the other side does not speak TLS")]
    NotTls,
    /// One side does not trust the other; what to do about it is in the text.
    #[error("{0}")]
    Tls(String),
}

/// What a link has to tell.
#[derive(Debug)]
pub(crate) enum Event<P, C> {
    /// There is a connection.
    Up,
    /// There is none any more, or the attempt failed.
    Down(Down),
    /// The broker has what was published, or refuses it.
    Published { token: P, result: Result<Published, Refusal> },
    /// A call has been answered.
    Called { token: C, result: Result<Reply, Refusal> },
    /// A message for a consumer.
    Delivered(Delivery),
    /// A consumer gets nothing more; with the broker's reason, unless it was just cancelled.
    Cancelled { consumer: ConsumerId, why: Option<Refusal> },
    /// The queue of a consumer is not there any more, on a new socket.
    Missing(ConsumerId),
    /// The broker knows that the consumer is gone, and all that it has settled.
    Released(ConsumerId),
    /// The broker takes no messages for now, and why; `None`: it does again.
    Blocked(Option<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Greeting,
    LoggingIn,
    Entering,
    Open,
    /// We have said `connection.close`.
    Closing,
}

/// See the module's documentation. `P` and `C` tell publishes and calls apart for their owner.
pub(crate) struct Link<P, C> {
    login: Login,
    times: Times,
    phase: Phase,
    /// How many sockets there have been.
    epoch: u64,
    server: Option<Server>,
    frame_max: u32,
    channel_max: u16,
    /// Received and not yet taken in.
    input: Vec<u8>,
    output: Vec<u8>,
    events: Vec<Event<P, C>>,
    contents: Contents,
    publishing: Publishing<P>,
    consumers: Consumers,
    calls: Calls<C>,
    /// Why this socket is to be given up.
    failure: Option<Down>,
    heartbeat: Duration,
    heard_at: Instant,
    spoke_at: Instant,
    opened_at: Instant,
    failed_attempts: u32,
    reconnect_at: Instant,
    is_closing: bool,
    /// When we said `connection.close`.
    closing_at: Option<Instant>,
}

impl<P: Token, C: Token> Link<P, C> {
    /// A link that wants to be connected at once.
    pub(crate) fn new(login: Login, times: Times, now: Instant) -> Self {
        Self {
            login,
            times,
            phase: Phase::Down,
            epoch: 0,
            server: None,
            frame_max: amqp::FRAME_MIN_SIZE,
            channel_max: u16::MAX,
            input: Vec::new(),
            output: Vec::new(),
            events: Vec::new(),
            contents: Contents::default(),
            publishing: Publishing::default(),
            consumers: Consumers::default(),
            calls: Calls::default(),
            failure: None,
            heartbeat: Duration::ZERO,
            heard_at: now,
            spoke_at: now,
            opened_at: now,
            failed_attempts: 0,
            reconnect_at: now,
            is_closing: false,
            closing_at: None,
        }
    }

    // What is.

    /// The broker at the other end, once known.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The number of the latest socket.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there is a connection on which messages flow.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// When to open a socket; `None` while there is one, or once the link is closed.
    pub(crate) fn reconnect_at(&self) -> Option<Instant> {
        (self.phase == Phase::Down && !self.is_closing).then_some(self.reconnect_at)
    }

    /// Why the present socket must be given up: close it, and call
    /// [`disconnected`](Self::disconnected).
    pub(crate) fn failure(&self) -> Option<&Down> {
        self.failure.as_ref()
    }

    /// When to call [`tick`](Self::tick) at the latest.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Down => None,
            Phase::Open if self.heartbeat.is_zero() => None,
            Phase::Open => {
                Some((self.spoke_at + self.heartbeat).min(self.heard_at + 2 * self.heartbeat))
            }
            _ => Some(self.closing_at.unwrap_or(self.heard_at) + HANDSHAKE_TIMEOUT),
        }
    }

    /// Whether the link is being closed: no socket is wanted any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    // What happens.

    /// There is a new socket.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.phase = Phase::Greeting;
        self.epoch += 1;
        self.failure = None;
        (self.heard_at, self.spoke_at) = (now, now);
        self.output.clear();
        self.output.extend_from_slice(&amqp::PROTOCOL_HEADER);
    }

    /// The socket could not be opened, or is gone; or it was given up because of
    /// [`failure`](Self::failure).
    pub(crate) fn disconnected(&mut self, why: Down, now: Instant) {
        let was_logging_in = self.phase == Phase::LoggingIn;
        // A broker that lets us in and then closes the connection would do so again at once.
        let lasted = now.saturating_duration_since(self.opened_at);
        let was_closed = matches!(self.failure, Some(Down::Closed(_)));
        let was_good = self.is_open() && (!was_closed || lasted >= STABLE_AFTER);
        self.failed_attempts = if was_good { 0 } else { self.failed_attempts + 1 };
        let doubled = 1_u32 << self.failed_attempts.saturating_sub(1).min(16);
        let delay = self.times.reconnect_min.saturating_mul(doubled).min(self.times.reconnect_max);
        self.reconnect_at = now + delay;
        self.phase = Phase::Down;
        self.input.clear();
        self.output.clear();
        self.contents.clear();
        self.publishing.disconnected();
        // What they brought is back in its queue, and will come again.
        self.events.retain(|event| !matches!(event, Event::Delivered(_)));
        let released = self.consumers.disconnected().into_iter().map(Event::Released);
        self.events.extend(released);
        if let Some(token) = self.calls.disconnected() {
            let text =
                "the connection was lost before the answer; it may have been done".to_owned();
            self.events.push(Event::Called { token, result: Err(Refusal { code: 0, text }) });
        }
        let why = match (self.failure.take(), why) {
            (Some(failure), _) => failure,
            // Old brokers say nothing to those whom they do not let in.
            (None, Down::Socket(why)) if was_logging_in => {
                Down::Socket(format!("{why} while logging in, so user or password may be wrong"))
            }
            (None, why) => why,
        };
        self.events.push(Event::Down(why));
    }

    /// Bytes have come.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) {
        self.heard_at = now;
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut taken = 0;
        while self.failure.is_none() && self.phase != Phase::Down {
            match amqp::decode_frame(&input[taken..], self.frame_max_in()) {
                Ok(Some((frame, bytes))) => {
                    taken += bytes;
                    self.frame(frame.kind, frame.channel, frame.payload);
                }
                Ok(None) => break,
                Err(error) => self.fail(self.not_amqp(&input, &error.to_string())),
            }
        }
        self.input = input;
        self.input.drain(..taken);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.heard_at);
        match self.phase {
            Phase::Down => {}
            Phase::Open if self.heartbeat.is_zero() => {}
            Phase::Open => {
                if silence >= 2 * self.heartbeat {
                    self.fail(Down::Silent(silence));
                } else if now.saturating_duration_since(self.spoke_at) >= self.heartbeat {
                    amqp::write_heartbeat(&mut self.output);
                    // Even if it cannot be written for now: one that waits is enough.
                    self.spoke_at = now;
                }
            }
            Phase::Closing => {
                let since = self.closing_at.get_or_insert(now);
                let silence = now.saturating_duration_since(*since);
                if silence >= HANDSHAKE_TIMEOUT {
                    self.fail(Down::Silent(silence));
                }
            }
            _ if silence >= HANDSHAKE_TIMEOUT => self.fail(Down::Silent(silence)),
            _ => {}
        }
    }

    // What is to be done.

    /// Bytes to write.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes the bytes to write; the owner's buffer takes their place.
    pub(crate) fn take_output(&mut self, buffer: &mut Vec<u8>, now: Instant) {
        buffer.clear();
        std::mem::swap(buffer, &mut self.output);
        if !buffer.is_empty() {
            self.spoke_at = now;
        }
        if self.is_open() {
            self.publish_more();
        }
    }

    /// What is to be told, in order.
    pub(crate) fn take_events(&mut self, events: &mut Vec<Event<P, C>>) {
        events.append(&mut self.events);
    }

    // Commands.

    /// Ends the link: says good-bye if there is a connection. What is not confirmed by then is given
    /// up.
    pub(crate) fn close(&mut self, now: Instant) {
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.closing_at = Some(now);
            let close =
                amqp::ConnectionClose { reply_code: 200, reply_text: "bye", ..Default::default() };
            write_method(&mut self.output, 0, &close.into());
        } else if self.phase != Phase::Down {
            self.fail(Down::Socket("closed".to_owned()));
        }
    }

    /// Gives back what was never confirmed, once the link is closed.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<P> {
        self.publishing.take_all()
    }

    /// Gives back calls that were never answered, once the link is closed.
    pub(crate) fn take_unanswered(&mut self) -> Vec<C> {
        self.calls.take_all()
    }

    // Within.

    fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        write_method(&mut self.output, channel, &method.into());
    }

    fn fail(&mut self, why: Down) {
        self.failure.get_or_insert(why);
    }

    fn frame_max_in(&self) -> u32 {
        // Before `tune`, frames are small; the greeting of a server may list much.
        self.frame_max.max(64 << 10)
    }

    fn not_amqp(&self, input: &[u8], error: &str) -> Down {
        let why = match input {
            [b'A', b'M', b'Q', b'P', ..] => "it wants another version of the protocol",
            // How an alert of TLS begins: the type of the record, the first half of the version.
            [21, 3, ..] => "it speaks TLS, for which the URL begins with amqps://",
            _ => error,
        };
        Down::NotAmqp(why.to_owned())
    }

    fn frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        match kind {
            FrameKind::Heartbeat => {}
            FrameKind::Method => match Method::decode(payload) {
                Ok(method) => self.method(channel, method),
                Err(error) => self.fail(Down::NotAmqp(error.to_string())),
            },
            FrameKind::Header | FrameKind::Body => self.content(kind, channel, payload),
        }
    }
}
