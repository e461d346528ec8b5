//! The calls of `/v1`, a file for each group of them.
//!
//! Owns what a call reads and answers. Never here: which path leads where (`router`), the state of
//! a message (the ports), who sees it (`view`).

pub(crate) mod events;
pub(crate) mod messages;
pub(crate) mod outcomes;
mod outgoing;
mod parameters;
pub(crate) mod publish;
mod waiting;
mod webhook_view;
pub(crate) mod webhooks;
