//! Arguments that are one of a few words.

/// How often a quorum queue redelivers a message by default (RabbitMQ 4).
pub(super) const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// `x-queue-type`. Here both live on one node; they differ in their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// The default: any durability, no delivery limit.
    #[default]
    Classic,
    /// Durable, not exclusive, not auto-delete, with a delivery limit and a delivery count.
    Quorum,
}

impl QueueType {
    /// The value of `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The name RabbitMQ's error texts use.
    pub(super) fn module_name(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// `x-overflow`: what happens to a message that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// `drop-head`: the oldest message is dropped, or dead-lettered if the queue does that.
    #[default]
    DropHead,
    /// `reject-publish`: the new message is refused.
    RejectPublish,
    /// `reject-publish-dlx`: the new message is refused and dead-lettered.
    RejectPublishDlx,
}

/// `x-delayed-retry-type`: which returned messages wait before they are delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryKind {
    /// None: the default.
    #[default]
    Disabled,
    /// Every returned message.
    All,
    /// Those whose delivery failed (its delivery count went up).
    Failed,
    /// Those given back without a failure.
    Returned,
}
