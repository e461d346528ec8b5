//! Reads outcomes one after the other as they happen, by cursor: for feeds and webhooks.
//!
//! *Invariant:* a follower holds one page; it may be dropped or interrupted at any point, and the
//! cursor never passes an event that has not been handed out.

use std::sync::Arc;
use std::time::Duration;

use crate::ports::{Cursor, Messages, MessagesError, OutcomeEvent, OutcomeQuery};
use crate::stopping::Stopping;

/// How long to wait after a change, so that more changes gather.
const GATHER: Duration = Duration::from_millis(5);

/// Follows outcomes from a cursor on.
pub(crate) struct Follower {
    messages: Arc<dyn Messages>,
    stopping: Stopping,
    /// The query; its cursor moves on.
    query: OutcomeQuery,
    /// Outcomes that were found and not yet taken.
    found: Vec<OutcomeEvent>,
    has_more: bool,
}

impl Follower {
    /// Follows the outcomes that match a query, starting after its cursor.
    pub(crate) fn new(
        messages: Arc<dyn Messages>,
        stopping: Stopping,
        query: OutcomeQuery,
    ) -> Self {
        Self { messages, stopping, query, found: Vec::new(), has_more: true }
    }

    /// Everything up to this cursor has been found and taken.
    pub(crate) fn cursor(&self) -> Option<&Cursor> {
        self.query.after.as_ref()
    }

    /// Takes what was found.
    pub(crate) fn take(&mut self) -> Vec<OutcomeEvent> {
        std::mem::take(&mut self.found)
    }

    /// Looks until something is found or there is nothing more to look at. Returns whether
    /// something was found.
    pub(crate) async fn look(&mut self) -> Result<bool, MessagesError> {
        while self.found.is_empty() && self.has_more {
            let page = self.messages.outcomes(self.query.clone()).await?;
            self.query.after = page.next.or(self.query.after.take());
            self.has_more = page.has_more;
            self.found.extend(page.events);
        }
        Ok(!self.found.is_empty())
    }

    /// Waits until there is something. `None`: the server is stopping, or outcomes cannot be read.
    pub(crate) async fn wait(&mut self) -> Option<()> {
        loop {
            // Asked for before looking, so that no change in between is missed.
            let changed = self.messages.changed();
            self.has_more = true;
            match self.look().await {
                Ok(true) => return Some(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!("outcomes cannot be read: {error}");
                    return None;
                }
            }
            tokio::select! {
                () = changed => tokio::time::sleep(GATHER).await,
                () = self.stopping.stopped() => return None,
            }
        }
    }
}
