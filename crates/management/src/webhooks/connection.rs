//! A connection to the receiver of a webhook, and when it may be used again.
//!
//! Owns the limits of keeping one: only for the same endpoint, never after a failure, never with an
//! unread response, not for ever. Addresses are checked when a connection is made, so a kept one is
//! never used for another endpoint. Its age is bounded, so that a name which has come to stand for
//! another address is resolved again.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::endpoint::Endpoint;

/// The longest that a connection is used.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long the body of a response, which nobody reads, may take to end, if the connection is to be
/// kept.
const REST_TIMEOUT: Duration = Duration::from_millis(200);
/// How many bytes that body may have.
const REST_BYTES_MAX: usize = 64 << 10;

/// An open connection with no request under way. Closed when dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    opened_at: Instant,
    _driver: Driver,
}

/// A connection on which a response has arrived, except for its body.
pub(super) struct Answered {
    connection: Connection,
    rest: Incoming,
}

impl Connection {
    /// HTTP over a connected stream.
    pub(super) async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        stream: S,
    ) -> Result<Self, String> {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a webhook's connection: {error}");
            }
        }));
        Ok(Self { sender, opened_at: Instant::now(), _driver: driver })
    }

    /// Sends a request. If this is interrupted or fails, the connection is closed.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Answered), hyper::Error> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, Answered { connection: self, rest: response.into_body() }))
    }
}

/// The task that reads and writes for a connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The connection of one webhook between its calls, if there is one.
#[derive(Default)]
pub(crate) struct Kept(Option<(Endpoint, Connection)>);

impl Kept {
    /// Closes it.
    pub(crate) fn close(&mut self) {
        self.0 = None;
    }

    /// The connection, if it is to this endpoint and fit for use; otherwise it is closed.
    pub(super) fn take(&mut self, endpoint: &Endpoint) -> Option<Connection> {
        let (of, connection) = self.0.take()?;
        let is_fit = of == *endpoint
            && connection.opened_at.elapsed() < AGE_MAX
            && !connection.sender.is_closed();
        is_fit.then_some(connection)
    }

    /// Keeps a connection, unless its response does not end.
    pub(super) async fn put(&mut self, endpoint: &Endpoint, answered: Answered) {
        let Answered { connection, rest } = answered;
        let rest = Limited::new(rest, REST_BYTES_MAX).collect();
        if timeout(REST_TIMEOUT, rest).await.is_ok_and(|rest| rest.is_ok()) {
            self.0 = Some((endpoint.clone(), connection));
        }
    }
}
