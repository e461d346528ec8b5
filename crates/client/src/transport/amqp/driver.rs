//! Drives a link: opens sockets, reads, writes, keeps time, and hands over what happens.
//!
//! One task for each link. *Invariants:* the link is never locked across an await, nor while a handler
//! runs. However the task ends, whoever waits for something of it is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::sync::{Notify, oneshot, watch};

use super::super::Taken;
use super::link::{
    ConsumerId, Delivery, Down, Event, Link, Login, Published, Refusal, Reply, Settlement, Times,
    Token,
};
use super::socket::{self, Socket};
use super::{Error, refused};
use crate::tls::TlsOptions;
use crate::url::Address;
use crate::window::Permits;

/// How long opening a socket may take, with all of the handshake of TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last words may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// Who waits for a confirm, and its room in the producer's window: whoever gives up waiting does not make
/// room as long as the message is here.
pub(super) struct Confirming {
    pub(super) confirm: oneshot::Sender<Result<Taken, Error>>,
    pub(super) _permits: Option<Arc<Permits>>,
}

/// Who waits for an answer.
pub(super) struct Calling(pub(super) oneshot::Sender<Result<Reply, Refusal>>);

/// A link as it is driven.
pub(super) type DrivenLink = Link<Confirming, Calling>;

impl Token for Confirming {
    fn is_abandoned(&self) -> bool {
        self.confirm.is_closed()
    }
}

impl Token for Calling {
    fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// Takes what comes for consumers.
pub(super) trait Handler: Send + Sync + 'static {
    /// A message; with what is to be done about it at once.
    fn delivered(&self, delivery: Delivery) -> Then;
    /// A consumer gets nothing more.
    fn cancelled(&self, consumer: ConsumerId, why: Option<Refusal>);
    /// The queue of a consumer is not there any more.
    fn missing(&self, consumer: ConsumerId);
    /// A consumer is gone, and the broker knows what it has settled.
    fn released(&self, consumer: ConsumerId);
    /// There is a connection (again).
    fn up(&self);
    /// There will be nothing more.
    fn closed(&self);
}

/// What is to be done about a delivery.
pub(super) enum Then {
    /// Somebody works on it.
    Nothing,
    Settle(Settlement),
    /// Nobody is there for its consumer any more.
    Release,
}

/// Whether there is a connection.
#[derive(Debug, Clone)]
enum State {
    Connecting,
    Up,
    /// There is, and the broker takes no messages, for this reason.
    Held(String),
    Down(Down),
    Closed,
}

/// A link and the task that drives it.
pub(super) struct Driver {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
}

struct Shared {
    link: Mutex<DrivenLink>,
    wake: Notify,
    state: watch::Sender<State>,
    handler: Arc<dyn Handler>,
    addresses: Vec<(String, u16)>,
    tls: Option<TlsOptions>,
    /// Somebody relies on it: else its end is nobody's business.
    is_adopted: AtomicBool,
    /// Which of the addresses is used: the same for all links of a connection.
    at: Arc<AtomicUsize>,
}

impl Driver {
    /// Starts to connect. `at` is the address that all links of a connection use.
    pub(super) fn start(
        address: &Address,
        times: Times,
        purpose: &str,
        at: Arc<AtomicUsize>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let login = Login {
            user: address.user.clone(),
            password: address.password.clone(),
            mechanism: address.mechanism,
            virtual_host: address.virtual_host.clone(),
            connection_name: format!("{} {purpose}", address.connection_name()),
        };
        let (sender, state) = watch::channel(State::Connecting);
        let shared = Arc::new(Shared {
            link: Mutex::new(Link::new(login, times, Instant::now())),
            wake: Notify::new(),
            state: sender,
            handler,
            addresses: address.hosts.clone(),
            tls: address.tls.clone(),
            is_adopted: AtomicBool::new(false),
            at,
        });
        tokio::spawn(Shared::run(End(Arc::clone(&shared))));
        Self { shared, state }
    }

