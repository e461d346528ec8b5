//! Names with a meaning in every virtual host, and the names of queues where only their ids are
//! stored.

use std::sync::Arc;

/// The virtual host that exists from the start.
pub const DEFAULT_VHOST: &str = "/";

/// The exchange that workers publish results and errors to.
pub(crate) const REPORT_EXCHANGE: &str = "amq.wilco.report";
/// The topic exchange that has every outcome.
pub(crate) const OUTCOMES_EXCHANGE: &str = "amq.wilco.outcomes";
/// The pseudo queue of direct reply-to, and the prefix of its addresses.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Virtual host and name of a queue.
pub(crate) type QueueNames = (Arc<str>, Arc<str>);
