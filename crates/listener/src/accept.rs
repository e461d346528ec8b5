//! A listening socket, and its accept loop.
//!
//! Never fails for good: whatever error `accept` returns, the loop tries again. Never reads or
//! writes on a connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::admission::Entrance;
use crate::{Admission, Connections, Place};

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;
/// How long to wait when a connection cannot be accepted and nothing can be done about it.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How many ended connections may still hold their descriptors while others are accepted.
const ENDING_MAX: usize = 8;
/// How many unsent bytes the kernel may buffer. By default it would take megabytes, and later
/// deliveries, to another consumer on the connection, would wait behind them.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 256 << 10;
/// A peer whose machine has vanished is noticed two minutes after it was last heard from, whatever
/// the protocol: it is probed after this long without a word ...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// ... again after this long without an answer ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and this many times.
const KEEPALIVE_PROBES: u32 = 6;

/// Listens at an address; port 0 takes any.
///
/// # Errors
/// Those of the operating system, such as a port in use or an address that is not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A listening socket with its share of the admission.
pub struct Listener {
    socket: TcpListener,
    entrance: Entrance,
}

impl Listener {
    /// `name` is the protocol's name, for the log; `connections_max` is how many connections this
    /// listener may have at a time, whatever else the admission allows.
    pub fn new(
        socket: TcpListener,
        name: &'static str,
        admission: &Admission,
        connections_max: usize,
    ) -> Self {
        Self { socket, entrance: Entrance::new(admission, name, connections_max) }
    }

    /// Accepts until `shutdown` is done, then closes the socket. Each connection becomes a task
    /// that runs the future `serve` makes; its place goes with it. Returns the connections that are
    /// still open.
    pub async fn run<F>(
        self,
        mut serve: impl FnMut(Place, TcpStream, SocketAddr) -> F,
        shutdown: impl Future<Output = ()>,
    ) -> Connections
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut connections = Connections::new(self.entrance.name());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return connections,
                (stream, peer) = self.accept() => {
                    if let Some((place, ender)) = self.entrance.admit(peer) {
                        adjust(&stream, peer);
                        ender.attach(connections.spawn(serve(place, stream, peer)));
                    }
                }
                () = connections.one_ended() => {}
            }
        }
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            self.entrance.settle(ENDING_MAX).await;
            match self.socket.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => self.cope(&error).await,
            }
        }
    }

    async fn cope(&self, error: &io::Error) {
        // The peer went away before we got to it.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            return;
        }
        let is_out_of_descriptors =
            matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if is_out_of_descriptors && self.entrance.free_descriptor() {
            self.entrance.settle(0).await;
            return;
        }
        if let Some(count) = self.entrance.count_failure() {
            let name = self.entrance.name();
            tracing::warn!(count, "cannot accept {name} connections: {error}");
        }
        tokio::time::sleep(ACCEPT_RETRY).await;
    }
}

/// Sets the options that suit every protocol. A connection works without them, too.
fn adjust(stream: &TcpStream, peer: SocketAddr) {
    // Without it, a small answer waits for the peer's delayed ack, some 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "TCP_NODELAY: {error}");
    }
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        tracing::debug!(%peer, "TCP keep-alive: {error}");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%peer, "TCP_NOTSENT_LOWAT: {error}");
    }
}
