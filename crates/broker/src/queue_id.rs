//! How queues are identified where a name may be reused for another queue.

/// Identifies a queue for as long as the store exists; never reused after the queue is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);
