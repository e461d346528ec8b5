//! Messages on their way in: as they are published, and gathered until the next flush.

use std::sync::Arc;

use amqp::{BStr, BString, ByteSlice};
use broker::{Message, Position};
use hashbrown::HashMap;

use super::routes::Route;
use crate::registry::LiveQueue;
use crate::store::records;

/// One `basic.publish`.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// Routing key: mostly, but not always, UTF-8.
    pub routing_key: &'a BStr,
    /// Whether it is returned when it reaches no queue.
    pub mandatory: bool,
    /// Encoded properties: flags and fields.
    pub properties: &'a [u8],
    /// Body.
    pub body: &'a [u8],
}

/// What a flush did with the last published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Where it stands in the log; `None` when it is not there: it reached no queue, or only queues
    /// that had seen its id.
    pub position: Option<u64>,
    /// When it was published, ms since the epoch; `None` when it is not a message of its own: a
    /// duplicate, a reply, a report.
    pub published_at_ms: Option<u64>,
    /// Whether a queue had seen its id.
    pub is_duplicate: bool,
}

/// A [`Publish`] that owns its parts.
pub(super) struct OwnedPublish {
    exchange: String,
    routing_key: BString,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl From<&Publish<'_>> for OwnedPublish {
    fn from(publish: &Publish<'_>) -> Self {
        Self {
            exchange: publish.exchange.to_owned(),
            routing_key: publish.routing_key.to_owned(),
            properties: publish.properties.to_vec(),
            body: publish.body.to_vec(),
        }
    }
}

impl OwnedPublish {
    pub(super) fn as_publish(&self) -> Publish<'_> {
        let Self { exchange, routing_key, properties, body } = self;
        let routing_key = routing_key.as_bstr();
        Publish { exchange, routing_key, mandatory: true, properties, body }
    }
}

/// A message on its way into its queues.
pub(super) struct Pending {
    pub message: Option<Message>,
    pub route: Arc<Route>,
    /// Its position in the log, once it is there.
    pub position: Option<Position>,
    /// The channel and the message's number there, in confirm mode.
    pub confirm: Option<(u16, u64)>,
    /// Whether the message itself asks for an outcome.
    pub asks: bool,
}

/// Messages gathered since the last flush; keeps its memory.
#[derive(Default)]
pub(super) struct PublishBatch {
    pub pending: Vec<Pending>,
    /// Whether any of them is tracked.
    pub has_tracked: bool,
    /// Memory for encoding a message.
    pub scratch: Vec<u8>,
    pub groups: Vec<Group>,
    /// Places in `groups` by queue id, while a batch is sorted.
    by_queue: HashMap<u32, usize>,
}

/// The messages of a batch that go to one queue.
pub(super) struct Group {
    pub queue: Arc<LiveQueue>,
    /// Their places in the batch.
    pub messages: Vec<u32>,
}

impl Pending {
    /// Appends it for all its queues and notes its position.
    pub(super) fn log(&mut self, batch: &mut segment_log::Batch) {
        let ids = self.route.queues.iter().map(|queue| queue.id);
        if let Some(message) = self.message.as_ref().filter(|_| ids.len() > 0) {
            self.position = Some(Position::new(records::append_message(batch, ids, message)));
        }
    }

    /// Whether a restart must bring it back.
    pub(super) fn is_durable(&self) -> bool {
        let Some(head) = self.message.as_ref().map(Message::head) else { return false };
        self.route.is_durable && head.persistent || head.is_tracked
    }
}

impl PublishBatch {
    /// Lets go of memory that only the next batch may need. Nothing is gathered at the moment, or stays.
    pub(super) fn trim_memory(&mut self) {
        self.pending.shrink_to_fit();
        self.scratch = Vec::new();
        self.groups = Vec::new();
        self.by_queue = HashMap::default();
    }

    /// Sorts it by queue; answers how many of `groups` are in use.
    pub(super) fn group_by_queue(&mut self) -> usize {
        let Self { pending, groups, by_queue, .. } = self;
        by_queue.clear();
        let mut count = 0;
        let mut last: Option<(*const Route, usize)> = None;
        for (index, pending) in pending.iter().enumerate() {
            let route = Arc::as_ptr(&pending.route);
            if let ([_], Some((_, group))) =
                (&*pending.route.queues, last.filter(|(l, _)| *l == route))
            {
                groups[group].messages.push(index as u32);
                continue;
            }
            for queue in &pending.route.queues {
                let group = *by_queue.entry(queue.id.0).or_insert_with(|| {
                    if count == groups.len() {
                        groups.push(Group { queue: Arc::clone(queue), messages: Vec::new() });
                    } else {
                        groups[count].queue = Arc::clone(queue);
                    }
                    count += 1;
                    count - 1
                });
                groups[group].messages.push(index as u32);
                last = Some((route, group));
            }
        }
        count
    }
}
