//! Events for tests.

use broker::Outcome;

use crate::ledger::Sizes;
use crate::{Cursor, Event, IdHash, Published, PublishedQueue, Settled, What};

/// Sizes at which a few dozen events fill everything.
pub(crate) fn tiny() -> Sizes {
    Sizes {
        page_bytes: 300,
        stretch_bytes: 700,
        segment_bytes: 4000,
        query_bytes: 1500,
        memory_entries: 10,
        fan_in: 3,
        step_entries: 7,
    }
}

/// The id of message `n`.
pub(crate) fn id(n: u64) -> String {
    let mixed = u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let hex = format!("{mixed:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

pub(crate) fn hash(n: u64) -> IdHash {
    IdHash::new("/", &id(n))
}

pub(crate) fn published(position: u64, time_ms: u64, n: u64) -> Event<'static> {
    let what = What::Published(Published {
        vhost: "/".into(),
        id: id(n).into(),
        routing_key: "orders".into(),
        queues: vec![PublishedQueue { id: 1, name: "orders".into() }],
        position,
        body_bytes: 100,
        is_deduplicated: true,
        ..Published::default()
    });
    Event { at: Cursor { position, nth: 0 }, id: hash(n), time_ms, what }
}

pub(crate) fn settled(at: Cursor, time_ms: u64, n: u64, outcome: Outcome) -> Event<'static> {
    let queue = if n.is_multiple_of(2) { "orders" } else { "mails" };
    let what = What::Settled(Box::new(Settled {
        vhost: if n.is_multiple_of(3) { "/" } else { "other" }.into(),
        message_id: id(n).into(),
        queue: queue.into(),
        outcome,
        reason: "".into(),
        attempts: 1,
        queue_count: 1,
        worker: "w".into(),
        error: None,
        content_type: None,
        result: None,
        is_unverified: false,
        is_late: false,
        is_copy: false,
        is_notified: false,
        dead_letter_exchange: None,
        published_at_ms: time_ms.saturating_sub(5),
        message: None,
    }));
    Event { at, id: hash(n), time_ms, what }
}