    /// Waits for the first connection, or until each address has failed once: then the link is closed.
    pub(super) async fn ready(&self) -> Result<(), Down> {
        let mut state = self.state.clone();
        let mut attempts = self.shared.addresses.len();
        loop {
            match &*state.borrow_and_update() {
                State::Up | State::Held(_) => return Ok(()),
                State::Down(down) => {
                    attempts -= 1;
                    // Other addresses have the same users, but certificates of their own.
                    let may_differ =
                        matches!(down, Down::Socket(_) | Down::Silent(_) | Down::Tls(_));
                    if attempts == 0 || !may_differ {
                        self.with(|link, now| link.close(now));
                        return Err(down.clone());
                    }
                }
                State::Closed => return Err(Down::Socket("closed".to_owned())),
                State::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Err(Down::Socket("closed".to_owned()));
            }
        }
    }

    /// Says that somebody relies on it from now on: when it ends, its handler is told.
    pub(super) fn adopt(&self) {
        self.shared.is_adopted.store(true, Ordering::Release);
    }

    /// Why there is no connection, if there is none.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Down(down) => Some(down.to_string()),
            State::Connecting | State::Up | State::Held(_) | State::Closed => None,
        }
    }

    /// Why the broker takes no messages for now, if it does not.
    pub(super) fn held(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Held(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether it is over.
    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed)
    }

    /// Gives the link a command.
    pub(super) fn with<T>(&self, command: impl FnOnce(&mut DrivenLink, Instant) -> T) -> T {
        let mut link = self.shared.link.lock();
        // If there was something to write, its driver knows.
        let was_idle = link.output().is_empty();
        let done = command(&mut link, Instant::now());
        drop(link);
        if was_idle {
            self.shared.wake.notify_one();
        }
        done
    }

    /// Says good-bye, and waits until that is done.
    pub(super) async fn close(&self) {
        self.with(|link, now| link.close(now));
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| matches!(state, State::Closed)).await;
    }
}

/// Whoever drops the last handle wants nothing more.
impl Drop for Driver {
    fn drop(&mut self) {
        self.with(|link, now| link.close(now));
    }
}

/// Tells everybody when the task ends, even by a panic or with its runtime.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let forgotten = {
            let mut link = self.0.link.lock();
            link.close(Instant::now());
            (link.take_unconfirmed(), link.take_unanswered())
        };
        drop(forgotten);
        self.0.state.send_replace(State::Closed);
        if self.0.is_adopted.load(Ordering::Acquire) {
            self.0.handler.closed();
        }
    }
}

