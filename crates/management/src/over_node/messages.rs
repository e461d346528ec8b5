//! Messages by id, and outcomes in order, as the node and its ledger answer.

use std::sync::Arc;

use async_trait::async_trait;
use node::{ByIdError, Node};

use super::OverNode;
use super::broker::identity;
use super::events::{cursor, ledger_query, message_event, outcome_page, place};
use crate::ports::{
    Access, Changed, Cursor, CursorError, Freshness, MessageEvent, Messages, MessagesError,
    OutcomePage, OutcomeQuery, Outgoing, Placed, User,
};
use crate::time::now_ms;

/// How many outcomes are looked at in one step on the way to the end.
const STEP: usize = 1000;

impl OverNode {
    /// Runs work that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Node) -> Result<T, MessagesError> + Send + 'static,
    ) -> Result<T, MessagesError> {
        let node = Arc::clone(&self.node);
        let done = tokio::task::spawn_blocking(move || work(&node)).await;
        done.map_err(store)?
    }

    /// Reads of the ledger, a few at a time. Never waits for a commit: on a full disk that may take
    /// long, and others wait for their turn.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node) -> Result<T, MessagesError> + Send + 'static,
    ) -> Result<T, MessagesError> {
        let _turn = self.reads.acquire().await.map_err(store)?;
        self.blocking(read).await
    }
}

#[async_trait]
impl Messages for OverNode {
    async fn publish(
        &self,
        user: &User,
        vhost: &str,
        message: Outgoing,
    ) -> Result<Placed, MessagesError> {
        super::publish::publish(&self.node, &identity(user), vhost, message).await
    }

    async fn events(
        &self,
        vhost: &str,
        id: &str,
        freshness: Freshness,
    ) -> Result<Vec<MessageEvent>, MessagesError> {
        let (vhost, id) = (vhost.to_owned(), id.to_owned());
        if freshness == Freshness::Now {
            self.blocking(|node| node.follow_now().map_err(by_id)).await?;
        }
        self.reading(move |node| {
            let events = node.events_told(&vhost, &id);
            let name = |realm: &str| node.vhost_of_realm(realm).map(str::to_owned);
            let events = events.map_err(by_id)?.into_iter();
            Ok(events.filter_map(|event| message_event(event, name)).collect())
        })
        .await
    }

    async fn outcomes(&self, query: OutcomeQuery) -> Result<OutcomePage, MessagesError> {
        self.reading(move |node| {
            node.follow_told().map_err(by_id)?;
            let page = node.ledger().outcomes(&ledger_query(node, query)?).map_err(store)?;
            Ok(outcome_page(node, page))
        })
        .await
    }

    async fn end(&self) -> Result<Option<Cursor>, MessagesError> {
        let since_ms = Some(now_ms());
        let mut query =
            outcome::OutcomeQuery { limit: STEP, since_ms, ..outcome::OutcomeQuery::default() };
        self.blocking(move |node| {
            loop {
                let page = node.ledger().outcomes(&query).map_err(store)?;
                query.after = page.next.or(query.after);
                if !page.has_more {
                    return Ok(query.after.map(cursor));
                }
            }
        })
        .await
    }

    fn beginning(&self) -> Cursor {
        cursor(outcome::Cursor::default())
    }

    fn cursor(&self, text: &str) -> Result<Cursor, CursorError> {
        place(text).map(cursor)
    }

    fn changed(&self) -> Changed {
        Box::pin(self.node.ledger_changed())
    }

    async fn cancel(&self, vhost: &str, queue: &str, id: &str) -> Result<(), MessagesError> {
        let [vhost, queue, id] = [vhost, queue, id].map(str::to_owned);
        self.blocking(move |node| node.cancel_message(&vhost, &queue, &id).map_err(by_id)).await
    }

    async fn retry(
        &self,
        user: &User,
        vhost: &str,
        queue: &str,
        id: &str,
    ) -> Result<(), MessagesError> {
        let [vhost, queue, id] = [vhost, queue, id].map(str::to_owned);
        let user = identity(user);
        self.blocking(move |node| {
            let may_take = |queue: &str| {
                let has = |access| node.may(&vhost, user.user(), access, queue);
                node.is_current(&user)
                    && has(node::auth::Access::Read)
                    && has(node::auth::Access::Write)
            };
            node.retry_message(&vhost, &queue, &id, may_take).map_err(by_id)
        })
        .await
    }

    fn message_bytes_max(&self) -> u64 {
        self.node.message_bytes_max()
    }

    fn may(&self, user: &str, vhost: &str, access: Access, name: &str) -> bool {
        let access = match access {
            Access::Read => node::auth::Access::Read,
            Access::Write => node::auth::Access::Write,
        };
        self.node.may(vhost, user, access, name)
    }
}

fn store(error: impl std::fmt::Display) -> MessagesError {
    MessagesError::Store(error.to_string())
}

fn by_id(error: ByIdError) -> MessagesError {
    match error {
        ByIdError::Unknown => MessagesError::Unknown,
        ByIdError::Delivered => MessagesError::BeingWorkedOn,
        ByIdError::Settled => MessagesError::AlreadySettled,
        ByIdError::NotFailed => MessagesError::NotFailed,
        ByIdError::ContentGone => MessagesError::ContentGone,
        ByIdError::QueueGone(queue) => MessagesError::QueueGone(queue),
        ByIdError::QueueFull(queue) => MessagesError::QueueFull(queue),
        ByIdError::Store(error) => {
            MessagesError::Store(format!("the store cannot be read: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_words_are_the_ports() {
        let check = |error: ByIdError| assert_eq!(error.to_string(), by_id(error).to_string());
        check(ByIdError::Unknown);
        check(ByIdError::Delivered);
        check(ByIdError::Settled);
        check(ByIdError::NotFailed);
        check(ByIdError::ContentGone);
        check(ByIdError::QueueGone("q".to_owned()));
        check(ByIdError::QueueFull("q".to_owned()));
        check(ByIdError::Store("x".to_owned()));
    }
}
