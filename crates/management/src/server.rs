//! The listener and its connections: bounds on both, and a stop that leaves nobody hanging.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use node::Node;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use crate::app::App;
use crate::auth::Peer;
use crate::stopping::{Stop, Stopping};
use crate::webhooks::Webhooks;
use crate::{ManagementError, Options};

/// How long requests under way have when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a request's head may take, and a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when the process has no file descriptor left for a new connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The HTTP server, running.
pub struct Management {
    address: SocketAddr,
    stop: Stop,
    serving: JoinHandle<()>,
    app: App,
}

impl Management {
    /// Starts to serve, and to deliver webhooks.
    ///
    /// # Errors
    /// [`ManagementError`]: the webhooks cannot be read, the listener is broken.
    pub fn start(
        listener: TcpListener,
        node: Arc<Node>,
        options: Options,
    ) -> Result<Self, ManagementError> {
        let address = listener.local_addr()?;
        let stop = Stop::new();
        let stopping = stop.listen();
        let webhooks = Webhooks::open(Arc::clone(&node), &options)?;
        let app = App::new(node, webhooks, options.waiting_count_max, stopping.clone());
        let router = app.clone().router();
        let connections_max = options.connections_max;
        let serving = tokio::spawn(serve(listener, router, stopping, connections_max));
        Ok(Self { address, stop, serving, app })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: feeds and long polls end at once, other requests are finished, within seconds.
    pub async fn stop(self) {
        self.stop.stop();
        self.app.webhooks().stop().await;
        if let Err(error) = self.serving.await {
            tracing::error!("HTTP: {error}");
        }
    }
}

async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopping: Stopping,
    connections_max: usize,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.stopped() => break,
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= connections_max => {
                    tracing::warn!(%peer, "HTTP connection refused: there are too many");
                }
                Ok((stream, peer)) => {
                    connections.spawn(converse(stream, peer, router.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!("cannot accept an HTTP connection: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("some HTTP requests did not end in time");
    }
    connections.shutdown().await;
}

/// One connection.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, mut stopping: Stopping) {
    // Events of a feed are small and must not wait for the peer's delayed ack.
    let _: io::Result<()> = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        let mut router = router.clone();
        Service::call(&mut router, request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = stopping.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, "HTTP: {error}");
    }
}
