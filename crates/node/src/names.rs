//! Names with a meaning in every virtual host, and the names of queues where only their ids are
//! stored.

use std::sync::Arc;

/// The virtual host that exists from the start.
pub const DEFAULT_VHOST: &str = "/";

/// The exchange that workers publish results and errors to.
pub(crate) const REPORT_EXCHANGE: &str = "amq.wilco.report";
/// The topic exchange that has every outcome.
pub(crate) const OUTCOMES_EXCHANGE: &str = "amq.wilco.outcomes";
/// The exchange that takes questions about messages.
pub(crate) const QUERY_EXCHANGE: &str = "amq.wilco.query";
/// The pseudo queue of direct reply-to, and the prefix of its addresses.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether nothing but a worker's report, a question, a reply or the broker itself goes there.
pub fn is_reserved_target(exchange: &str, routing_key: &[u8]) -> bool {
    [REPORT_EXCHANGE, OUTCOMES_EXCHANGE, QUERY_EXCHANGE].contains(&exchange)
        || exchange.is_empty() && routing_key.starts_with(REPLY_TO.as_bytes())
}

/// What divides the name of a virtual host from its incarnation, in the log and in the ledger. No name
/// has control characters.
const INCARNATION: char = '\0';

/// What the log and the ledger call a virtual host: its name, and its incarnation if it is not the
/// first. So one that is deleted and added again knows nothing of what was there before.
pub(crate) fn realm(vhost: &str, incarnation: u64) -> Arc<str> {
    match incarnation {
        0 => vhost.into(),
        _ => format!("{vhost}{INCARNATION}{incarnation}").into(),
    }
}

/// The name of the virtual host that is called this.
pub(crate) fn vhost_of_realm(realm: &str) -> &str {
    realm.split(INCARNATION).next().unwrap_or(realm)
}

/// Realm of the virtual host, and name, of a queue.
pub(crate) type QueueNames = (Arc<str>, Arc<str>);
