//! One connection after its handshake, as a hand-written future.
//!
//! A turn: say what has become durable, write the outbox, read once, take in every complete frame,
//! flush the session, write again. After [`READS_PER_TURN`] it lets others run. It sleeps until the
//! socket is ready, the outbox is woken, or a heartbeat is due.
//!
//! ```text
//!            error of ours                     close-ok, or time-out
//!   Open ─────────────────────▶ Closing ─────────────────────────────▶ Closed
//!     │  client's close                        its close-ok is written
//!     └───────────────────────▶ Leaving ─────────────────────────────▶
//! ```

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use amqp::{
    ChannelClose, ConnectionBlocked, ConnectionUnblocked, Method, write_heartbeat, write_method,
};
use node::{BrokerError, Outbox, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::content::Content;
use crate::dispatch::Fault;
use crate::handshake::{Greeted, close_method, short};
use crate::heartbeat::{Beat, Heartbeat};
use crate::listener::Shared;
use crate::reading;
use crate::wire::SocketWire;

/// Reads before others get their turn.
const READS_PER_TURN: usize = 2;
/// How long a peer may take to answer our `connection.close`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of replies that may wait to be written.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Memory for kept bytes that an idle connection may hold on to.
const KEPT_BYTES: usize = 4 << 10;

/// See the diagram above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Closing,
    Leaving,
    Closed,
}

