//! From a record of the message log to events of the ledger.

use std::sync::Arc;

use amqp::BStr;
use broker::{Message, QueueId};
use outcome::{Cursor, Event, IdHash, Published, PublishedQueue, Settled, What};
use segment_log::RecordRef;

use crate::names::QueueNames;
use crate::registry::Vhost;
use crate::store::outcome_records::{
    NOTES, NoteKind, OUTCOMES, OutcomeEntry, OutcomesHead, parse_notes, parse_outcomes,
};
use crate::store::records::{MESSAGE, MessageRecord};

/// One pass over some records.
pub(crate) struct Visit<'a> {
    /// The virtual host of a message, by its id and the hash of its id and its virtual host.
    pub vhost_of: &'a dyn Fn(&BStr, u128) -> Option<Arc<Vhost>>,
    pub names: &'a mut dyn FnMut(QueueId) -> Option<QueueNames>,
    pub emit: &'a mut dyn FnMut(&Event<'_>),
    /// Events so far.
    pub count: u64,
}

impl Visit<'_> {
    /// Emits the events of a record. `body_bytes` of a message's body may be missing at the end.
    pub(crate) fn record(&mut self, record: &RecordRef<'_>, body_bytes: u32) {
        let understood = match record.kind {
            MESSAGE => self.message(record, body_bytes),
            OUTCOMES => self.outcomes(record),
            NOTES => self.notes(record),
            _ => None,
        };
        if understood.is_none() {
            tracing::warn!(position = record.position, "a record cannot be shown in the ledger");
        }
    }

    fn emit(&mut self, position: u64, nth: u32, id: u128, time_ms: u64, what: What<'_>) {
        let at = Cursor { position, nth };
        (self.emit)(&Event { at, id: IdHash(id), time_ms, what });
        self.count += 1;
    }

    fn message(&mut self, record: &RecordRef<'_>, body_bytes: u32) -> Option<()> {
        let parsed = MessageRecord::parse(record)?;
        let message = Message::from_encoded(parsed.message)?;
        let tracking = message.tracking()?;
        let published_at_ms = message.head().published_at_ms;
        if parsed.moved.is_some() {
            let moved = What::Moved { position: record.position };
            self.emit(record.position, 0, tracking.id, published_at_ms, moved);
            return Some(());
        }
        let mut vhost = None;
        let queues = parsed.queues().map(|id| match (self.names)(id) {
            Some((of, name)) => {
                vhost = vhost.take().or(Some(of).filter(|of| !of.is_empty()));
                PublishedQueue { id: id.0, name: name.to_string().into() }
            }
            None => PublishedQueue { id: id.0, name: PublishedQueue::nameless(id.0).into() },
        });
        let queues = queues.collect();
        let properties = message.properties().ok()?;
        let message_id = properties.message_id.unwrap_or_default();
        let vhost = vhost.or_else(|| {
            let vhost = (self.vhost_of)(message_id, tracking.id)?;
            Some(Arc::clone(&vhost.realm))
        });
        let published = Published {
            vhost: vhost.as_deref().unwrap_or_default().into(),
            id: message_id.into(),
            exchange: message.exchange().into(),
            routing_key: message.routing_key().into(),
            queues,
            position: record.position,
            body_bytes,
            deadline_at_ms: tracking.deadline_at_ms,
            is_copy: tracking.is_copy,
            is_deduplicated: tracking.is_deduplicated,
        };
        let what = What::Published(published);
        self.emit(record.position, 0, tracking.id, published_at_ms, what);
        Some(())
    }

    fn outcomes(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (head, entries) = parse_outcomes(record.payload)?;
        for (entry, nth) in entries.zip(0..) {
            let id = IdHash::new(head.vhost, &*entry.details.message_id).0;
            let what = What::Settled(Box::new(settled(&head, entry)));
            self.emit(record.position, nth, id, head.time_ms, what);
        }
        Some(())
    }

    fn notes(&mut self, record: &RecordRef<'_>) -> Option<()> {
        let (head, notes) = parse_notes(record.payload)?;
        let name = match head.queue {
            "" => {
                (self.names)(head.queue_id).map_or_else(String::new, |(_, name)| name.to_string())
            }
            name => name.to_owned(),
        };
        let queue = || name.as_str().into();
        for (note, nth) in notes.zip(0..) {
            let attempt = note.attempts;
            let what = match head.kind {
                NoteKind::Delivered => {
                    What::Delivered { queue: queue(), worker: head.worker.into(), attempt }
                }
                NoteKind::Requeued => {
                    What::Requeued { queue: queue(), attempt, retry_at_ms: note.retry_at_ms }
                }
                NoteKind::Received => What::Received { queue: queue() },
                NoteKind::Progress => What::Progress {
                    queue: queue(),
                    permille: u16::try_from(note.retry_at_ms).unwrap_or(u16::MAX),
                    text: head.worker.into(),
                },
            };
            self.emit(record.position, nth, note.id, head.time_ms, what);
        }
        Some(())
    }
}

fn settled<'a>(head: &OutcomesHead<'a>, entry: OutcomeEntry<'a>) -> Settled<'a> {
    let OutcomeEntry { verdict, details, message, .. } = entry;
    let (vhost, queue) = (head.vhost.into(), head.queue.into());
    Settled { vhost, queue, verdict, details, message: message.map(Into::into) }
}
