//! Reads a page.
//!
//! Owns nothing: it is a view of bytes that may be anything, although a checksum vouches for them.
//! Reading never panics; the page ends where the bytes are not an event. An event costs no
//! allocation until it is converted to an [`Event`].

use std::borrow::Cow;

use bstr::{BStr, ByteSlice};

use outcome::{
    Cursor, Details, Event, Flags, IdHash, Outcome, Published, PublishedQueue, Reason, Settled,
    Verdict, What,
};

use super::format::{kind, settled, tag};
use super::ids::{self, Id};
use super::strings;
use super::summary::{HEADER_SIZE, Summary};
use super::varint::Input;

/// A page's bytes, split into strings, ids, and undecoded events.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    strings: Vec<&'a BStr>,
    ids: Vec<Id<'a>>,
    events: &'a [u8],
    first: Cursor,
}

/// An event, borrowed from the page.
#[derive(Debug, Clone)]
pub(crate) struct RawEvent<'a> {
    pub(crate) at: Cursor,
    pub(crate) time_ms: u64,
    /// Its message's number in the page.
    pub(crate) id: usize,
    pub(crate) body: Body<'a>,
}

/// Like [`What`], without allocations.
#[derive(Debug, Clone)]
pub(crate) enum Body<'a> {
    Published(RawPublished<'a>),
    Delivered { queue: &'a str, worker: &'a str, attempt: u16 },
    Requeued { queue: &'a str, attempt: u16, retry_at_ms: u64 },
    Settled(RawSettled<'a>),
    Received { queue: &'a str },
    Progress { queue: &'a str, permille: u16, text: &'a str },
    Moved { position: u64 },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RawPublished<'a> {
    exchange: &'a str,
    routing_key: &'a BStr,
    queue_count: u64,
    queues: Input<'a>,
    position: u64,
    body_bytes: u32,
    deadline_at_ms: u64,
    is_copy: bool,
    pub(crate) is_deduplicated: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct RawSettled<'a> {
    pub(crate) queue: &'a str,
    pub(crate) verdict: Verdict,
    /// Borrowed from the page, without the message's id, which is among the page's ids.
    details: Details<'a>,
    message: Option<&'a [u8]>,
}

impl<'a> Page<'a> {
    /// `None` if the bytes are not a page.
    pub(crate) fn parse(page: &'a [u8]) -> Option<Self> {
        let (summary, strings_len, ids_len) = Summary::decode(page)?;
        let (strings, rest) = page.get(HEADER_SIZE..)?.split_at_checked(strings_len)?;
        let (ids, events) = rest.split_at_checked(ids_len)?;
        let strings = strings::decode(strings)?;
        let ids = ids::decode(ids, &strings)?;
        Some(Self { strings, ids, events, first: summary.first })
    }

    /// The messages' ids; events refer to them by number. One may occur more than once.
    pub(crate) fn ids(&self) -> &[Id<'a>] {
        &self.ids
    }

    /// The events, in order.
    pub(crate) fn events(&self) -> Events<'_, 'a> {
        Events {
            page: self,
            input: Input(self.events),
            previous: None,
            previous_time_ms: 0,
            next_ids: [0; kind::COUNT],
        }
    }

    /// The queues of a publication: id and name.
    pub(crate) fn queues(
        &self,
        published: &RawPublished<'a>,
    ) -> impl Iterator<Item = (u32, &'a str)> {
        let mut input = published.queues;
        (0..published.queue_count)
            .map_while(move |_| Some((input.small()?, name(&mut input, &self.strings)?)))
    }

    /// The event in the form that the ledger's callers use.
    pub(crate) fn event(&self, raw: &RawEvent<'a>) -> Event<'static> {
        let id = self.ids.get(raw.id);
        let what = match &raw.body {
            Body::Published(published) => What::Published(self.published(id, published)),
            Body::Delivered { queue, worker, attempt } => {
                What::Delivered { queue: owned(queue), worker: owned(worker), attempt: *attempt }
            }
            Body::Requeued { queue, attempt, retry_at_ms } => {
                let (attempt, retry_at_ms) = (*attempt, *retry_at_ms);
                What::Requeued { queue: owned(queue), attempt, retry_at_ms }
            }
            Body::Settled(settled) => What::Settled(Box::new(settled_event(id, settled))),
            Body::Received { queue } => What::Received { queue: owned(queue) },
            Body::Progress { queue, permille, text } => {
                What::Progress { queue: owned(queue), permille: *permille, text: owned(text) }
            }
            Body::Moved { position } => What::Moved { position: *position },
        };
        let id = id.map_or(IdHash(0), Id::hash);
        Event { at: raw.at, id, time_ms: raw.time_ms, what }
    }

    fn published(&self, id: Option<&Id<'a>>, raw: &RawPublished<'a>) -> Published<'static> {
        let queues = self.queues(raw);
        Published {
            vhost: owned(id.map_or("", Id::vhost)),
            id: id.map(|id| Cow::Owned(id.text().into_owned())).unwrap_or_default(),
            exchange: owned(raw.exchange),
            routing_key: Cow::Owned(raw.routing_key.to_owned()),
            queues: queues.map(|(id, name)| PublishedQueue { id, name: owned(name) }).collect(),
            position: raw.position,
            body_bytes: raw.body_bytes,
            deadline_at_ms: raw.deadline_at_ms,
            is_copy: raw.is_copy,
            is_deduplicated: raw.is_deduplicated,
        }
    }
}

fn settled_event(id: Option<&Id<'_>>, raw: &RawSettled<'_>) -> Settled<'static> {
    let message_id = id.map(|id| Cow::Owned(id.text().into_owned())).unwrap_or_default();
    Settled {
        vhost: owned(id.map_or("", Id::vhost)),
        queue: owned(raw.queue),
        verdict: raw.verdict,
        details: Details { message_id, ..raw.details.clone().into_owned() },
        message: raw.message.map(|bytes| Cow::Owned(bytes.to_vec())),
    }
}

fn name<'a>(input: &mut Input<'a>, strings: &[&'a BStr]) -> Option<&'a str> {
    strings::read(input, strings)?.to_str().ok()
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

/// Iterates over the events of a page.
#[derive(Debug)]
pub(crate) struct Events<'p, 'a> {
    page: &'p Page<'a>,
    input: Input<'a>,
    previous: Option<Cursor>,
    previous_time_ms: u64,
    next_ids: [u32; kind::COUNT],
}

impl<'a> Iterator for Events<'_, 'a> {
    type Item = RawEvent<'a>;

    fn next(&mut self) -> Option<RawEvent<'a>> {
        if self.input.is_empty() {
            return None;
        }
        let event = self.read();
        if event.is_none() {
            // What follows cannot be understood either.
            self.input = Input(&[]);
        }
        event
    }
}

impl<'a> Events<'_, 'a> {
    fn read(&mut self) -> Option<RawEvent<'a>> {
        let input = &mut self.input;
        let tag = input.byte()?;
        let delta = input.number()?;
        let (position, mut nth) = match self.previous {
            None => (self.page.first.position, self.page.first.nth),
            Some(Cursor { position, nth }) if delta == 0 => (position, nth.wrapping_add(1)),
            Some(Cursor { position, .. }) => (position.wrapping_add(delta), 0),
        };
        if tag & tag::NTH != 0 {
            nth = input.small()?;
        }
        let at = Cursor { position, nth };
        self.previous = Some(at);
        if tag & tag::TIME != 0 {
            self.previous_time_ms = input.difference(self.previous_time_ms)?;
        }
        let expected = self.next_ids.get_mut(usize::from(tag & tag::KIND))?;
        let number = u32::try_from(input.difference(u64::from(*expected))?).ok()?;
        *expected = number.checked_add(1)?;
        let id = number as usize;
        self.page.ids.get(id)?;
        let time_ms = self.previous_time_ms;
        let body = self.read_body(tag, position, time_ms)?;
        Some(RawEvent { at, time_ms, id, body })
    }

    /// A name, which is UTF-8.
    fn name(&mut self) -> Option<&'a str> {
        name(&mut self.input, &self.page.strings)
    }

    fn text(&mut self) -> Option<&'a BStr> {
        strings::read(&mut self.input, &self.page.strings)
    }

    fn read_body(&mut self, tag: u8, position: u64, time_ms: u64) -> Option<Body<'a>> {
        let is_plain = tag & tag::PLAIN != 0;
        Some(match tag & tag::KIND {
            kind::PUBLISHED => Body::Published(self.read_published(tag, position, time_ms)?),
            kind::DELIVERED => Body::Delivered {
                queue: self.name()?,
                worker: self.name()?,
                attempt: if is_plain { 1 } else { self.input.small()? },
            },
            kind::REQUEUED => Body::Requeued {
                queue: self.name()?,
                attempt: self.input.small()?,
                retry_at_ms: if is_plain { 0 } else { self.input.difference(time_ms)? },
            },
            kind::SETTLED => Body::Settled(self.read_settled(is_plain, time_ms)?),
            kind::RECEIVED => Body::Received { queue: self.name()? },
            kind::PROGRESS => Body::Progress {
                queue: self.name()?,
                permille: self.input.small()?,
                text: self.name()?,
            },
            kind::MOVED => Body::Moved { position: self.input.difference(position)? },
            _ => return None,
        })
    }

    fn read_published(&mut self, tag: u8, position: u64, time_ms: u64) -> Option<RawPublished<'a>> {
        let (exchange, routing_key) = (self.name()?, self.text()?);
        let queue_count = self.input.number()?;
        let queues = self.input;
        for _ in 0..queue_count {
            self.input.number()?;
            self.text()?;
        }
        let mut published = RawPublished {
            exchange,
            routing_key,
            queue_count,
            queues,
            position,
            body_bytes: self.input.small()?,
            deadline_at_ms: 0,
            is_copy: tag & tag::COPY != 0,
            is_deduplicated: tag & tag::DEDUPLICATED != 0,
        };
        if tag & tag::EXTENDED != 0 {
            published.position = self.input.difference(position)?;
            if self.input.byte()? != 0 {
                published.deadline_at_ms = self.input.difference(time_ms)?;
            }
        }
        Some(published)
    }

    fn read_settled(&mut self, is_plain: bool, time_ms: u64) -> Option<RawSettled<'a>> {
        let first = self.input.byte()?;
        let (queue, reason, worker) = (self.name()?, self.name()?, self.name()?);
        let published_at_ms = self.input.difference(time_ms)?;
        let (attempts, queue_count) =
            if is_plain { (1, 1) } else { (self.input.small()?, self.input.small()?) };
        let verdict = Verdict {
            outcome: Outcome::from_number(first & settled::OUTCOME)?,
            reason: Reason::parse(reason),
            attempts,
            queue_count,
            published_at_ms,
            flags: Flags::from_kept_bits(first >> settled::FLAGS_SHIFT),
        };
        let details = Details { worker: worker.into(), ..Details::default() };
        let mut raw = RawSettled { queue, verdict, details, message: None };
        if first & settled::EXTENDED != 0 {
            self.read_extras(&mut raw)?;
        }
        Some(raw)
    }

    fn read_extras(&mut self, raw: &mut RawSettled<'a>) -> Option<()> {
        let has = self.input.byte()?;
        if has & settled::HAS_ERROR != 0 {
            raw.details.error = Some(self.text()?.into());
        }
        if has & settled::HAS_CONTENT_TYPE != 0 {
            raw.details.content_type = Some(self.text()?.into());
        }
        if has & settled::HAS_DEAD_LETTER_EXCHANGE != 0 {
            raw.details.dead_letter_exchange = Some(self.name()?.into());
        }
        if has & settled::HAS_RESULT != 0 {
            raw.details.result = Some(self.input.bytes()?.into());
        }
        if has & settled::HAS_MESSAGE != 0 {
            raw.message = Some(self.input.bytes()?);
        }
        Some(())
    }
}
