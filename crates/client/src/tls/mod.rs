//! TLS 1.2 and 1.3, as rustls has them: the options in a URL, the files that they name, and the socket.
//!
//! *Invariants:* files are read again for each connection, so what has been renewed is used by the next
//! one. Nothing that is secret is in an error's text.

mod config;
mod error;
mod options;
mod socket;
mod unverified;

pub(crate) use self::error::TlsError;
pub(crate) use self::options::TlsOptions;
pub(crate) use self::socket::TlsSocket;
