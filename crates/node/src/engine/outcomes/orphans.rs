//! Messages that a restart finds in queues that are gone: deleted just before a crash, or never
//! durable. They still need an outcome.

use std::sync::Arc;

use broker::queue::{Removed, Restored};
use broker::{Position, QueueId};
use outcome::{IdHash, PublishedQueue, Reason, What};

use super::batch::OutcomeBatch;
use crate::NodeError;
use crate::engine::Engine;

impl Engine {
    /// Reports that these were dropped with their queues.
    pub(crate) fn tell_orphans(&self, orphans: Vec<(QueueId, Restored)>) -> Result<(), NodeError> {
        for of_queue in orphans.chunk_by(|a, b| a.0 == b.0) {
            for some in of_queue.chunks(512) {
                self.tell_orphans_of(some[0].0, some)?;
            }
        }
        Ok(())
    }

    fn tell_orphans_of(
        &self,
        queue_id: QueueId,
        orphans: &[(QueueId, Restored)],
    ) -> Result<(), NodeError> {
        // By the queue's name in the ledger, which it does not know for every message.
        let mut batches: Vec<(Arc<str>, OutcomeBatch)> = Vec::new();
        for (_, orphan) in orphans {
            let message = self.store.read_message(orphan.position)?;
            let Some(tracking) = message.tracking() else { continue };
            let name = self.published_to(IdHash(tracking.id), queue_id);
            let at = batches.iter().position(|(of, _)| *of == name).unwrap_or_else(|| {
                let message_id = message.properties().ok().and_then(|of| of.message_id);
                let vhost =
                    self.registry.vhost_of(message_id.unwrap_or_default(), IdHash(tracking.id));
                let names = (queue_id, Arc::clone(&name));
                batches.push((name, OutcomeBatch::new(None, names, vhost, self.now_ms())));
                batches.len() - 1
            });
            let removed = Removed {
                message: Some(message),
                position: Some(Position::new(orphan.position)),
                reason: Reason::QueueDeleted,
                dead_letter: false,
                is_tracked: true,
                missed_deadline: orphan.missed_deadline,
                attempts: orphan.attempts,
                by: None,
            };
            batches[at].1.removed(self, removed);
        }
        let ((), end) = self.store.append(None, |appender| {
            appender.batch.begin_group();
            batches.iter_mut().for_each(|(_, batch)| batch.log(appender, true));
            appender.batch.end_group();
        });
        self.with_agenda(|agenda| {
            batches.into_iter().for_each(|(_, batch)| batch.finish(self, end, agenda));
        });
        Ok(())
    }

    fn published_to(&self, id: IdHash, queue_id: QueueId) -> Arc<str> {
        let events = self.ledger.events(id).unwrap_or_default();
        let published = events.into_iter().filter_map(|event| match event.what {
            What::Published(published) => Some(published),
            _ => None,
        });
        for published in published {
            if let Some(queue) = published.queues.iter().find(|queue| queue.id == queue_id.0) {
                return Arc::from(&*queue.name);
            }
        }
        PublishedQueue::nameless(queue_id.0).into()
    }
}
