//! Writes a page, event by event.
//!
//! Owns the page while it grows. Never decides when it is full. What an event looks like is in the
//! crate's documentation.

use super::format::{kind, settled, tag};
use super::ids::{Ids, Met};
use super::strings::{Role, Strings};
use super::summary::{HEADER_SIZE, Summary, queue_bits};
use super::varint;
use outcome::{Cursor, Event, Published, Settled, What};

/// The page being written.
#[derive(Debug)]
pub(crate) struct PageWriter {
    strings: Strings,
    ids: Ids,
    events: Vec<u8>,
    summary: Summary,
    previous_time_ms: u64,
    /// For each kind of event, the id expected next.
    next_ids: [u32; kind::COUNT],
    /// The queue of the last settlement and its bits.
    recent_queue: (String, u64),
}

impl PageWriter {
    pub(crate) fn new() -> Self {
        Self {
            strings: Strings::default(),
            ids: Ids::default(),
            events: Vec::new(),
            summary: Summary::EMPTY,
            previous_time_ms: 0,
            next_ids: [0; kind::COUNT],
            recent_queue: (String::new(), queue_bits("")),
        }
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.summary.event_count == 0
    }

    pub(crate) fn len_bytes(&self) -> usize {
        let sections = self.strings.bytes().len() + self.ids.bytes().len() + self.events.len();
        HEADER_SIZE + sections
    }

    /// The page as it is now.
    pub(crate) fn assemble(&self) -> Vec<u8> {
        let (strings, ids) = (self.strings.bytes(), self.ids.bytes());
        let mut page = Vec::with_capacity(self.len_bytes());
        page.extend_from_slice(&self.summary.encode(strings.len(), ids.len()));
        page.extend_from_slice(strings);
        page.extend_from_slice(ids);
        page.extend_from_slice(&self.events);
        page
    }

    /// Starts over; the memory is kept unless something large was in it.
    pub(crate) fn clear(&mut self) {
        const KEPT_BYTES: usize = 256 << 10;
        self.strings.clear();
        self.ids.clear();
        self.events.clear();
        self.events.shrink_to(KEPT_BYTES);
        self.summary = Summary::EMPTY;
        self.previous_time_ms = 0;
        self.next_ids = [0; kind::COUNT];
    }

    /// Appends an event, whose cursor is after that of the last one. Returns whether its message is
    /// new to this page.
    pub(crate) fn append(&mut self, event: &Event<'_>) -> bool {
        let (kind, met) = self.meet(event);
        let tag_at = self.events.len();
        self.events.push(kind);
        self.put_head(kind, event, &met, tag_at);
        self.summary.note(event.at, event.time_ms);
        self.events[tag_at] |= match &event.what {
            What::Published(published) => self.put_published(published, event),
            What::Delivered { queue, worker, attempt } => {
                self.strings.put(&mut self.events, Role::Queue, queue.as_bytes());
                self.strings.put(&mut self.events, Role::Worker, worker.as_bytes());
                self.put_unless(*attempt == 1, u64::from(*attempt))
            }
            What::Requeued { queue, attempt, retry_at_ms } => {
                self.strings.put(&mut self.events, Role::Queue, queue.as_bytes());
                varint::put(&mut self.events, u64::from(*attempt));
                if *retry_at_ms == 0 {
                    tag::PLAIN
                } else {
                    varint::put_difference(&mut self.events, event.time_ms, *retry_at_ms);
                    0
                }
            }
            What::Settled(settled) => self.put_settled(settled, event.time_ms),
            What::Received { queue } => {
                self.strings.put(&mut self.events, Role::Queue, queue.as_bytes());
                0
            }
            What::Progress { queue, permille, text } => {
                self.strings.put(&mut self.events, Role::Queue, queue.as_bytes());
                varint::put(&mut self.events, u64::from(*permille));
                self.strings.put(&mut self.events, Role::Other, text.as_bytes());
                0
            }
            What::Moved { position } => {
                varint::put_difference(&mut self.events, event.at.position, *position);
                0
            }
        };
        met.is_new
    }

    fn meet(&mut self, event: &Event<'_>) -> (u8, Met) {
        let id = event.id;
        match &event.what {
            What::Published(published) => {
                let Published { vhost, id: text, .. } = published;
                (kind::PUBLISHED, self.ids.by_name(id, vhost, text, &mut self.strings))
            }
            What::Settled(settled) => {
                let (vhost, text) = (&settled.vhost, &settled.details.message_id);
                (kind::SETTLED, self.ids.by_name(id, vhost, text, &mut self.strings))
            }
            What::Delivered { .. } => (kind::DELIVERED, self.ids.by_hash(id)),
            What::Requeued { .. } => (kind::REQUEUED, self.ids.by_hash(id)),
            What::Received { .. } => (kind::RECEIVED, self.ids.by_hash(id)),
            What::Progress { .. } => (kind::PROGRESS, self.ids.by_hash(id)),
            What::Moved { .. } => (kind::MOVED, self.ids.by_hash(id)),
        }
    }

