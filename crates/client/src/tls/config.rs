//! Reads the files that the URL names.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

use super::{TlsError, TlsOptions, unverified};

/// What rustls needs for one connection. Blocks on files.
pub(super) fn read(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Failed(format!("TLS: {error}")))?;
    let builder = match options.verifies {
        true => builder.with_root_certificates(roots(options.cacertfile.as_deref())?),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(unverified::Anybody::new(&provider))),
    };
    let mut config = match &options.certfile {
        None => builder.with_no_client_auth(),
        Some(certfile) => {
            let keyfile = options.keyfile.as_ref().unwrap_or(certfile);
            let (chain, key) = (certificates("certfile", certfile)?, key(keyfile)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    unusable("keyfile", keyfile, "it is not the key to the certificate in certfile")
                }
                error => unusable("certfile", certfile, error),
            })?
        }
    };
    // A connection that goes on with an earlier one's secrets would not show a renewed certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(cacertfile: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = cacertfile else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let text = "this machine has no certificate authorities (Debian: ca-certificates); \
                        cacertfile=PATH in the URL names a file with some";
            return Err(TlsError::Failed(text.to_owned()));
        }
        return Ok(roots);
    };
    for certificate in certificates("cacertfile", path)? {
        roots.add(certificate).map_err(|error| unusable("cacertfile", path, error))?;
    }
    Ok(roots)
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| unreadable(option, path, error))?;
    match certificates.is_empty() {
        true => Err(unusable(option, path, "there is no certificate in PEM in it")),
        false => Ok(certificates),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let why =
                "there is no private key in PEM in it, or it is encrypted, which is not supported";
            unusable("keyfile", path, why)
        }
        error => unreadable("keyfile", path, error),
    })
}

fn unreadable(option: &str, path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => unusable(option, path, error),
        // Says only what is wrong, and perhaps the name of a section.
        error => unusable(option, path, error),
    }
}

fn unusable(option: &str, path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::Failed(format!("{option}={} in the URL cannot be used: {why}", path.display()))
}
