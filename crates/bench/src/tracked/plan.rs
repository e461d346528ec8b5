//! What the threads of a tracked run send, and how.

use crate::args::{BenchArgs, By};
use crate::outgoing::Writes;

/// What to send and how.
pub(super) struct Plan {
    pub(super) by: By,
    pub(super) exchange: String,
    /// Used in turn.
    pub(super) routing_keys: Vec<String>,
    pub(super) size_bytes: usize,
    /// The most messages per producer that are not done.
    pub(super) window: u64,
    /// Messages per producer; 0 for no limit.
    pub(super) count: u64,
    pub(super) prefetch: u16,
    pub(super) ack_every: u64,
    pub(super) writes: Writes,
}

impl Plan {
    pub(super) fn new(args: &BenchArgs, by: By) -> Self {
        // A worker that waits for confirms has not yet acknowledged everything that its producer
        // knows to be done; with room for twice the window, that never keeps messages from it.
        let prefetch = (args.confirm * 2).min(u64::from(u16::MAX)) as u16;
        Self {
            by,
            exchange: args.exchange.clone(),
            routing_keys: args.topology_plan().queues,
            size_bytes: args.size,
            window: args.confirm,
            count: args.count.unwrap_or(0),
            prefetch: if args.prefetch > 0 { args.prefetch } else { prefetch },
            ack_every: args.ack_every,
            writes: args.writes,
        }
    }
}
