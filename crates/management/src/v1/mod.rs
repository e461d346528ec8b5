//! The calls of `/v1`, a file for each group of them.
//!
//! Owns what a call reads and answers. Never here: which path leads where (`app`), what a message's
//! state is (`ledger`).

pub(crate) mod events;
pub(crate) mod messages;
pub(crate) mod outcomes;
pub(crate) mod publish;
pub(crate) mod webhooks;
