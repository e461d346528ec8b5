//! How queues are named where names may change hands.

/// Names a queue for as long as the store lives; never used again after the queue is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);
