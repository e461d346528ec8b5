//! A connection that outlives its sockets: a task that connects to the hosts in turn, and gives out sessions.
//!
//! Each link has a session of its own. What a broker holds against one link, and what one waits for, is then no
//! other's business: the specification lets a broker end a whole session because of one of its links.
//!
//! *Invariants:* whoever waits for a session gets one of a connection that is up, or learns that this has been
//! closed; nothing waits for a broker that is silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fe2o3_amqp::Session;
use fe2o3_amqp::connection::{Connection, ConnectionHandle, Error as ConnectionError};
use fe2o3_amqp::session::SessionHandle;
use tokio::sync::{mpsc, oneshot, watch};

use super::down::Down;
use super::overheard::Overheard;
use super::socket;
use crate::error::Error;
use crate::url::Address;

/// How long opening a connection may take, with TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker may take for a session or a link.
pub(super) const ATTACH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last words may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// A broker that says nothing for so long is gone; half of it is what it is asked for.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The wait before the first attempt to connect again, doubled by each that fails.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
pub(super) const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// Sessions, and so links, that there can be at a time.
const CHANNEL_MAX: u16 = 8191;
/// Frames that may be under way to a session.
const SESSION_WINDOW: u32 = 1 << 16;

/// Whether there is a connection.
#[derive(Debug, Clone)]
enum State {
    Connecting,
    Up,
    Down(Down),
    Closed,
}

/// Asks for a session.
type Asking = oneshot::Sender<SessionHandle<()>>;

/// See the module's documentation.
pub(super) struct Driver {
    asking: mpsc::UnboundedSender<Asking>,
    state: watch::Receiver<State>,
    closing: watch::Sender<bool>,
    host_count: usize,
    is_artemis: Arc<AtomicBool>,
}

impl Driver {
    /// Starts to connect. `at` is the host that all connections of a transport use.
    pub(super) fn start(address: &Arc<Address>, purpose: &str, at: Arc<AtomicUsize>) -> Self {
        let (asking, asked) = mpsc::unbounded_channel();
        let (sender, state) = watch::channel(State::Connecting);
        let (closing, is_closing) = watch::channel(false);
        let is_artemis = Arc::new(AtomicBool::new(false));
        let task = Task {
            // Of all connections to a broker, no two may be called the same.
            container: format!("{} {purpose} {}", address.connection_name(), uuid::Uuid::now_v7()),
            address: Arc::clone(address),
            at,
            asked,
            unanswered: None,
            is_closing,
            is_artemis: Arc::clone(&is_artemis),
            end: End(sender),
        };
        tokio::spawn(task.run());
        Self { asking, state, closing, host_count: address.hosts.len(), is_artemis }
    }

    /// Waits for the first connection, or until each host has failed once: then it is closed.
    pub(super) async fn ready(&self) -> Result<(), Down> {
        let mut state = self.state.clone();
        let mut attempts = self.host_count;
        loop {
            match &*state.borrow_and_update() {
                State::Up => return Ok(()),
                State::Down(down) => {
                    attempts -= 1;
                    if attempts == 0 || !down.may_differ() {
                        self.closing.send_replace(true);
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

    /// A session of its own for whoever asks, once there is a connection.
    pub(super) async fn session(&self) -> Result<SessionHandle<()>, Error> {
        let (asking, session) = oneshot::channel();
        self.asking.send(asking).map_err(|_| Error::closed())?;
        session.await.map_err(|_| Error::closed())
    }

    /// Why there is no connection, if there is none.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Down(down) => Some(down.to_string()),
            State::Connecting | State::Up | State::Closed => None,
        }
    }

    /// Whether the broker has said that it is Artemis.
    pub(super) fn is_artemis(&self) -> bool {
        self.is_artemis.load(Ordering::Relaxed)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up)
    }

    /// Completes when it is over.
    pub(super) async fn closed(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| matches!(state, State::Closed)).await;
    }

    /// Wants nothing more.
    pub(super) fn begin_closing(&self) {
        self.closing.send_replace(true);
    }

    /// Says good-bye, and waits until that is done.
    pub(super) async fn close(&self) {
        self.begin_closing();
        self.closed().await;
    }
}

/// Whoever drops the last handle wants nothing more.
impl Drop for Driver {
    fn drop(&mut self) {
        self.begin_closing();
    }
}

/// Says so when the task ends, even by a panic or with its runtime.
struct End(watch::Sender<State>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(State::Closed);
    }
}

struct Task {
    container: String,
    address: Arc<Address>,
    at: Arc<AtomicUsize>,
    asked: mpsc::UnboundedReceiver<Asking>,
    /// Who has asked, and got no session from a connection that broke.
    unanswered: Option<Asking>,
    is_closing: watch::Receiver<bool>,
    is_artemis: Arc<AtomicBool>,
    end: End,
}

