//! Certificates, made for one test, in a directory of its own.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority, and the directory with the files.
pub(super) struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { directory, issuer }
    }

    /// The file with its own certificate.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// For a broker or a client of this name.
    pub(super) fn issue(&self, name: &str) -> Identity {
        self.issue_until(name, 2100)
    }

    pub(super) fn issue_until(&self, name: &str, year: i32) -> Identity {
        self.issue_as(name, year, IsCa::NoCa)
    }

    /// One that may issue others, as `openssl req -x509` makes them.
    pub(super) fn issue_authority(&self, name: &str) -> Identity {
        self.issue_as(name, 2100, IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue_as(&self, name: &str, year: i32, is_ca: IsCa) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = is_ca;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let identity = Identity::of(self.directory.path(), name);
        std::fs::write(&identity.certificate, certificate.pem()).expect("written");
        std::fs::write(&identity.key, key.serialize_pem()).expect("written");
        identity
    }
}

impl Identity {
    fn of(directory: &Path, name: &str) -> Self {
        let file = |what: &str| directory.join(format!("{name}.{what}.pem"));
        Self { certificate: file("certificate"), key: file("key") }
    }

    pub(super) fn load(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("a certificate");
        (vec![certificate], PrivateKeyDer::from_pem_file(&self.key).expect("a key"))
    }

    /// The options of a URL that name it.
    pub(super) fn options(&self) -> String {
        format!("certfile={}&keyfile={}", self.certificate.display(), self.key.display())
    }
}
