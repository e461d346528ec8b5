//! Drives a link: opens sockets, reads, writes, keeps time, and hands over what happens.
//!
//! One task for each link. *Invariant:* the link is never locked across an await, nor while a handler
//! runs.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};

use super::super::Taken;
use super::link::{
    ConsumerId, Delivery, DeliveryTag, Down, Event, Link, Login, Published, Refusal, Reply,
    Settlement, Times,
};
use super::{Error, refused};
use crate::url::Address;

/// How long opening a socket may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last words may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// Who waits for a confirm.
type Confirming = oneshot::Sender<Result<Taken, Error>>;
/// Who waits for an answer.
type Calling = oneshot::Sender<Result<Reply, Refusal>>;
/// A link as it is driven.
pub(super) type DrivenLink = Link<Confirming, Calling>;

/// Takes what comes for consumers.
pub(super) trait Handler: Send + Sync + 'static {
    /// A message; with how it is to be settled, if that is known already.
    fn delivered(&self, delivery: Delivery) -> Option<(DeliveryTag, Settlement)>;
    /// A consumer gets nothing more.
    fn cancelled(&self, consumer: ConsumerId, why: Option<Refusal>);
}

/// Whether there is a connection.
#[derive(Debug, Clone)]
enum State {
    Connecting,
    Up,
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
}

impl Driver {
    pub(super) fn start(
        address: &Address,
        times: Times,
        purpose: &str,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let login = Login {
            user: address.user.clone(),
            password: address.password.clone(),
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
        });
        tokio::spawn(Arc::clone(&shared).run());
        Self { shared, state }
    }

    /// Waits for the first connection, or for the first attempt to fail: then the link is closed.
    pub(super) async fn ready(&self) -> Result<(), Down> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match settled.as_deref().cloned() {
            Ok(State::Up) => Ok(()),
            Ok(State::Down(down)) => {
                self.with(|link, _| link.close());
                Err(down)
            }
            _ => Err(Down::Socket("closed".to_owned())),
        }
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
        self.with(|link, _| link.close());
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| matches!(state, State::Closed)).await;
    }
}

/// Whoever drops the last handle wants nothing more.
impl Drop for Driver {
    fn drop(&mut self) {
        self.with(|link, _| link.close());
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut attempt = 0;
        loop {
            let reconnect_at = self.link.lock().reconnect_at();
            let Some(at) = reconnect_at else { break };
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.wake.notified() => continue,
            }
            let (host, port) = &self.addresses[attempt % self.addresses.len()];
            attempt += 1;
            let connecting = TcpStream::connect((host.as_str(), *port));
            let why = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(stream)) => self.serve(&stream).await,
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            self.link.lock().disconnected(Down::Socket(why.to_string()), Instant::now());
            self.hand_over(&mut Vec::new());
        }
        // Those who still wait learn it from their senders' end.
        let forgotten = {
            let mut link = self.link.lock();
            (link.take_unconfirmed(), link.take_unanswered())
        };
        drop(forgotten);
        self.state.send_replace(State::Closed);
    }

    /// The life of one socket; returns why it ended.
    async fn serve(&self, stream: &TcpStream) -> io::Error {
        if let Err(error) = stream.set_nodelay(true) {
            return error;
        }
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
                let farewell = write_all(stream, &writing[written..]);
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
                return io::ErrorKind::ConnectionAborted.into();
            }
            if written < writing.len() {
                match stream.try_write(&writing[written..]) {
                    Ok(count) => {
                        written += count;
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return error,
                }
            }
            let interest = match written < writing.len() {
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
                ready = stream.ready(interest) => match ready {
                    Ok(ready) if ready.is_readable() => match stream.try_read(&mut chunk) {
                        Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                        Ok(count) => self.link.lock().received(&chunk[..count], Instant::now()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return error,
                    },
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
        for event in events.drain(..) {
            match event {
                Event::Up => drop(self.state.send_replace(State::Up)),
                Event::Down(down) => {
                    tracing::info!("no connection: {down}");
                    self.state.send_replace(State::Down(down));
                }
                Event::Published { token, result } => drop(token.send(taken(result))),
                Event::Called { token, result } => drop(token.send(result)),
                Event::Delivered(delivery) => settled.extend(self.handler.delivered(delivery)),
                Event::Cancelled { consumer, why } => self.handler.cancelled(consumer, why),
                Event::Blocked(why) => match why {
                    Some(why) => tracing::warn!("the broker takes no messages for now: {why}"),
                    None => tracing::info!("the broker takes messages again"),
                },
            }
        }
        if !settled.is_empty() {
            let mut link = self.link.lock();
            settled.into_iter().for_each(|(tag, settlement)| link.settle(tag, settlement));
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

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let mut stream = pin!(stream);
    while !bytes.is_empty() {
        stream.as_mut().writable().await?;
        match stream.as_mut().try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
