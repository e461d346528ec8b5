//! What can be wrong with TLS, and what to do about it, in words.

use std::io;

use tokio_rustls::rustls::{self, AlertDescription as Alert, CertificateError as Certificate};

/// Why TLS does not get anywhere; each text says what to do. In an [`io::Error`] on its way up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    /// Something else answers.
    #[error("the other side does not speak TLS")]
    NotTls,
    /// One side does not trust the other, they have nothing in common, or our files cannot be used.
    #[error("{0}")]
    Failed(String),
}

impl TlsError {
    /// What the socket's owner was told, if it is about TLS.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What rustls has said, in our words.
    pub(super) fn explain(error: &rustls::Error, has_certificate: bool) -> Self {
        let text = match error {
            rustls::Error::InvalidCertificate(why) => certificate(why),
            rustls::Error::AlertReceived(alert) => self::alert(*alert, has_certificate),
            error => format!("TLS: {error}"),
        };
        Self::Failed(text)
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}

/// What is wrong with the broker's certificate.
fn certificate(why: &Certificate) -> String {
    let remedy = match why {
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            return "the broker's certificate is not trusted: none of the known authorities has \
                    issued it; cacertfile=PATH in the URL names the file of the one that has"
                .to_owned();
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "the broker needs a new one, unless the clock of this machine is wrong"
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "check the clock of this machine"
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "connect to a name that it is for, or say which with server_name_indication=NAME in the URL"
        }
        Certificate::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            return "the broker's certificate cannot be accepted: it is an authority's own, made to issue \
                    others (openssl req -x509 makes such); the broker needs one that is made with \
                    basicConstraints=CA:FALSE"
                .to_owned();
        }
        _ => "the broker needs another one",
    };
    format!("the broker's certificate cannot be accepted: {why}; {remedy}")
}

/// What the broker has against us.
fn alert(alert: Alert, has_certificate: bool) -> String {
    let remedy = match alert {
        Alert::ProtocolVersion => "it has to have TLS 1.2 or 1.3",
        Alert::UnrecognisedName => {
            "check the host's name, or say another with server_name_indication=NAME"
        }
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::HandshakeFailure => match has_certificate {
            true => "check that it accepts the certificate that certfile in the URL names",
            false => {
                "it may demand a certificate: certfile=PATH and keyfile=PATH in the URL name one and its key"
            }
        },
        _ => "its log may say why",
    };
    format!("the broker does not go on with TLS: {alert:?}; {remedy}")
}
