//! Events for tests.

use std::collections::BTreeMap;

use outcome::{
    Cursor, Details, Event, Flags, IdHash, Outcome, OutcomeQuery, Published, PublishedQueue,
    Reason, Settled, Verdict, What,
};

use crate::options::Sizes;
use crate::{Ledger, dedup_key};

/// What an event says about the window.
fn note_seen(seen: &mut BTreeMap<IdHash, u64>, event: &Event<'_>) {
    match &event.what {
        What::Published(_) => drop(seen.insert(event.id, event.time_ms)),
        What::Settled(settled) if settled.verdict.reason.is_some_and(Reason::frees_id) => {
            seen.remove(&event.id);
        }
        _ => {}
    }
}

/// The queue that all of them are in.
pub(crate) const QUEUE: &str = "orders";

/// Sizes at which a few dozen events fill everything.
pub(crate) fn tiny() -> Sizes {
    Sizes {
        page_bytes: 300,
        stretch_bytes: 700,
        segment_bytes: 4000,
        query_bytes: 1500,
        events_bytes: u64::MAX,
        events_max: usize::MAX,
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
    IdHash::new("/", id(n))
}

pub(crate) fn published(position: u64, time_ms: u64, n: u64) -> Event<'static> {
    let what = What::Published(Published {
        vhost: "/".into(),
        id: bstr::BString::from(id(n)).into(),
        routing_key: bstr::BStr::new("orders").into(),
        queues: vec![PublishedQueue { id: 1, name: QUEUE.into() }],
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
        queue: queue.into(),
        verdict: Verdict {
            outcome,
            reason: None,
            attempts: 1,
            queue_count: 1,
            published_at_ms: time_ms.saturating_sub(5),
            flags: Flags::NONE,
        },
        details: Details {
            message_id: bstr::BString::from(id(n)).into(),
            worker: "w".into(),
            ..Details::default()
        },
        message: None,
    }));
    Event { at, id: hash(n), time_ms, what }
}

/// What the ledger should know: all events, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    pub(crate) events: Vec<Event<'static>>,
    pub(crate) applied: u64,
}

impl Model {
    /// What the ledger knew when the message log had been followed up to that position.
    pub(crate) fn until(&self, applied: u64) -> Self {
        let events = self.events.iter().filter(|event| event.at.position < applied);
        Self { events: events.cloned().collect(), applied }
    }

    /// Appends everything from a position on, as its writer does after opening the ledger.
    pub(crate) fn follow_from(&self, applied: u64, ledger: &Ledger) {
        let events = self.events.iter().filter(|event| event.at.position >= applied);
        events.for_each(|event| {
            ledger.append(event);
        });
    }

    /// Checks that the ledger answers every query correctly.
    pub(crate) fn check(&self, ledger: &Ledger) {
        let mut by_id: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for event in &self.events {
            by_id.entry(event.id).or_default().push(event.clone());
            note_seen(&mut seen, event);
        }
        for (id, events) in by_id {
            assert_eq!(ledger.events(id).unwrap(), events);
            assert_eq!(ledger.first_seen(dedup_key(id, QUEUE)).unwrap(), seen.get(&id).copied());
            assert_eq!(ledger.first_seen(dedup_key(id, "other")).unwrap(), None);
        }
        assert!(ledger.events(hash(1 << 40)).unwrap().is_empty());
        let all = OutcomeQuery { limit: 5, ..OutcomeQuery::default() };
        self.check_outcomes(ledger, &all);
        for outcome in Outcome::ALL {
            let query = OutcomeQuery { outcome: Some(outcome), ..all.clone() };
            self.check_outcomes(ledger, &query);
        }
    }

    /// Checks that the ledger answers a query correctly, page by page.
    pub(crate) fn check_outcomes(&self, ledger: &Ledger, query: &OutcomeQuery) {
        let matches = |event: &&Event<'_>| {
            let What::Settled(settled) = &event.what else { return false };
            query.after.is_none_or(|after| event.at > after)
                && query.vhost.as_ref().is_none_or(|vhost| *vhost == settled.vhost)
                && query.queue.as_ref().is_none_or(|queue| *queue == settled.queue)
                && query.outcome.is_none_or(|outcome| outcome == settled.verdict.outcome)
                && query.since_ms.is_none_or(|since_ms| event.time_ms >= since_ms)
                && query.until_ms.is_none_or(|until_ms| event.time_ms < until_ms)
        };
        let expected: Vec<_> = self.events.iter().filter(matches).cloned().collect();
        let mut found = Vec::new();
        let mut query = query.clone();
        loop {
            let page = ledger.outcomes(&query).unwrap();
            assert!(page.events.len() <= query.limit.max(1));
            assert!(page.next >= page.events.last().map(|event| event.at));
            found.extend(page.events);
            if !page.has_more {
                assert!(page.next >= query.after);
                break;
            }
            assert!(page.next > query.after, "no way forward");
            query.after = page.next;
        }
        assert_eq!(found, expected);
    }
}

impl Model {
    /// Checks that the ledger knows every id, and exactly the events after some point.
    pub(crate) fn check_what_is_kept(&self, ledger: &Ledger) {
        let mut oldest = self.events.len();
        let mut seen = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (n, event) in self.events.iter().enumerate() {
            note_seen(&mut seen, event);
            let known = found.entry(event.id).or_insert_with(|| ledger.events(event.id).unwrap());
            if known.contains(event) {
                oldest = oldest.min(n);
            } else {
                assert!(n < oldest, "a hole at {n} after {oldest}");
            }
        }
        for (id, time_ms) in seen {
            assert_eq!(ledger.first_seen(dedup_key(id, QUEUE)).unwrap(), Some(time_ms));
        }
    }
}
