//! A listening socket, and the loop that accepts.
//!
//! Never fails for good: whatever `accept` says, it is tried again. Never speaks on a connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::admission::Entrance;
use crate::{Admission, Connections, Place};

/// Connections the kernel may hold ready for us.
const BACKLOG: i32 = 1024;
/// How long to wait when a connection cannot be accepted and nothing can be done about it.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that were ended and still have their descriptors, at most, while others are accepted.
const ENDING_MAX: usize = 8;
/// Bytes that the kernel takes ahead of what it can send. It would take megabytes, and what comes
/// later, for another consumer of the connection, would wait behind them.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 256 << 10;
/// A peer whose machine has vanished is noticed two minutes after it was last heard of, whatever
/// the protocol: probed after so long without a word ...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// ... again after so long without an answer ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and so many times.
const KEEPALIVE_PROBES: u32 = 6;

/// Listens at an address; port 0 takes any.
///
/// # Errors
/// What the operating system says: the port is taken, the address is not ours.
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
    /// `name` is the protocol's, for the log; `connections_max` how many this listener may have at a
    /// time, whatever else the admission allows.
    pub fn new(
        socket: TcpListener,
        name: &'static str,
        admission: &Admission,
        connections_max: usize,
    ) -> Self {
        Self { socket, entrance: Entrance::new(admission, name, connections_max) }
    }

    /// Accepts until `shutdown` is done, then closes the socket. Each connection is a task of what
    /// `serve` makes of it; the place goes with it. What is still connected is answered.
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
        // It was the peer who went away, before we got to it.
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

/// What is right for every protocol. A connection also works without.
fn adjust(stream: &TcpStream, peer: SocketAddr) {
    // Without it a small answer waits for the peer's delayed ack, some 40 ms.
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
