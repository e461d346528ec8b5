//! TLS in front of a broker that has none.

use std::net::TcpListener;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion, crypto, version,
};

use super::certificates::{Authority, Identity};

/// Each version that there is.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// What it speaks, and whom it lets in.
pub(super) struct Terms<'a> {
    pub(super) version: &'static SupportedProtocolVersion,
    /// The broker's certificate.
    pub(super) identity: &'a Identity,
    /// Who must have issued the client's.
    pub(super) clients: Option<&'a Authority>,
}

/// Takes TLS off, and passes the rest on. It ends with the process.
pub(super) struct Terminator {
    port: u16,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl Terminator {
    pub(super) fn start(target: String, terms: &Terms<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        listener.set_nonblocking(true).expect("it is a socket");
        let acceptor = TlsAcceptor::from(Arc::new(config(terms)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shows = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((client, _)) = listener.accept().await {
                    let seen = Arc::clone(&shows);
                    tokio::spawn(pass(acceptor.clone(), client, target.clone(), seen));
                }
            });
        });
        Self { port, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The certificates of clients that were let in, in order.
    pub(super) fn seen(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().clone()
    }
}

async fn pass(
    acceptor: TlsAcceptor,
    client: TcpStream,
    target: String,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
) {
    let Ok(mut client) = acceptor.accept(client).await else { return };
    if let Some([certificate, ..]) = client.get_ref().1.peer_certificates() {
        seen.lock().push(certificate.clone().into_owned());
    }
    let Ok(mut broker) = TcpStream::connect(target).await else { return };
    // However it ends, both are closed.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
}

fn config(terms: &Terms<'_>) -> ServerConfig {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[terms.version])
        .expect("a version");
    let builder = match terms.clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let (chain, key) = terms.identity.load();
    builder.with_single_cert(chain, key).expect("a certificate")
}