    /// Cursor, time and id, each as the difference from what is expected.
    fn put_head(&mut self, kind: u8, event: &Event<'_>, met: &Met, tag_at: usize) {
        let Cursor { position, nth } = event.at;
        let (delta, expected_nth) = match self.summary.event_count {
            // The first event's position is in the header.
            0 => (0, nth),
            _ if position == self.summary.last.position => {
                (0, self.summary.last.nth.wrapping_add(1))
            }
            _ => (position.wrapping_sub(self.summary.last.position), 0),
        };
        varint::put(&mut self.events, delta);
        if nth != expected_nth {
            self.events[tag_at] |= tag::NTH;
            varint::put(&mut self.events, u64::from(nth));
        }
        if event.time_ms != self.previous_time_ms {
            self.events[tag_at] |= tag::TIME;
            varint::put_difference(&mut self.events, self.previous_time_ms, event.time_ms);
            self.previous_time_ms = event.time_ms;
        }
        let expected = &mut self.next_ids[usize::from(kind)];
        varint::put_difference(&mut self.events, u64::from(*expected), u64::from(met.number));
        *expected = met.number + 1;
    }

    fn put_unless(&mut self, is_plain: bool, number: u64) -> u8 {
        if is_plain {
            return tag::PLAIN;
        }
        varint::put(&mut self.events, number);
        0
    }

    fn put_published(&mut self, published: &Published<'_>, event: &Event<'_>) -> u8 {
        let (strings, out) = (&mut self.strings, &mut self.events);
        strings.put(out, Role::Exchange, published.exchange.as_bytes());
        strings.put(out, Role::RoutingKey, &published.routing_key);
        varint::put(out, published.queues.len() as u64);
        for queue in &published.queues {
            varint::put(out, u64::from(queue.id));
            strings.put(out, Role::Queue, queue.name.as_bytes());
        }
        varint::put(out, u64::from(published.body_bytes));
        let mut bits = 0;
        if published.is_copy {
            bits |= tag::COPY;
        }
        if published.is_deduplicated {
            bits |= tag::DEDUPLICATED;
        }
        if published.position != event.at.position || published.deadline_at_ms != 0 {
            bits |= tag::EXTENDED;
            varint::put_difference(out, event.at.position, published.position);
            let deadline = published.deadline_at_ms;
            out.push(u8::from(deadline != 0));
            if deadline != 0 {
                varint::put_difference(out, event.time_ms, deadline);
            }
        }
        bits
    }

    fn put_settled(&mut self, what: &Settled<'_>, time_ms: u64) -> u8 {
        if self.recent_queue.0 != what.queue {
            self.recent_queue = (what.queue.clone().into_owned(), queue_bits(&what.queue));
        }
        let Settled { verdict, details, .. } = what;
        self.summary.note_settled(verdict.outcome, self.recent_queue.1);
        let (strings, out) = (&mut self.strings, &mut self.events);
        let extras = [
            (details.error.is_some(), settled::HAS_ERROR),
            (details.content_type.is_some(), settled::HAS_CONTENT_TYPE),
            (details.result.is_some(), settled::HAS_RESULT),
            (details.dead_letter_exchange.is_some(), settled::HAS_DEAD_LETTER_EXCHANGE),
            (what.message.is_some(), settled::HAS_MESSAGE),
        ];
        let extras = collect(&extras);
        let extended = if extras != 0 { settled::EXTENDED } else { 0 };
        let flags = verdict.flags.kept_bits() << settled::FLAGS_SHIFT;
        out.push(verdict.outcome as u8 | flags | extended);
        strings.put(out, Role::Queue, what.queue.as_bytes());
        strings.put(out, Role::Reason, verdict.reason_name().as_bytes());
        strings.put(out, Role::Worker, details.worker.as_bytes());
        varint::put_difference(out, time_ms, verdict.published_at_ms);
        let is_plain = verdict.attempts == 1 && verdict.queue_count == 1;
        if !is_plain {
            varint::put(out, u64::from(verdict.attempts));
            varint::put(out, u64::from(verdict.queue_count));
        }
        if extras != 0 {
            out.push(extras);
            for text in [&details.error, &details.content_type].into_iter().flatten() {
                strings.put(out, Role::Other, text);
            }
            if let Some(exchange) = &details.dead_letter_exchange {
                strings.put(out, Role::Other, exchange.as_bytes());
            }
            for bytes in [&details.result, &what.message].into_iter().flatten() {
                varint::put_bytes(out, bytes);
            }
        }
        if is_plain { tag::PLAIN } else { 0 }
    }
}

/// The bits whose condition holds.
fn collect(bits: &[(bool, u8)]) -> u8 {
    bits.iter().filter(|(is_so, _)| *is_so).fold(0, |all, (_, bit)| all | bit)
}
