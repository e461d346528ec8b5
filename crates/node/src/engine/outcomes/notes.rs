//! Events of tracked messages that the ledger shows and nothing else depends on: deliveries,
//! requeues, and the receipt of outcome messages.

use broker::queue::{Delivery, Noted};
use broker::{Message, Position, QueueId, Tracking};

use crate::engine::Engine;
use crate::registry::LiveQueue;
use crate::store::Appender;
use crate::store::outcome_records::{Note, NoteKind, NotesHead, append_notes};

impl Engine {
    /// Logs which tracked messages are delivered, and to whom.
    pub(crate) fn note_delivered(&self, queue: &LiveQueue, worker: &str, deliveries: &[Delivery]) {
        let note = |delivery: &Delivery| {
            let tracking = delivery.message.as_ref()?.followed()?;
            Some(Note { id: tracking.id, attempts: delivery.id.attempt(), retry_at_ms: 0 })
        };
        let notes = deliveries.iter().filter_map(note).collect();
        self.log_notes(NoteKind::Delivered, queue, worker, self.now_ms(), notes);
    }

    /// Logs that tracked messages were given back.
    pub(crate) fn note_requeued(&self, queue: &LiveQueue, now_ms: u64, requeued: Vec<Noted>) {
        let note = |noted: Noted| {
            let message = self.message_at(noted.message, noted.position)?;
            let tracking = message.followed()?;
            let (attempts, retry_at_ms) = (noted.attempts, noted.retry_at_ms);
            Some(Note { id: tracking.id, attempts, retry_at_ms })
        };
        let notes: Vec<Note> = requeued.into_iter().filter_map(note).collect();
        self.log_notes(NoteKind::Requeued, queue, "", now_ms, notes);
    }

    /// Logs how far a worker has got with a tracked message.
    pub(crate) fn note_progress(
        &self,
        queue: &LiveQueue,
        id: u128,
        attempts: u16,
        permille: u16,
        text: &str,
    ) {
        let note = Note { id, attempts, retry_at_ms: permille.into() };
        self.log_notes(NoteKind::Progress, queue, text, self.now_ms(), vec![note]);
    }

    fn log_notes(
        &self,
        kind: NoteKind,
        queue: &LiveQueue,
        worker: &str,
        time_ms: u64,
        notes: Vec<Note>,
    ) {
        if notes.is_empty() {
            return;
        }
        let head = NotesHead { kind, queue_id: queue.id, queue: &queue.name, worker, time_ms };
        self.store.append(None, |appender| {
            append_notes(appender.batch, &head, notes.into_iter(), appender.scratch);
        });
    }

    /// An outcome message has reached its producer by direct reply-to.
    pub(super) fn outcome_received(&self, message: &Message) {
        let Some(tracking) = message.tracking() else { return };
        let Some(of) = tracking.outcome_of else { return };
        let now_ms = self.now_ms();
        let ((), end) = self.store.append(None, |appender| {
            append_received(appender, of, now_ms, std::iter::once(&tracking));
        });
        let outbox = self.outcomes.held_confirms.settle(tracking.ticket, true, end);
        self.wake_when_durable(outbox.into_iter().collect());
    }

    /// The producer will never see this outcome message.
    pub(crate) fn outcome_lost(&self, message: &Message) {
        let ticket = message.tracking().and_then(|tracking| tracking.ticket);
        if let Some(worker) = self.outcomes.held_confirms.settle(ticket, false, 0) {
            worker.wake();
        }
    }

    /// A message, read from the log if only its position is known.
    pub(super) fn message_at(
        &self,
        message: Option<Message>,
        position: Option<Position>,
    ) -> Option<Message> {
        match self.load(message, position) {
            Ok(message) => Some(message),
            Err(error) => {
                let position = position.map(Position::get);
                tracing::error!(position, "the outcome of a message cannot be told: {error}");
                None
            }
        }
    }
}

/// Appends that producers acked outcome messages about one queue.
pub(super) fn append_received<'a>(
    appender: &mut Appender<'_>,
    of: QueueId,
    time_ms: u64,
    received: impl Iterator<Item = &'a Tracking>,
) {
    let kind = NoteKind::Received;
    // The ledger writer knows the queue by its id.
    let head = NotesHead { kind, queue_id: of, queue: "", worker: "", time_ms };
    let notes = received.map(|tracking| Note { id: tracking.id, attempts: 0, retry_at_ms: 0 });
    append_notes(appender.batch, &head, notes, appender.scratch);
}
