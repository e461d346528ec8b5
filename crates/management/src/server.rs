//! The HTTP listener and its connections, and a stop that leaves no client hanging.
//!
//! Admission decides who may come in; this module says when a connection counts as silent: whenever
//! no request is under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Listener, Place};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::app::App;
use crate::auth::Peer;
use crate::error::ManagementError;
use crate::names::Names;
use crate::options::Options;
use crate::ports::Ports;
use crate::queries::Queries;
use crate::router::router;
use crate::stopping::{Stop, Stopping};
use crate::under_way::UnderWay;
use crate::webhooks::{self, Webhooks};

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The running HTTP server, and what answers questions over AMQP.
pub struct Management {
    address: Option<SocketAddr>,
    stop: Stop,
    serving: Option<JoinHandle<()>>,
    app: App,
}

impl Management {
    /// Starts to serve requests and to deliver to webhooks; without a listener there are neither, and
    /// only [`queries`](Self::queries) are answered.
    ///
    /// # Errors
    /// [`ManagementError`]: the webhooks cannot be read, the listener is broken.
    pub fn start(
        listener: Option<TcpListener>,
        ports: Ports,
        options: Options,
    ) -> Result<Self, ManagementError> {
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let stop = Stop::new();
        let stopping = stop.listen();
        let of_webhooks = webhooks::Options {
            data: &options.data,
            allow_private_addresses: options.allow_private_addresses,
            retry_delays: options.retry_delays.clone(),
        };
        let open = || Webhooks::open(ports.clone(), of_webhooks);
        let webhooks = listener.is_some().then(open).transpose()?;
        let names = Names::new(&options.names);
        let app = App::new(ports, webhooks, options.waiting_count_max, names, stopping.clone());
        let serving = listener.map(|listener| {
            let Options { admission, connections_max, .. } = &options;
            let listener = Listener::new(listener, "HTTP", admission, *connections_max);
            tokio::spawn(serve(listener, router(app.clone()), stopping))
        });
        Ok(Self { address, stop, serving, app })
    }

    /// The address it listens on, if it does.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What answers questions as the same calls over HTTP would.
    pub fn queries(&self) -> Queries {
        Queries::new(self.app.clone())
    }

    /// Stops: feeds and long polls end at once, other requests are finished, all within seconds.
    pub async fn stop(self) {
        self.stop.stop();
        if let Ok(webhooks) = self.app.webhooks() {
            webhooks.stop().await;
        }
        let Some(serving) = self.serving else { return };
        if let Err(error) = serving.await {
            tracing::error!("HTTP: {error}");
        }
    }
}

async fn serve(listener: Listener, router: Router, stopping: Stopping) {
    let mut stopped = stopping.clone();
    let converse =
        |place, stream, peer| converse(place, stream, peer, router.clone(), stopping.clone());
    let connections = listener.run(converse, stopped.stopped()).await;
    connections.farewell().await;
}

/// Serves one connection.
async fn converse(
    place: Place,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopping: Stopping,
) {
    let place = Arc::new(place);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let under_way = UnderWay::new(&place);
        request.extensions_mut().insert(Peer(peer.ip()));
        request.extensions_mut().insert(Arc::clone(&place));
        let answer = Service::call(&mut router.clone(), request);
        async move { answer.await.map(|answer| answer.map(|body| under_way.until_end_of(body))) }
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
