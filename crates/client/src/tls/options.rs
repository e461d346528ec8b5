//! What a URL says about TLS, under the names that RabbitMQ's clients have for it.

use std::path::PathBuf;

/// How to trust the broker, and how it is to trust us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// PEM with those who may have issued the broker's certificate, instead of the system's.
    pub(super) cacertfile: Option<PathBuf>,
    /// PEM with our certificate, and whatever leads from it to its authority.
    pub(super) certfile: Option<PathBuf>,
    /// PEM with the key to it.
    pub(super) keyfile: Option<PathBuf>,
    /// What the broker's certificate is for, if not for the host in the URL.
    pub(super) server_name: Option<String>,
    /// Whether the broker's certificate is looked at.
    pub(super) verifies: bool,
}

impl TlsOptions {
    /// The system's authorities, the host's name, no certificate of our own.
    pub(crate) fn new() -> Result<Self, String> {
        let (cacertfile, certfile, keyfile, server_name) = (None, None, None, None);
        Ok(Self { cacertfile, certfile, keyfile, server_name, verifies: true })
    }

    /// Sets an option to a value that is decoded already.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{name}= has no value"));
        }
        match name {
            "cacertfile" => self.cacertfile = Some(value.into()),
            "certfile" => self.certfile = Some(value.into()),
            "keyfile" => self.keyfile = Some(value.into()),
            "server_name_indication" => self.server_name = Some(value),
            "verify" => {
                self.verifies = match &*value {
                    "verify_peer" => true,
                    "verify_none" => false,
                    _ => return Err(format!("verify={value:?}: verify_peer or verify_none")),
                }
            }
            _ => return Err(format!("the option {name:?} is none of TLS")),
        }
        Ok(())
    }

    /// Whether what was set goes together.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (&self.certfile, &self.keyfile) {
            (None, Some(_)) => {
                Err("keyfile needs certfile, the certificate to that key".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The same in the words of Kafka's client, which reads the files.
    #[cfg(feature = "kafka")]
    pub(crate) fn for_kafka(&self) -> krafka::auth::TlsConfig {
        use krafka::auth::TlsConfig;

        let Self { cacertfile, certfile, keyfile, server_name, verifies } = self;
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut config = match (verifies, cacertfile) {
            (false, _) => TlsConfig::insecure(),
            (true, Some(path)) => TlsConfig::new().with_ca_cert(text(path)),
            (true, None) => TlsConfig::new().with_native_roots(),
        };
        if let Some(certificate) = certfile {
            let key = keyfile.as_ref().unwrap_or(certificate);
            config = config.with_client_cert(text(certificate), text(key));
        }
        match server_name {
            Some(name) => config.with_sni_hostname(name),
            None => config,
        }
    }

    /// Whether we have a certificate of our own.
    pub(crate) fn has_certificate(&self) -> bool {
        self.certfile.is_some()
    }
}
