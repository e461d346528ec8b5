//! Answers queries for outcomes.
//!
//! Owns the walk over the pages and its bounds. Never reads a page that its summary rules out, and
//! never more than a given number of bytes per query.

use segment_log::records;

use crate::LedgerError;
use crate::page::{Body, Page, RawEvent, Summary, queue_bits};
use crate::pages::{Candidate, Pages};
use crate::records::PAGE;
use outcome::{Cursor, OutcomeQuery, OutcomesPage};

/// Answers a query from at most about `bytes_max` of pages.
pub(crate) fn outcomes(
    pages: &Pages,
    query: &OutcomeQuery,
    bytes_max: u64,
) -> Result<OutcomesPage, LedgerError> {
    let queue_bits = query.queue.as_deref().map_or(0, queue_bits);
    let is_wanted = |summary: &Summary| may_match(query, queue_bits, summary);
    let mut walk = Walk { query, limit: query.limit.max(1), answer: OutcomesPage::default() };
    walk.answer.next = query.after;
    let mut buffer = Vec::new();
    let mut left = bytes_max;
    loop {
        let (is_full, bytes) = match pages.next(walk.answer.next, is_wanted) {
            Candidate::End(last) => {
                walk.answer.next = walk.answer.next.max(last);
                return Ok(walk.answer);
            }
            Candidate::Page(bytes, summary) => (walk.page(&bytes, &summary), bytes.len() as u64),
            Candidate::Stretch(stretch) => {
                let mut is_full = false;
                if pages.read_stretch(&stretch, &mut buffer)? {
                    let mut end = stretch.position;
                    for record in records(&buffer, stretch.position) {
                        end = record.end();
                        if record.kind != PAGE || is_full {
                            continue;
                        }
                        let Some((summary, ..)) = Summary::decode(record.payload) else {
                            continue;
                        };
                        if Some(summary.last) > walk.answer.next && is_wanted(&summary) {
                            is_full = walk.page(record.payload, &summary);
                        }
                    }
                    if end < stretch.end {
                        pages.warn_of_damage(end);
                    }
                }
                if !is_full {
                    walk.answer.next = walk.answer.next.max(Some(stretch.summary.last));
                }
                (is_full, stretch.end - stretch.position)
            }
        };
        left = left.saturating_sub(bytes);
        if is_full || left == 0 {
            walk.answer.has_more = walk.answer.next < pages.last();
            return Ok(walk.answer);
        }
    }
}

/// Whether one or more pages, summarized, may hold a match.
fn may_match(query: &OutcomeQuery, queue_bits: u64, summary: &Summary) -> bool {
    let wanted = query.outcome.map_or(u8::MAX, |outcome| 1 << outcome as u8);
    summary.outcomes & wanted != 0
        && summary.queues & queue_bits == queue_bits
        && query.since_ms.is_none_or(|since_ms| summary.time_max_ms >= since_ms)
        && query.until_ms.is_none_or(|until_ms| summary.time_min_ms < until_ms)
}

struct Walk<'q> {
    query: &'q OutcomeQuery,
    limit: usize,
    answer: OutcomesPage,
}

impl Walk<'_> {
    /// Goes through a page. Returns whether there are enough matches now.
    fn page(&mut self, bytes: &[u8], summary: &Summary) -> bool {
        let after = self.answer.next;
        if let Some(page) = Page::parse(bytes) {
            for event in page.events() {
                if Some(event.at) <= after || !self.matches(&page, &event) {
                    continue;
                }
                self.answer.events.push(page.event(&event));
                self.answer.next = Some(event.at);
                if self.answer.events.len() == self.limit {
                    return true;
                }
            }
        }
        self.answer.next = self.answer.next.max(Some::<Cursor>(summary.last));
        false
    }

    fn matches(&self, page: &Page<'_>, event: &RawEvent<'_>) -> bool {
        let Body::Settled(settled) = &event.body else { return false };
        let query = self.query;
        query.queue.as_ref().is_none_or(|queue| queue == settled.queue)
            && query.outcome.is_none_or(|outcome| outcome == settled.verdict.outcome)
            && query.since_ms.is_none_or(|since_ms| event.time_ms >= since_ms)
            && query.until_ms.is_none_or(|until_ms| event.time_ms < until_ms)
            && query
                .vhost
                .as_ref()
                .is_none_or(|vhost| page.ids().get(event.id).is_some_and(|id| id.vhost() == vhost))
    }
}
