//! Clients of the brokers, and how they are let in.

use std::time::Duration;

use krafka::Kafka;
use krafka::auth::AuthConfig;

use super::errors;
use super::publishing::REQUEST_TIMEOUT;
use crate::error::Error;
use crate::tls::TlsOptions;
use crate::url::{Address, Mechanism};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes clients of the brokers.
///
/// A broker answers what comes on one connection one after the other, also what waits for messages: so whoever
/// reads has connections of its own.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) address: Address,
}

impl Clients {
    pub(super) async fn connect(&self) -> Result<Kafka, Error> {
        let Self { address } = self;
        let hosts = address.hosts.iter().map(|(host, port)| place(host, *port));
        Kafka::builder(hosts.collect::<Vec<_>>().join(","))
            .client_id(address.connection_name())
            .security(security(address))
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT)
            .allow_auto_create_topics(false)
            .connect()
            .await
            .map_err(|error| errors::unreachable(address, &error))
    }
}

fn place(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// How to be let in.
fn security(address: &Address) -> AuthConfig {
    let Address { user, password, mechanism, .. } = address;
    let login = match mechanism {
        _ if user.is_empty() => AuthConfig::plaintext(),
        Mechanism::Plain | Mechanism::External => AuthConfig::sasl_plain(user, password),
        Mechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(user, password),
        Mechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(user, password),
    };
    match address.tls.as_ref().map(TlsOptions::for_kafka) {
        None => login,
        Some(tls) if user.is_empty() => AuthConfig::ssl(tls),
        Some(tls) => login.with_tls(tls),
    }
}
