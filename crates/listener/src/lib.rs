//! Accepting TCP connections, for every protocol alike.
//!
//! [`OpenFiles`] is how many files the process may have open, [`Admission`] decides who may connect
//! and who must make way, [`Listener`] is the accept loop, and [`Connections`] are what it
//! accepted. The protocol spoken on a connection is not this crate's business: it is a future, made
//! from the stream and the connection's [`Place`].
//!
//! *Invariants:* connections leave the store the files it needs; a silent peer keeps nobody out,
//! and a known peer is never disconnected to admit somebody new.

mod accept;
mod admission;
mod connections;
mod open_files;
mod places;
mod seldom;

pub use accept::{Listener, bind};
pub use admission::{Admission, Place};
pub use connections::Connections;
pub use open_files::OpenFiles;
