//! The listening socket and the life of all its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use node::Node;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::farewell;
use crate::handshake;

/// How long connections have to say goodbye when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long to wait when the process has no file descriptor left for a new connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections the kernel may hold ready for us.
const BACKLOG: i32 = 1024;

/// What the server offers in `connection.tune`, and its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 for any.
    pub address: SocketAddr,
    /// Channels per connection, at most.
    pub channel_max: u16,
    /// Bytes of a frame, at most.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat_s: u16,
    /// Time from connecting to `connection.open`, ms.
    pub handshake_timeout_ms: u64,
    /// Connections at once, at most.
    pub connections_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 5672)),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            connections_max: 65_536,
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub node: Arc<Node>,
    pub options: Options,
    /// The server stops: say goodbye.
    pub is_stopping: AtomicBool,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds the listening socket.
    ///
    /// # Errors
    /// What the operating system says: the port is taken, the address is not ours.
    pub async fn bind(node: Arc<Node>, options: Options) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(options.address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&options.address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let shared = Shared { node, options, is_stopping: AtomicBool::new(false) };
        Ok(Self { address: listener.local_addr()?, listener, shared: Arc::new(shared) })
    }

    /// Where it listens: the port is a real one even where any was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; then closes every connection in good order, with what can
    /// be confirmed confirmed, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer, &mut connections),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop(self.listener);
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.node.wake_connections();
        let farewell = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        connections.shutdown().await;
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let count = connections.len();
        if count >= self.shared.options.connections_max {
            tracing::warn!(%peer, count, "connection refused: connections_max is reached");
            return;
        }
        // Without it a small reply waits for the peer's delayed ack, some 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, "TCP_NODELAY: {error}");
        }
        connections.spawn(serve(stream, peer, Arc::clone(&self.shared)));
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Boxed, so that an idle connection does not keep the room the handshake needed.
    let greeted = Box::pin(handshake::greet(&mut stream, peer, &shared)).await;
    match greeted {
        Ok(Some(greeted)) => {
            tracing::debug!(%peer, "connection opened");
            Connection::new(stream, peer, shared, greeted).await;
            tracing::debug!(%peer, "connection closed");
        }
        Ok(None) => farewell::read_out(&mut stream).await,
        Err(error) => tracing::debug!(%peer, "handshake: {error}"),
    }
}
