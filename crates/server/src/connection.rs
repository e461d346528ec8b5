//! One connection after its handshake, as a hand-written future.
//!
//! A turn: pass on what has become durable, write the outbox, read once, take in every complete
//! frame, flush the session, write again. After [`READS_PER_TURN`] it lets others run. It sleeps
//! until the socket is ready, the outbox is woken, or a heartbeat is due; or, while its client streams,
//! until the next tick (module [`pacing`](crate::pacing)).
//!
//! *Invariant:* it sleeps in one place, behind [`Connection::poll_may_read`], which has registered
//! with whatever ends each reason for not reading: the store, the socket, the node, a timer.
//!
//! ```text
//!            error of ours                 close-ok, or time-out
//!   Open ─────────────────────▶ Closing ───────────────────────▶ Lingering ──────▶ Closed
//!     │  client's close                    close-ok is written       ▲    end of stream,
//!     └───────────────────────▶ Leaving ─────────────────────────────┘    or time-out
//! ```
//!
//! Lingering reads on and discards, so that the kernel does not reset the connection while the peer
//! still has something under way (module [`farewell`]).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use amqp::{ConnectionBlocked, ConnectionUnblocked, Method, write_heartbeat, write_method};
use node::{Outbox, QueueDeleted, Session};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use crate::content::Content;
use crate::farewell;
use crate::handshake::Greeted;
use crate::hang_up::{HangUpWatch, Peer};
use crate::heartbeat::{Beat, Heartbeat};
use crate::pacing::Pacing;
use crate::reading;
use crate::shared::Shared;
use crate::spare_memory::{KEPT_BYTES, SpareMemory};
use crate::stream::Stream;
use crate::ticker::Asking;
use crate::wire::{self, FrameSink};

/// Reads before others get their turn.
const READS_PER_TURN: usize = 2;

/// See the diagram above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Closing,
    Leaving,
    Lingering,
    Closed,
}

/// A reply that waits for the store to reach a position.
pub(crate) struct HeldReply {
    position: u64,
    frame: Vec<u8>,
    /// What follows once the reply is on the wire: consumers of a deleted queue are told.
    then: Option<QueueDeleted>,
}

