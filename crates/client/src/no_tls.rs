//! Takes the place of `tls` without the feature `tls`: the same names, of which nothing can be made.

use std::io;

use tokio::net::TcpStream;

/// Nobody has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsOptions {}

impl TlsOptions {
    pub(crate) fn new() -> Result<Self, String> {
        Err("TLS needs the feature tls of the crate wilco".to_owned())
    }

    pub(crate) fn set(&mut self, _: &str, _: String) -> Result<(), String> {
        match *self {}
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        match *self {}
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn for_kafka(&self) -> krafka::auth::TlsConfig {
        match *self {}
    }

    pub(crate) fn has_certificate(&self) -> bool {
        match *self {}
    }
}

/// Never happens.
#[allow(dead_code, reason = "the driver knows it by its variants")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("")]
    NotTls,
    #[error("{0}")]
    Failed(String),
}

impl TlsError {
    pub(crate) fn of(_: &io::Error) -> Option<&Self> {
        None
    }
}

/// There is none.
pub(crate) enum TlsSocket {}

impl TlsSocket {
    pub(crate) async fn connect(_: &str, _: u16, options: &TlsOptions) -> io::Result<Self> {
        match *options {}
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match *self {}
    }

    pub(crate) fn read(&mut self, _: &mut [u8], _: impl FnMut(&[u8])) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn is_writing(&self) -> bool {
        match *self {}
    }

    pub(crate) fn say_end(&mut self) {
        match *self {}
    }
}
