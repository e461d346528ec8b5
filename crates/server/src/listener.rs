//! The AMQP listener and the life of each of its connections.
//!
//! Admission decides who may come in; this module says when a peer counts as known: once its
//! handshake is done.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use listener::{Listener, Place};
use node::Node;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::connection::Connection;
use crate::farewell;
use crate::handshake;
use crate::options::Options;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::ticker::Ticker;

/// A listening server.
pub struct Server {
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Binds the listening socket.
    ///
    /// # Errors
    /// Those of the operating system: the port is taken, or the address is not one of ours.
    pub async fn bind(node: Arc<Node>, options: Options) -> io::Result<Self> {
        let socket = listener::bind(options.address)?;
        let shared = Shared::new(node, options, Some(Ticker::start()?));
        Ok(Self { address: socket.local_addr()?, socket, shared })
    }

    /// Where it listens: with the actual port, even if any was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; then confirms what can be confirmed, closes every
    /// connection in good order, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { socket, shared, .. } = self;
        let Options { admission, connections_max, .. } = &shared.options;
        let listener = Listener::new(socket, "AMQP", admission, *connections_max);
        let serve = |place, stream, peer| serve(Some(place), stream, peer, Arc::clone(&shared));
        let connections = listener.run(serve, shutdown).await;
        shared.is_stopping.store(true, Ordering::Release);
        shared.node.wake_connections();
        connections.farewell().await;
    }
}

/// Serves a stream that this server did not accept itself, from the client's greeting to the end.
/// `peer` is taken as its client's address.
pub async fn serve_stream<S>(node: Arc<Node>, options: Options, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin,
{
    serve(None, stream, peer, Shared::new(node, options, None)).await;
}

async fn serve(
    place: Option<Place>,
    mut stream: impl Stream,
    peer: SocketAddr,
    shared: Arc<Shared>,
) {
    // Boxed, so that an idle connection does not keep the memory that the handshake needed.
    let greeted = Box::pin(handshake::greet(&mut stream, peer, place.as_ref(), &shared)).await;
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
