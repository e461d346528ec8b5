//! The control socket: how `wilco user|vhost|permission` reach a running server.
//!
//! `control.sock` in the data directory, open to the owner only (mode 0600): who may write the
//! store's files may change what is in them. One JSON [`Request`] a line, one JSON [`Response`] a
//! line back. Where no server runs, [`call`] opens the store itself and does the same to it.
//!
//! Never does: decide what a request means. That is [`execute()`]'s, the same for both ways.

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