/// See the module's documentation.
pub(crate) struct Connection<S> {
    stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session,
    pub(crate) outbox: Arc<Outbox>,
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
    pub(crate) kept: Vec<u8>,
    /// `kept` may hold complete frames.
    pub(crate) has_frames: bool,
    /// Frames on their way into the socket, and how far.
    writing: Vec<u8>,
    written: usize,
    /// Room in the outbox that `writing` takes.
    writing_room: usize,
    /// The client has asked for more than it reads; nothing is taken in until it has read.
    pub(crate) has_unread_replies: bool,
    pub(crate) held_reply: Option<HeldReply>,
    pub(crate) pacing: Pacing,
    heartbeat: Heartbeat,
    hang_up: HangUpWatch,
    spare_memory: SpareMemory,
    pub(crate) close_timer: Option<Pin<Box<Sleep>>>,
    /// The stream has been told that nothing more will be written.
    has_ended: bool,
    /// Whether consumers have caught up.
    asking_for_credit: Asking,
    /// Bytes that were discarded while lingering.
    discarded: usize,
    knows_blocked: bool,
    was_told_blocked: bool,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, shared: Arc<Shared>, greeted: Greeted) -> Self {
        let pacing = Pacing::new(shared.ticker.clone());
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
            pacing,
            heartbeat: Heartbeat::new(greeted.heartbeat_s),
            hang_up: HangUpWatch::default(),
            spare_memory: SpareMemory::default(),
            close_timer: None,
            has_ended: false,
            asking_for_credit: Asking::default(),
            discarded: 0,
            knows_blocked: greeted.knows_blocked,
            was_told_blocked: false,
        }
    }

    /// Puts a reply on the wire, or holds it until the store has reached the position it waits for.
    pub(crate) fn reply(&mut self, channel: u16, method: &Method<'_>) {
        self.reply_and_then(channel, method, None);
    }

    /// The same, and consumers of a deleted queue are told after it.
    pub(crate) fn reply_and_then(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        then: Option<QueueDeleted>,
    ) {
        match self.session.barrier() {
            Some(position) => {
                let mut frame = Vec::new();
                write_method(&mut frame, channel, method);
                self.held_reply = Some(HeldReply { position, frame, then });
            }
            None => {
                self.send(channel, method);
                drop(then);
            }
        }
    }

    /// Puts a method on the wire without waiting for anything to become durable.
    pub(crate) fn send(&self, channel: u16, method: &Method<'_>) {
        wire::send(&self.outbox, channel, method);
    }

    /// Whether the next frame may be taken in.
    pub(crate) fn may_take_in(&self) -> bool {
        self.held_reply.is_none()
            && !self.has_unread_replies
            && matches!(self.phase, Phase::Open | Phase::Closing)
    }

    /// One turn; `Ready` when the connection is over.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.outbox.register(cx.waker());
        self.outbox.take_dirty();
        // Room may have come back without a write.
        self.session.after_write(0);
        let mut reads = 0;
        loop {
            if self.phase == Phase::Open && self.shared.is_stopping.load(Ordering::Acquire) {
                self.say_goodbye();
            }
            if let Err(error) = self.session.check_not_ended() {
                self.fail(&error, (0, 0));
            }
            self.release_held_reply();
            if self.has_frames && self.may_take_in() {
                // These frames may leave another reply to be held.
                self.has_frames = false;
                self.take_in_kept();
                continue;
            }
            self.session.release_confirms();
            self.tell_blocked();
            let is_written = self.poll_write(cx)?.is_ready();
            if self.phase == Phase::Leaving && is_written {
                self.linger();
            }
            self.poll_end(cx);
            if self.phase == Phase::Closed {
                return Poll::Ready(Ok(()));
            }
            if is_written && std::mem::take(&mut self.has_unread_replies) {
                continue;
            }
            let reads_on = self.poll_may_read(cx, is_written).is_ready();
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

    /// Whether to read; if not, the task is woken when it is worth asking again.
    fn poll_may_read(&mut self, cx: &mut Context<'_>, is_written: bool) -> Poll<()> {
        match self.phase {
            Phase::Closing | Phase::Lingering => return Poll::Ready(()),
            // The socket wakes us.
            Phase::Leaving => return Poll::Pending,
            Phase::Open | Phase::Closed => {}
        }
        // The store wakes us ([`Self::release_held_reply`], [`Self::say_goodbye`]).
        let waits_for_store = self.held_reply.is_some();
        let is_stopping = self.shared.is_stopping.load(Ordering::Acquire);
        // The socket wakes us. Deliveries are bounded by the room they reserve, replies by this: we
        // do not read from a peer that does not read its replies.
        let waits_for_socket = !is_written && (self.has_unread_replies || self.is_choked());
        if waits_for_store || is_stopping || waits_for_socket {
            return Poll::Pending;
        }
        // The next ticks wake us.
        if let Some(ticker) = &self.shared.ticker {
            if self.session.waits_for_consumers() {
                self.asking_for_credit.wait(ticker, cx.waker());
                return Poll::Pending;
            }
            self.asking_for_credit.end();
        }
        // The committer wakes us when there is room, or the node when it lets publishers go.
        self.session.poll_ready(cx)
    }

    /// Sends a held reply once the store has reached its position; until then the store will wake
    /// us.
    fn release_held_reply(&mut self) {
        let Some(held) = self.held_reply.take() else { return };
        match self.session.is_durable(held.position) {
            Ok(false) => self.held_reply = Some(held),
            Ok(true) => {
                self.outbox.with_sink::<FrameSink, _>(|sink, _| sink.append(&held.frame));
                drop(held.then);
            }
            Err(error) => self.fail(&error, (0, 0)),
        }
    }

    /// While lingering nothing more is written, which the peer should see: by now everything is
    /// written, or the socket takes no more.
    fn poll_end(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Lingering && !self.has_ended {
            // An error shows at the next read.
            self.has_ended = Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        }
    }

    /// Whether more replies wait to be written than a client should leave unread.
    pub(crate) fn is_choked(&self) -> bool {
        let waiting = self.outbox.with_sink::<FrameSink, _>(|sink, room| (sink.len(), *room));
        let (bytes, room) = waiting.unwrap_or_default();
        let bytes = bytes + self.writing.len() - self.written;
        let replies = bytes.saturating_sub(room + self.writing_room);
        self.outbox.note_replies(replies);
        replies > self.outbox.replies_max()
    }

    /// Reads once and takes in the complete frames.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        let is_tick = ready!(self.pacing.poll());
        let kept = std::mem::take(&mut self.kept);
        reading::with_buffer(&kept, |buffer| {
            let free = &mut buffer[kept.len()..];
            let read = match is_tick {
                true => self.read_now(free),
                false => self.read_when_ready(cx, free),
            };
            let read_bytes = match read {
                Poll::Ready(Ok(0)) => {
                    self.phase = Phase::Closed;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(count)) => count,
                other => {
                    self.kept.extend_from_slice(&kept);
                    if is_tick && other.is_pending() {
                        self.note_read(cx, 0);
                    }
                    return other.map_ok(|_| ());
                }
            };
            self.heartbeat.received();
            self.spare_memory.used(read_bytes);
            if self.phase == Phase::Lingering {
                self.discarded += read_bytes;
                if self.discarded > farewell::BYTES_MAX {
                    self.phase = Phase::Closed;
                }
                return Poll::Ready(Ok(()));
            }
            let input = &buffer[..kept.len() + read_bytes];
            let taken = self.take_in(input);
            self.kept.extend_from_slice(&input[taken..]);
            self.note_read(cx, read_bytes);
            Poll::Ready(Ok(()))
        })
    }

    /// Decides when to read next.
    fn note_read(&mut self, cx: &mut Context<'_>, read_bytes: usize) {
        let traffic = self.session.take_traffic();
        self.pacing.has_read(read_bytes, traffic, &self.stream);
        // What filled the buffer goes on at once.
        if read_bytes < reading::READ_BYTES {
            self.pacing.wait(cx, read_bytes);
        }
    }

    fn read_when_ready(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let mut free = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut free))?;
        Poll::Ready(Ok(free.filled().len()))
    }

    /// Reads what is there, past the runtime.
    fn read_now(&self, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        match rustix::net::recv(&self.stream, buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Poll::Ready(Ok(count)),
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Forgets a message that is not complete.
    pub(crate) fn drop_content(&mut self, channel: u16) {
        if let Some(content) = self.contents.remove(&channel) {
            self.session.give_back_unfinished(content.bytes());
        }
    }

    fn take_in_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let taken = self.take_in(&kept);
        self.kept.extend_from_slice(&kept[taken..]);
    }

    /// Writes the outbox as far as the socket takes it; ready when all is written. Deliveries that
    /// are added as room comes back wait for the next call, so that a peer that reads fast is also
    /// listened to.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        let mut has_written = self.written < self.writing.len();
        loop {
            if self.phase == Phase::Lingering {
                return Poll::Ready(Ok(()));
            }
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                let writing = &mut self.writing;
                let taken = self.outbox.with_sink::<FrameSink, _>(|sink, room| {
                    sink.take(writing);
                    std::mem::take(room)
                });
                self.writing_room = taken.unwrap_or(0);
                if self.writing.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if std::mem::replace(&mut has_written, true) && self.phase == Phase::Open {
                    self.outbox.wake();
                    return Poll::Pending;
                }
            }
            let left = &self.writing[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            self.written += count;
            self.spare_memory.used(count);
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
            self.close_timer = None;
            match self.phase {
                Phase::Closing => {
                    self.linger();
                    // Nothing has registered for its first read yet.
                    cx.waker().wake_by_ref();
                }
                _ => self.phase = Phase::Closed,
            }
        }
        if self.spare_memory.poll(cx) {
            self.trim_memory();
        }
        match self.hang_up.poll(cx, &self.stream, listens) {
            Peer::There => {}
            Peer::Silent => self.send_heartbeat(),
            Peer::Gone => {
                tracing::info!(peer = %self.peer, "the client hung up while it was held");
                self.phase = Phase::Closed;
            }
        }
        match self.heartbeat.poll(cx, listens) {
            Beat::Nothing => {}
            Beat::Send => self.send_heartbeat(),
            Beat::PeerIsGone => {
                tracing::warn!(peer = %self.peer, "missed heartbeats from the client");
                self.phase = Phase::Closed;
            }
        }
    }

    fn trim_memory(&mut self) {
        if self.written == self.writing.len() {
            self.writing = Vec::new();
            self.written = 0;
        }
        self.outbox.with_sink::<FrameSink, _>(|sink, _| sink.trim_memory());
        self.session.trim_memory();
    }

    fn send_heartbeat(&mut self) {
        let mut frame = Vec::new();
        write_heartbeat(&mut frame);
        self.outbox.with_sink::<FrameSink, _>(|sink, _| sink.append(&frame));
        self.outbox.wake();
    }

    /// Sends `connection.blocked` and `unblocked` to a client that publishes and understands them.
    fn tell_blocked(&mut self) {
        let is_held = self.session.is_held();
        if !self.knows_blocked || is_held == self.was_told_blocked || self.phase != Phase::Open {
            return;
        }
        self.was_told_blocked = is_held;
        match is_held {
            true => {
                let reason = "low on disk or memory";
                self.send(0, &Method::ConnectionBlocked(ConnectionBlocked { reason }));
            }
            false => self.send(0, &Method::ConnectionUnblocked(ConnectionUnblocked {})),
        }
    }
}

impl<S: Stream> Future for Connection<S> {
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