impl Shared {
    async fn run(end: End) {
        let this = &*end.0;
        loop {
            let reconnect_at = this.link.lock().reconnect_at();
            let Some(at) = reconnect_at else { break };
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = this.wake.notified() => continue,
            }
            let attempt = this.at.load(Ordering::Relaxed);
            let (why, is_connected) = match this.connect(attempt).await {
                Ok(socket) if !this.link.lock().is_closing() => (this.serve(socket).await, true),
                Ok(_) => (io::ErrorKind::ConnectionAborted.into(), true),
                Err(error) => (error, false),
            };
            let why = socket::down(&why);
            // A broker may refuse our certificate once we are through.
            if !is_connected || matches!(why, Down::Tls(_)) {
                // The next one, unless another link has moved on already.
                let (next, order) = (attempt + 1, Ordering::Relaxed);
                let _ = this.at.compare_exchange(attempt, next, order, order);
            }
            this.link.lock().disconnected(why, Instant::now());
            this.hand_over(&mut Vec::new());
        }
    }

    async fn connect(&self, attempt: usize) -> io::Result<Socket> {
        let (host, port) = &self.addresses[attempt % self.addresses.len()];
        let connecting = Socket::connect(host, *port, self.tls.as_ref());
        let closing = async {
            while !self.link.lock().is_closing() {
                self.wake.notified().await;
            }
        };
        tokio::select! {
            connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting) => match connected {
                Ok(connected) => connected,
                Err(_) if self.tls.is_some() => {
                    let text = format!("no TLS within {CONNECT_TIMEOUT:?}, so there may be none on this port");
                    Err(io::Error::new(io::ErrorKind::TimedOut, text))
                }
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
            () = closing => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// The life of one socket; returns why it ended.
    async fn serve(&self, mut socket: Socket) -> io::Error {
        self.link.lock().connected(Instant::now());
        let mut chunk = vec![0; READ_BYTES];
        let (mut writing, mut written) = (Vec::new(), 0);
        let mut events = Vec::new();
        loop {
            self.hand_over(&mut events);
            let (has_failed, wake_at) = {
                let mut link = self.link.lock();
                if written == writing.len() {
                    link.take_output(&mut writing, Instant::now());
                    written = 0;
                }
                (link.failure().is_some(), link.wake_at())
            };
            if has_failed {
                let farewell = socket.farewell(&writing[written..]);
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
                return io::ErrorKind::ConnectionAborted.into();
            }
            if written < writing.len() || socket.is_writing() {
                match socket.write(&writing[written..]) {
                    Ok(count) => {
                        written += count;
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return error,
                }
            }
            let interest = match written < writing.len() || socket.is_writing() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            let timeout = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = socket.tcp().ready(interest) => match ready {
                    Ok(ready) if ready.is_readable() => {
                        let take = |bytes: &[u8]| self.link.lock().received(bytes, Instant::now());
                        match socket.read(&mut chunk, take) {
                            Ok(()) => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(error) => return error,
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return error,
                },
                () = self.wake.notified() => {}
                () = timeout => self.link.lock().tick(Instant::now()),
            }
        }
    }

    /// Passes on what has happened; no lock is held meanwhile.
    fn hand_over(&self, events: &mut Vec<Event<Confirming, Calling>>) {
        self.link.lock().take_events(events);
        let mut settled = Vec::new();
        let mut abandoned = Vec::new();
        for event in events.drain(..) {
            match event {
                Event::Up => {
                    self.state.send_replace(State::Up);
                    self.handler.up();
                }
                Event::Down(down) => {
                    let is_closing = self.link.lock().is_closing();
                    let before = self.state.send_replace(State::Down(down.clone()));
                    // Who has just asked for a connection is told by an error.
                    let is_news = match before {
                        State::Up | State::Held(_) => true,
                        State::Down(before) => before != down,
                        State::Connecting | State::Closed => false,
                    };
                    if is_news && !is_closing {
                        tracing::warn!("no connection to the broker: {down}");
                    }
                }
                Event::Published { token, result } => drop(token.confirm.send(taken(result))),
                Event::Called { token, result } => drop(token.0.send(result)),
                Event::Delivered(delivery) => {
                    let tag = delivery.tag;
                    match self.handler.delivered(delivery) {
                        Then::Nothing => {}
                        Then::Settle(settlement) => settled.push((tag, settlement)),
                        Then::Release => abandoned.push(tag.consumer()),
                    }
                }
                Event::Cancelled { consumer, why } => self.handler.cancelled(consumer, why),
                Event::Missing(consumer) => self.handler.missing(consumer),
                Event::Released(consumer) => self.handler.released(consumer),
                Event::Blocked(Some(why)) => {
                    tracing::warn!("the broker takes no messages for now: {why}");
                    self.state.send_replace(State::Held(why));
                }
                Event::Blocked(None) => {
                    tracing::info!("the broker takes messages again");
                    self.state.send_replace(State::Up);
                }
            }
        }
        if !settled.is_empty() || !abandoned.is_empty() {
            let mut link = self.link.lock();
            for (tag, settlement) in settled {
                link.settle(tag, settlement);
            }
            abandoned.into_iter().for_each(|consumer| link.release(consumer));
        }
    }
}

fn taken(result: Result<Published, Refusal>) -> Result<Taken, Error> {
    match result {
        Ok(Published { is_routed: true }) => Ok(Taken::Stored),
        Ok(Published { is_routed: false }) => Ok(Taken::Unroutable),
        Err(refusal) => Err(refused("the broker refuses the message", &refusal)),
    }
}
