//! Posts to a webhook: resolves the host, checks its addresses, connects to a checked one, and
//! reads the status. Follows no redirects.
//!
//! A connection is kept for the next call to the same endpoint ([`Kept`]). The receiver may have
//! closed a kept connection just as it is used again; then the call is made once more, over a new
//! one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::address::is_public;
use super::connection::{Answered, Connection, Kept};
use super::endpoint::{Endpoint, EndpointError};

/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Calls webhooks.
pub(crate) struct Client {
    allow_private: bool,
    tls: OnceCell<TlsConnector>,
}

impl Client {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self { allow_private, tls: OnceCell::new() }
    }

    pub(crate) fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// Posts JSON with these headers, over the kept connection if possible. The error says what
    /// went wrong before there was a status.
    pub(crate) async fn post(
        &self,
        kept: &mut Kept,
        endpoint: &Endpoint,
        headers: [(&str, String); 3],
        body: Bytes,
    ) -> Result<StatusCode, String> {
        let call = self.call(kept.take(endpoint), endpoint, headers, body);
        let (status, answered) = match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result?,
            Err(_) => return Err(format!("no answer within {} seconds", CALL_TIMEOUT.as_secs())),
        };
        if status.is_success() {
            kept.put(endpoint, answered).await;
        }
        Ok(status)
    }

    async fn call(
        &self,
        before: Option<Connection>,
        endpoint: &Endpoint,
        headers: [(&str, String); 3],
        body: Bytes,
    ) -> Result<(StatusCode, Answered), String> {
        let mut request = Request::post(endpoint.path())
            .header(header::HOST, endpoint.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("wilco/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let failed = |error: hyper::Error| format!("HTTP: {error}");
        if let Some(connection) = before {
            match connection.send(request.clone()).await {
                // It was closed. Anything else is an answer, if not a good one.
                Err(error) if !error.is_parse() => {}
                answered => return answered.map_err(failed),
            }
        }
        self.connect(endpoint).await?.send(request).await.map_err(failed)
    }

    /// Opens a new connection.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, String> {
        let stream = self.dial(endpoint).await?;
        if !endpoint.is_tls() {
            return Connection::over(stream).await;
        }
        let name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|_| "its host is no name that a certificate could be for".to_owned())?;
        let stream = self.tls().await?.connect(name, stream).await;
        Connection::over(stream.map_err(|error| format!("TLS: {error}"))?).await
    }

    /// Connects to one of the endpoint's addresses: each is checked, and the connection goes to the
    /// checked address itself, so the name cannot stand for something else a moment later.
    async fn dial(&self, endpoint: &Endpoint) -> Result<TcpStream, String> {
        let resolved = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await;
        let addresses = resolved.map_err(|error| format!("cannot resolve the host: {error}"))?;
        let mut result = Err("the host has no address".to_owned());
        for address in addresses {
            result = self.dial_one(address).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn dial_one(&self, address: SocketAddr) -> Result<TcpStream, String> {
        if !self.allow_private && !is_public(address.ip()) {
            return Err(EndpointError::Private.to_string());
        }
        let connected: io::Result<TcpStream> = TcpStream::connect(address).await;
        connected.map_err(|error| format!("cannot connect: {error}"))
    }

    /// Reads the machine's certificates on first use.
    async fn tls(&self) -> Result<&TlsConnector, String> {
        let make = || async {
            let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let loaded = loaded.map_err(|error| error.to_string())?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                let reason =
                    "this machine has no certificate authorities (Debian: ca-certificates)";
                return Err(reason.to_owned());
            }
            let provider = Arc::new(crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        };
        self.tls.get_or_try_init(make).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_once_it_is_resolved() {
        let endpoint = Endpoint::parse("http://localhost:9/", false).expect("an endpoint");
        let headers = [("webhook-id", String::new()), ("a", String::new()), ("b", String::new())];
        let error = Client::new(false)
            .post(&mut Kept::default(), &endpoint, headers, Bytes::new())
            .await
            .unwrap_err();
        assert!(error.contains("private"), "{error}");
    }
}
