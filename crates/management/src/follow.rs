//! Reading outcomes one after the other as they happen, by cursor: for feeds and webhooks.
//!
//! *Invariant:* a follower holds one page; it may be dropped or interrupted at any point, and the
//! cursor never passes an event that was not handed out.

use std::sync::Arc;
use std::time::Duration;

use crate::ports::{Cursor, Messages, MessagesError, OutcomeEvent, OutcomeQuery};
use crate::stopping::Stopping;

/// After a change more is left to gather for so long.
const GATHER: Duration = Duration::from_millis(5);

/// Follows outcomes from a cursor on.
pub(crate) struct Follower {
    messages: Arc<dyn Messages>,
    stopping: Stopping,
    /// What is asked for; its cursor moves on.
    query: OutcomeQuery,
    /// What was found and not yet taken.
    found: Vec<OutcomeEvent>,
    has_more: bool,
}

impl Follower {
    /// Follows what a query finds, beginning after its cursor.
    pub(crate) fn new(
        messages: Arc<dyn Messages>,
        stopping: Stopping,
        query: OutcomeQuery,
    ) -> Self {
        Self { messages, stopping, query, found: Vec::new(), has_more: true }
    }

    /// Everything up to here was found and taken.
    pub(crate) fn cursor(&self) -> Option<&Cursor> {
        self.query.after.as_ref()
    }

    /// What was found.
    pub(crate) fn take(&mut self) -> Vec<OutcomeEvent> {
        std::mem::take(&mut self.found)
    }

    /// Looks until there is something or nothing more to look at. Answers whether there is.
    pub(crate) async fn look(&mut self) -> Result<bool, MessagesError> {
        while self.found.is_empty() && self.has_more {
            let page = self.messages.outcomes(self.query.clone()).await?;
            self.query.after = page.next.or(self.query.after.take());
            self.has_more = page.has_more;
            self.found.extend(page.events);
        }
        Ok(!self.found.is_empty())
    }

    /// Waits until there is something. `None`: the server stops, or outcomes cannot be read.
    pub(crate) async fn wait(&mut self) -> Option<()> {
        loop {
            // Before looking, so that nothing is missed between.
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
