//! Reading outcomes one after the other as they happen, by cursor: for feeds and webhooks.
//!
//! *Invariant:* a follower holds one page; it may be dropped or interrupted at any point, and the
//! cursor never passes an event that was not handed out.

use std::sync::Arc;
use std::time::Duration;

use crate::stopping::Stopping;
use crate::time::now_ms;
use ledger::{Cursor, Event, LedgerError, OutcomeQuery};
use node::Node;

/// After a change the ledger is left to gather more for so long.
const GATHER: Duration = Duration::from_millis(5);

/// Follows the ledger from a cursor on.
pub(crate) struct Follower {
    node: Arc<Node>,
    stopping: Stopping,
    /// What is asked for; its cursor moves on.
    query: OutcomeQuery,
    /// What was found and not yet taken.
    found: Vec<Event<'static>>,
    has_more: bool,
}

impl Follower {
    /// Follows what a query finds, beginning after its cursor.
    pub(crate) fn new(node: Arc<Node>, stopping: Stopping, query: OutcomeQuery) -> Self {
        Self { node, stopping, query, found: Vec::new(), has_more: true }
    }

    /// Everything up to here was found and taken.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.query.after
    }

    /// What was found.
    pub(crate) fn take(&mut self) -> Vec<Event<'static>> {
        std::mem::take(&mut self.found)
    }

    /// Looks until there is something or nothing more to look at. Answers whether there is.
    pub(crate) async fn look(&mut self) -> Result<bool, String> {
        while self.found.is_empty() && self.has_more {
            let (node, query) = (Arc::clone(&self.node), self.query.clone());
            let page = tokio::task::spawn_blocking(move || node.ledger().outcomes(&query)).await;
            let page = page.map_err(|error| error.to_string())?.map_err(|e| e.to_string())?;
            self.query.after = page.next.or(self.query.after);
            self.has_more = page.has_more;
            self.found.extend(page.events);
        }
        Ok(!self.found.is_empty())
    }

    /// Waits until there is something. `None`: the server stops, or the ledger cannot be read.
    pub(crate) async fn wait(&mut self) -> Option<()> {
        loop {
            // Before looking, so that nothing is missed between.
            let changed = self.node.ledger_changed();
            self.has_more = true;
            match self.look().await {
                Ok(true) => return Some(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!("the ledger cannot be read: {error}");
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

/// The cursor after which everything comes that is settled from now on.
pub(crate) fn end(node: &Node) -> Result<Option<Cursor>, LedgerError> {
    let since_ms = Some(now_ms());
    let mut query = OutcomeQuery { limit: 1000, since_ms, ..OutcomeQuery::default() };
    loop {
        let page = node.ledger().outcomes(&query)?;
        query.after = page.next.or(query.after);
        if !page.has_more {
            return Ok(query.after);
        }
    }
}