/// See the module's documentation.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    pub(crate) session: Session,
    outbox: Arc<Outbox>,
    pub(crate) phase: Phase,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    /// Channels that wait for their close-ok.
    pub(crate) closing_channels: HashSet<u16>,
    /// Messages that come in pieces.
    pub(crate) contents: HashMap<u16, Content>,
    /// The queue last declared on each channel.
    pub(crate) last_queues: HashMap<u16, String>,
    /// Bytes read and not yet taken in.
    kept: Vec<u8>,
    /// `kept` may hold complete frames.
    has_frames: bool,
    /// Frames on their way into the socket, and how far.
    writing: Vec<u8>,
    written: usize,
    /// Room in the outbox that `writing` takes.
    writing_room: usize,
    /// The client has asked for more than it reads; nothing is taken in until it has read.
    pub(crate) has_unread_replies: bool,
    /// A reply that waits for the store, and for what position.
    held_reply: Option<(u64, Vec<u8>)>,
    heartbeat: Heartbeat,
    close_timer: Option<Pin<Box<Sleep>>>,
    knows_blocked: bool,
    was_told_blocked: bool,
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        shared: Arc<Shared>,
        greeted: Greeted,
    ) -> Self {
        Self {
            stream,
            peer,
            shared,
            outbox: Arc::clone(greeted.session.outbox()),
            session: greeted.session,
            phase: Phase::Open,
            channel_max: greeted.channel_max,
            frame_max: greeted.frame_max,
            closing_channels: HashSet::new(),
            contents: HashMap::new(),
            last_queues: HashMap::new(),
            has_frames: !greeted.rest.is_empty(),
            kept: greeted.rest,
            writing: Vec::new(),
            written: 0,
            writing_room: 0,
            has_unread_replies: false,
            held_reply: None,
            heartbeat: Heartbeat::new(greeted.heartbeat_s),
            close_timer: None,
            knows_blocked: greeted.knows_blocked,
            was_told_blocked: false,
        }
    }

    /// Puts a reply on the wire, or holds it until the store is as far as it must be.
    pub(crate) fn reply(&mut self, channel: u16, method: &Method<'_>) {
        match self.session.barrier() {
            Some(position) => {
                let mut frame = Vec::new();
                write_method(&mut frame, channel, method);
                self.held_reply = Some((position, frame));
            }
            None => self.outbox.send(channel, method),
        }
    }

    /// Whether the next frame may be taken in.
    pub(crate) fn may_take_in(&self) -> bool {
        self.held_reply.is_none()
            && !self.has_unread_replies
            && matches!(self.phase, Phase::Open | Phase::Closing)
    }

    /// Carries out what was gathered; errors close their channels.
    pub(crate) fn flush(&mut self) {
        for (channel, error) in self.session.flush() {
            self.fault(channel, &Fault { error, ids: (60, 80) });
        }
    }

    /// An error: closes the channel or the connection, as its code says.
    pub(crate) fn fault(&mut self, channel: u16, fault: &Fault) {
        let Fault { error, ids } = fault;
        if channel == 0 || error.reply_code().closes_connection() {
            self.fail(error, *ids);
            return;
        }
        if self.phase != Phase::Open || !self.session.has_channel(channel) {
            return;
        }
        let text = error.reply_text();
        tracing::info!(peer = %self.peer, channel, "channel closed: {text}");
        self.contents.remove(&channel);
        self.last_queues.remove(&channel);
        self.session.close_channel(channel);
        self.closing_channels.insert(channel);
        self.outbox.send(
            channel,
            &Method::ChannelClose(ChannelClose {
                reply_code: error.reply_code().code(),
                reply_text: short(&text),
                class_id: ids.0,
                method_id: ids.1,
            }),
        );
    }

    /// An error of the whole connection.
    pub(crate) fn fail(&mut self, error: &BrokerError, ids: (u16, u16)) {
        if self.phase != Phase::Open {
            return;
        }
        let text = error.reply_text();
        tracing::info!(peer = %self.peer, "connection closed: {text}");
        self.phase = Phase::Closing;
        self.session.close();
        self.contents.clear();
        self.held_reply = None;
        self.outbox.send(0, &close_method(error.reply_code(), &text, ids));
        self.close_timer = Some(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
    }

    /// One turn; `Ready` when the connection is over, `Ok(true)` inside to go on at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.outbox.register(cx.waker());
        self.outbox.take_dirty();
        // Room may have come back without a write.
        self.session.after_write(0);
        let mut reads = 0;
        loop {
            self.look_at_store();
            if std::mem::take(&mut self.has_frames) {
                self.take_in_kept();
            }
            self.session.release_confirms();
            self.tell_blocked();
            let is_written = self.poll_write(cx)?.is_ready();
            if self.phase == Phase::Closed || (self.phase == Phase::Leaving && is_written) {
                return Poll::Ready(Ok(()));
            }
            if self.has_frames {
                continue;
            }
            if is_written && std::mem::take(&mut self.has_unread_replies) {
                self.has_frames = !self.kept.is_empty();
            }
            if self.has_frames {
                continue;
            }
            // Deliveries are bounded by the room they reserve. Replies are bounded by this: whoever
            // does not read them is not read either.
            let reads_on = self.may_read() && (is_written || !self.is_choked());
            self.poll_timers(cx, reads_on);
            let is_read = reads_on && self.poll_read(cx)?.is_ready();
            if self.phase == Phase::Closed {
                return Poll::Ready(Ok(()));
            }
            reads += usize::from(is_read);
            if reads >= READS_PER_TURN {
                // What was read may have caused something to write; the next turn begins with it.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !is_read && !self.outbox.take_dirty() {
                return Poll::Pending;
            }
        }
    }

    /// A held reply may go; a stopping server says goodbye.
    fn look_at_store(&mut self) {
        if self.phase == Phase::Open && self.shared.is_stopping.load(Ordering::Acquire) {
            self.say_goodbye();
        }
        let Some((position, frame)) = &self.held_reply else { return };
        match self.session.is_durable(*position) {
            Ok(false) => {}
            Ok(true) => {
                self.outbox.with_wire::<SocketWire, _>(|wire, _| wire.append(frame));
                self.held_reply = None;
                self.has_frames = !self.kept.is_empty();
            }
            Err(error) => self.fail(&error, (0, 0)),
        }
    }

    /// What was taken in is made durable and confirmed, then the peer is told.
    fn say_goodbye(&mut self) {
        self.flush();
        match self.session.is_settled_in_store() {
            Ok(false) => {}
            Ok(true) | Err(_) => {
                self.session.release_confirms();
                let text = "broker forced connection closure with reason 'shutdown'";
                self.fail(&BrokerError::connection_forced(text), (0, 0));
            }
        }
    }

    /// Whether more replies wait to be written than a client should leave lying.
    pub(crate) fn is_choked(&self) -> bool {
        let waiting = self.outbox.with_wire::<SocketWire, _>(|wire, room| (wire.len(), *room));
        let (bytes, room) = waiting.unwrap_or_default();
        let bytes = bytes + self.writing.len() - self.written;
        bytes.saturating_sub(room + self.writing_room) > REPLY_BYTES_MAX
    }

    fn may_read(&mut self) -> bool {
        match self.phase {
            Phase::Open => {
                self.held_reply.is_none()
                    && !self.has_unread_replies
                    && (self.contents.is_empty() || !self.session.node().holds_publishers())
                    && !self.shared.is_stopping.load(Ordering::Acquire)
                    && !self.session.is_held()
                    && !self.session.must_pause()
            }
            Phase::Closing => true,
            Phase::Leaving | Phase::Closed => false,
        }
    }

    /// Reads once and takes in what is complete.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        let kept = std::mem::take(&mut self.kept);
        reading::with_buffer(&kept, |buffer| {
            let mut free = ReadBuf::new(&mut buffer[kept.len()..]);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut free);
            let read_bytes = free.filled().len();
            match read {
                Poll::Ready(Ok(())) if read_bytes == 0 => {
                    self.phase = Phase::Closed;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => {}
                other => {
                    self.kept.extend_from_slice(&kept);
                    return other;
                }
            }
            self.heartbeat.received();
            let input = &buffer[..kept.len() + read_bytes];
            let taken = self.take_in(input);
            self.kept.extend_from_slice(&input[taken..]);
            Poll::Ready(Ok(()))
        })
    }

    fn take_in_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let taken = self.take_in(&kept);
        self.kept.extend_from_slice(&kept[taken..]);
    }

    /// Writes the outbox as far as the socket takes it; ready when all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                let writing = &mut self.writing;
                let taken = self.outbox.with_wire::<SocketWire, _>(|wire, room| {
                    wire.take(writing);
                    std::mem::take(room)
                });
                self.writing_room = taken.unwrap_or(0);
                if self.writing.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            let left = &self.writing[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            self.heartbeat.sent();
            self.written += count;
            if self.written == self.writing.len() {
                self.session.after_write(std::mem::take(&mut self.writing_room));
                if self.writing.capacity() > KEPT_BYTES && self.writing.len() < KEPT_BYTES / 4 {
                    self.writing = Vec::new();
                    self.written = 0;
                }
            }
        }
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>, listens: bool) {
        if let Some(timer) = &mut self.close_timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.phase = Phase::Closed;
            self.close_timer = None;
        }
        match self.heartbeat.poll(cx, listens) {
            Beat::Nothing => {}
            Beat::Send => {
                let mut frame = Vec::new();
                write_heartbeat(&mut frame);
                self.outbox.with_wire::<SocketWire, _>(|wire, _| wire.append(&frame));
                self.outbox.wake();
            }
            Beat::PeerIsGone => {
                tracing::warn!(peer = %self.peer, "missed heartbeats from the client");
                self.phase = Phase::Closed;
            }
        }
    }

    /// `connection.blocked` and `unblocked`, to a client that publishes and understands them.
    fn tell_blocked(&mut self) {
        let is_held = self.session.is_held();
        if !self.knows_blocked || is_held == self.was_told_blocked || self.phase != Phase::Open {
            return;
        }
        self.was_told_blocked = is_held;
        match is_held {
            true => {
                let reason = "low on disk or memory";
                self.outbox.send(0, &Method::ConnectionBlocked(ConnectionBlocked { reason }));
            }
            false => self.outbox.send(0, &Method::ConnectionUnblocked(ConnectionUnblocked {})),
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match ready!(this.turn(cx)) {
            Ok(()) => {}
            Err(error) => tracing::debug!(peer = %this.peer, "connection lost: {error}"),
        }
        Poll::Ready(())
    }
}
