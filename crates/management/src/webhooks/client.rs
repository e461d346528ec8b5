//! One POST to a webhook: resolves, checks the addresses, connects to a checked one, and reads the
//! status. Follows no redirect, keeps no connection, reads no body.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::uri::{Authority, Scheme};
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::address::is_public;

/// How long a call may take, everything included.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A place to call, checked as far as that goes without resolving it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    uri: Uri,
    authority: Authority,
    is_tls: bool,
}

/// Why a URL is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// It is no such URL.
    #[error("{0}")]
    Url(&'static str),
    /// Its address is not one of the public internet.
    #[error("it is at a private address, which webhooks.allow_private_addresses does not allow")]
    Private,
}

impl Target {
    /// Reads a URL.
    pub(crate) fn parse(url: &str, allow_private: bool) -> Result<Self, TargetError> {
        let wrong = |reason| Err(TargetError::Url(reason));
        let Ok(uri) = url.parse::<Uri>() else { return wrong("it is no URL") };
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return wrong("it does not begin with https:// or http://"),
        };
        let Some(authority) = uri.authority().cloned() else { return wrong("it has no host") };
        if authority.as_str().contains('@') {
            return wrong("it has a user name; requests are signed by the secret instead");
        }
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.strip_prefix(authority.as_str()).unwrap_or_default();
        // RFC 3986, section 3.3 and 3.4; there is no use for a fragment.
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&b))
        {
            return wrong("its path has characters that are to be percent-encoded");
        }
        let target = Self { uri, authority, is_tls };
        let port = target.authority.as_str().strip_prefix(target.authority.host());
        if port.is_none_or(|port| !port.is_empty() && !is_port(port)) {
            return wrong("its port is not one from 1 to 65535");
        }
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let host = target.host();
        match host.parse() {
            // A name is checked when it is resolved, each time; a literal address now as well.
            Ok(ip) if !allow_private && !is_public(ip) => Err(TargetError::Private),
            Ok(_) => Ok(target),
            Err(_) if !host.is_empty() && host.bytes().all(is_name_byte) => Ok(target),
            Err(_) => wrong("its host is neither a name nor an address"),
        }
    }

    /// The host, an IPv6 address without its brackets.
    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }
}

/// Whether this is `:` and a port.
fn is_port(text: &str) -> bool {
    let number = text.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    number.and_then(|number| number.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

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

    /// Posts JSON with these headers. The error says what went wrong before there was a status.
    pub(crate) async fn post(
        &self,
        target: &Target,
        headers: [(&str, String); 3],
        body: Bytes,
    ) -> Result<StatusCode, String> {
        let call = self.call(target, headers, body);
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} seconds", CALL_TIMEOUT.as_secs())),
        }
    }

    async fn call(
        &self,
        target: &Target,
        headers: [(&str, String); 3],
        body: Bytes,
    ) -> Result<StatusCode, String> {
        let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .header(header::HOST, target.authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("wilco/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let stream = self.connect(target).await?;
        if !target.is_tls {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(target.host().to_owned())
            .map_err(|_| "its host is no name that a certificate could be for".to_owned())?;
        let stream = self.tls().await?.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        exchange(stream, request).await
    }

    /// Connects to one of the target's addresses: each is checked, and it is the checked address
    /// itself that is connected to, so the name cannot mean something else a moment later.
    async fn connect(&self, target: &Target) -> Result<TcpStream, String> {
        let resolved = tokio::net::lookup_host((target.host(), target.port())).await;
        let addresses = resolved.map_err(|error| format!("cannot resolve the host: {error}"))?;
        let mut result = Err("the host has no address".to_owned());
        for address in addresses {
            result = self.connect_to(address).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, String> {
        if !self.allow_private && !is_public(address.ip()) {
            return Err(TargetError::Private.to_string());
        }
        let connected: io::Result<TcpStream> = TcpStream::connect(address).await;
        connected.map_err(|error| format!("cannot connect: {error}"))
    }

    /// Reads the machine's certificates, once.
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

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    // Ends when the sender is dropped, or before.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    connection.abort();
    response.map(|response| response.status()).map_err(|error| format!("HTTP: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_they_are_called() {
        let check = |url: &str, allow_private, expected: Result<(&str, u16), &str>| {
            let target = Target::parse(url, allow_private);
            let found = target.as_ref().map(|target| (target.host(), target.port()));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{url}"),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{url}: {found}");
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        };
        check("https://example.com/hook?a=b", false, Ok(("example.com", 443)));
        check("http://example.com:8080", false, Ok(("example.com", 8080)));
        check("http://[2606:4700::1111]/", false, Ok(("2606:4700::1111", 80)));
        check("http://127.0.0.1/", true, Ok(("127.0.0.1", 80)));
        check("http://127.0.0.1/", false, Err("private"));
        check("http://[::1]:80/", false, Err("private"));
        check("http://[::ffff:10.0.0.1]/", false, Err("private"));
        check("ftp://example.com/", false, Err("https://"));
        check("/hook", false, Err("https://"));
        check("https://user:word@example.com/", false, Err("user name"));
        check("not a url", false, Err("no URL"));
        check("https://example.com:0/", false, Err("port"));
        check("https://example.com:65536/", false, Err("port"));
        check("https://ex*mple.com/", false, Err("neither"));
        check("https://example.com/a|b", false, Err("percent-encoded"));
        check("https://example.com/#a", false, Err("percent-encoded"));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_once_it_is_resolved() {
        let target = Target::parse("http://localhost:9/", false).expect("a target");
        let headers = [("webhook-id", String::new()), ("a", String::new()), ("b", String::new())];
        let error = Client::new(false).post(&target, headers, Bytes::new()).await.unwrap_err();
        assert!(error.contains("private"), "{error}");
    }
}
