//! The AMQP listener and the life of each of its connections.
//!
//! Who may come in is the admission's business; here is said when a peer is known: once its
//! handshake is done.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use listener::{Admission, Listener, Place};
use node::Node;
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Connection;
use crate::farewell;
use crate::handshake;

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
    /// What bounds the connections of all listeners of the process.
    pub admission: Admission,
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
            admission: Admission::unlimited(),
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
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds the listening socket.
    ///
    /// # Errors
    /// What the operating system says: the port is taken, the address is not ours.
    pub async fn bind(node: Arc<Node>, options: Options) -> io::Result<Self> {
        let socket = listener::bind(options.address)?;
        let shared = Shared { node, options, is_stopping: AtomicBool::new(false) };
        Ok(Self { address: socket.local_addr()?, socket, shared: Arc::new(shared) })
    }

    /// Where it listens: the port is a real one even where any was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; then closes every connection in good order, with what can
    /// be confirmed confirmed, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { socket, shared, .. } = self;
        let Options { admission, connections_max, .. } = &shared.options;
        let listener = Listener::new(socket, "AMQP", admission, *connections_max);
        let serve = |place, stream, peer| serve(place, stream, peer, Arc::clone(&shared));
        let connections = listener.run(serve, shutdown).await;
        shared.is_stopping.store(true, Ordering::Release);
        shared.node.wake_connections();
        connections.farewell().await;
    }
}

async fn serve(place: Place, mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Boxed, so that an idle connection does not keep the room the handshake needed.
    let greeted = Box::pin(handshake::greet(&mut stream, peer, &place, &shared)).await;
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
