//! Accepting TCP connections, for every protocol alike.
//!
//! [`OpenFiles`] is how many files the process may have open, [`Admission`] who may come in and who
//! has to go for it, [`Listener`] the loop that accepts, and [`Connections`] what it accepted. What
//! is spoken on a connection is none of its business: that is a future, made from the stream and
//! the connection's [`Place`].
//!
//! *Invariants:* connections leave the store the files it needs; who has not said anything keeps
//! nobody out, and who is known is never sent away for somebody new.

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