impl Task {
    async fn run(mut self) {
        let mut wait = RECONNECT_MIN;
        loop {
            let attempt = self.at.load(Ordering::Relaxed);
            let mut is_closing = self.is_closing.clone();
            let down = tokio::select! {
                () = wanted(&mut is_closing) => return,
                connected = self.connect(attempt) => match connected {
                    Ok(connection) => {
                        wait = RECONNECT_MIN;
                        self.end.0.send_replace(State::Up);
                        match self.serve(connection).await {
                            Some(down) => down,
                            None => return,
                        }
                    }
                    Err(down) => {
                        // The next one, unless another connection has moved on already.
                        let order = Ordering::Relaxed;
                        let _ = self.at.compare_exchange(attempt, attempt + 1, order, order);
                        down
                    }
                },
            };
            self.report(down);
            let mut is_closing = self.is_closing.clone();
            if tokio::time::timeout(wait, wanted(&mut is_closing)).await.is_ok() {
                return;
            }
            wait = (wait * 2).min(RECONNECT_MAX);
        }
    }

    fn report(&self, down: Down) {
        let before = self.end.0.send_replace(State::Down(down.clone()));
        // Who has just asked for a connection is told by an error.
        let is_news = match before {
            State::Up => true,
            State::Down(before) => before != down,
            State::Connecting | State::Closed => false,
        };
        if is_news {
            tracing::warn!("no connection to the broker: {down}");
        }
    }

    async fn connect(&self, attempt: usize) -> Result<ConnectionHandle<()>, Down> {
        let connecting = async {
            let stream = socket::open(&self.address, attempt).await?;
            let stream = Overheard::new(stream, Arc::clone(&self.is_artemis));
            let (host, _) = &self.address.hosts[attempt % self.address.hosts.len()];
            let opening = Connection::builder()
                .container_id(&self.container)
                .hostname(host.as_str())
                .channel_max(CHANNEL_MAX)
                .idle_time_out(SILENCE_MAX.as_millis() as u32)
                .open_with_stream(stream);
            let mut connection = opening.await.map_err(Down::of_open)?;
            // Some brokers let everybody in, and tell who has to leave again only then.
            match begin(&mut connection).await {
                Some(mut session) => {
                    let _ = session.end().await;
                    Ok(connection)
                }
                None => Err(why(connection.on_close().await)),
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) if self.address.tls.is_some() => {
                let text =
                    format!("no TLS within {CONNECT_TIMEOUT:?}, so there may be none on this port");
                Err(Down::Socket(text))
            }
            Err(_) => Err(Down::Silent),
        }
    }

    /// The life of one connection; returns why it ended, or nothing if that was wanted.
    async fn serve(&mut self, mut connection: ConnectionHandle<()>) -> Option<Down> {
        loop {
            if self.unanswered.is_none() {
                tokio::select! {
                    ended = connection.on_close() => return Some(why(ended)),
                    () = wanted(&mut self.is_closing) => {
                        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, connection.close()).await;
                        return None;
                    }
                    asking = self.asked.recv() => self.unanswered = Some(asking?),
                }
            }
            if self.unanswered.as_ref().is_none_or(Asking::is_closed) {
                self.unanswered = None;
                continue;
            }
            let beginning = begin(&mut connection);
            match tokio::time::timeout(ATTACH_TIMEOUT, beginning).await {
                Ok(Some(session)) => {
                    if let Some(asking) = self.unanswered.take() {
                        let _ = asking.send(session);
                    }
                }
                Ok(None) if connection.is_closed() => {
                    let ended = tokio::time::timeout(FAREWELL_TIMEOUT, connection.on_close()).await;
                    return Some(ended.map_or(Down::Silent, why));
                }
                Ok(None) => return Some(Down::Closed("it begins no session".to_owned())),
                Err(_) => return Some(Down::Silent),
            }
        }
    }
}

/// Completes when nothing more is wanted.
async fn wanted(is_closing: &mut watch::Receiver<bool>) {
    let _ = is_closing.wait_for(|is_closing| *is_closing).await;
}

async fn begin(connection: &mut ConnectionHandle<()>) -> Option<SessionHandle<()>> {
    let session = Session::builder()
        .incoming_window(SESSION_WINDOW)
        .outgoing_window(SESSION_WINDOW)
        .begin(connection);
    match session.await {
        Ok(session) => Some(session),
        Err(error) => {
            tracing::debug!("no session: {error}");
            None
        }
    }
}

fn why(ended: Result<(), ConnectionError>) -> Down {
    match ended {
        Ok(()) | Err(ConnectionError::RemoteClosed) => Down::Closed("without a reason".to_owned()),
        Err(ConnectionError::RemoteClosedWithError(error)) => Down::of_close(&error),
        Err(error) => Down::Socket(error.to_string()),
    }
}
