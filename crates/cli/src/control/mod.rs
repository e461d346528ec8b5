//! The control socket: how `wilco user|vhost|permission` reach a running server.
//!
//! `control.sock` in the data directory, open to the owner only (mode 0600): whoever may write the
//! store's files may change what is in them. Each request is one line with a JSON [`Request`], each
//! response one with a JSON [`Response`]. If no server runs, [`call`] opens the store itself and
//! executes the request on it.
//!
//! Never decides what a request means. [`execute()`] does, in both cases.

mod client;
mod execute;
mod listener;
mod protocol;
mod socket;

pub(crate) use client::call;
pub(crate) use execute::execute;
pub(crate) use listener::Listener;
pub(crate) use protocol::{PermissionEntry, Request, Response, UserEntry};

#[cfg(test)]
mod tests;
