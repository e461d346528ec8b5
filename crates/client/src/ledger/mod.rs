//! What became of which message, where the engine does not know: who works on it, and its outcome.
//!
//! Workers claim a message before they work on it, so that two with the same id are not worked on at the
//! same time, and note its outcome, so that it is not worked on again. Whoever looks up an id asks here.

mod memory;
#[cfg(feature = "sql")]
mod sql;
#[cfg(any(feature = "kafka", feature = "sql"))]
pub(crate) mod story;

use std::sync::Arc;

use ::outcome::OutcomeMessage;
use async_trait::async_trait;
use serde_json::Value;

use crate::error::{Error, ErrorKind};

pub(crate) use self::memory::MemoryLedger;

/// Opens the ledger that a URL names; without one, that of this process.
pub(crate) async fn open(url: Option<&str>) -> Result<Arc<dyn Ledger>, Error> {
    match url {
        None => Ok(Arc::new(MemoryLedger::default())),
        #[cfg(feature = "sql")]
        Some(url) if is_sql(url) => Ok(Arc::new(sql::SqlLedger::open(url).await?)),
        #[cfg(not(feature = "sql"))]
        Some(url) if is_sql(url) => {
            let text = "a ledger in a database needs the feature sql of the crate wilco";
            Err(Error::new(ErrorKind::Url, text))
        }
        Some(_) => {
            let text = "the ledger that the URL names is none of sqlite:FILE and \
                        postgres://user:password@host/database";
            Err(Error::new(ErrorKind::Url, text))
        }
    }
}

fn is_sql(url: &str) -> bool {
    ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

/// A message: the same id in two queues is two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a> {
    pub(crate) queue: &'a str,
    pub(crate) id: &'a [u8],
}

/// Whether a message may be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// By whoever asked, until it is settled or given back, or its worker is gone.
    Ours,
    /// Somebody works on it.
    Theirs,
    /// This became of it.
    Settled(Box<OutcomeMessage<'static>>),
}

/// See the module's documentation.
#[async_trait]
pub(crate) trait Ledger: Send + Sync + 'static {
    /// Whether other processes have it as well.
    fn is_shared(&self) -> bool;

    /// A message is about to be sent; one that is known stays as it is.
    async fn sent(&self, key: Key<'_>, published_at_ms: u64) -> Result<(), Error>;

    /// A worker wants to work on a message.
    async fn claim(&self, key: Key<'_>, attempt: u32, worker: &str) -> Result<Claim, Error>;

    /// It does not work on it any more; nothing changes if it has settled it. Soon, without waiting.
    fn give_back(&self, key: Key<'_>);

    /// This became of a message. The first outcome stays.
    async fn settle(&self, outcome: &OutcomeMessage<'static>) -> Result<(), Error>;

    /// Has a queue be one of a topic.
    async fn subscribe(&self, topic: &str, queue: &str) -> Result<(), Error>;

    /// Has a queue be in no topic any more.
    async fn unsubscribe(&self, queue: &str) -> Result<(), Error>;

    /// The queues of a topic.
    ///
    /// # Errors
    /// [`ErrorKind::NoLedger`](crate::ErrorKind::NoLedger): this one does not know.
    async fn subscribers(&self, topic: &str) -> Result<Vec<String>, Error>;

    /// All that is known of an id, as `GET /v1/messages/{id}` of a wilco server says it; `None` if nothing
    /// is.
    ///
    /// # Errors
    /// [`ErrorKind::NoLedger`](crate::ErrorKind::NoLedger): this one answers nobody.
    async fn story(&self, id: &str) -> Result<Option<Value>, Error>;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::borrow::Cow;
    use std::future::Future;

    use ::outcome::{Details, Flags, Outcome as Kind, Reason, Verdict};

    use super::*;

    pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    pub(crate) fn outcome(queue: &str, id: &str, result: &[u8]) -> OutcomeMessage<'static> {
        OutcomeMessage {
            verdict: Verdict {
                outcome: Kind::Processed,
                reason: Some(Reason::Acked),
                attempts: 2,
                queue_count: 1,
                published_at_ms: crate::clock::now_ms(),
                flags: Flags::LATE,
            },
            details: Details {
                message_id: Cow::Owned(id.into()),
                worker: "w".into(),
                error: None,
                content_type: Some(Cow::Owned("text/plain".into())),
                result: Some(Cow::Owned(result.to_owned())),
                dead_letter_exchange: None,
            },
            correlation_id: None,
            queue: Cow::Owned(queue.to_owned()),
            // What is old is forgotten.
            settled_at_ms: crate::clock::now_ms(),
            result_bytes: None,
            traceparent: None,
        }
    }

    /// What every ledger does.
    pub(crate) async fn check(ledger: &dyn Ledger) {
        let key = Key { queue: "q", id: b"a" };
        let claim = async || ledger.claim(key, 1, "w").await.expect("asked");
        assert_eq!(claim().await, Claim::Ours);
        assert_eq!(claim().await, Claim::Theirs);
        let elsewhere = Key { queue: "other", id: b"a" };
        assert_eq!(ledger.claim(elsewhere, 1, "w").await.expect("asked"), Claim::Ours);
        ledger.give_back(key);
        assert_eq!(claim().await, Claim::Ours, "what is given back is free");
        let first = outcome("q", "a", b"\x00\xff");
        ledger.settle(&first).await.expect("noted");
        ledger.settle(&outcome("q", "a", b"another")).await.expect("noted");
        ledger.give_back(key);
        assert_eq!(claim().await, Claim::Settled(Box::new(first)), "the first outcome stays");
    }

    #[test]
    fn the_ledger_in_memory_is_one() {
        block(check(&MemoryLedger::default()));
    }
}
