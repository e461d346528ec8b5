//! A ledger in a database that processes share: an SQLite file, or PostgreSQL.
//!
//! One row for each message in each queue ([`statements`]). What changes goes through one task, which
//! carries out what has gathered meanwhile in one transaction: a commit is what costs. A claim ends by
//! itself when its process does not renew it; the database's clock counts, so those of its users may
//! differ.
//!
//! *Invariant:* rows are changed in the order of their keys, so that transactions of several processes
//! cannot wait for each other in a circle.

mod statements;

use std::sync::Arc;
use std::time::Duration;

use ::outcome::OutcomeMessage;
use async_trait::async_trait;
use serde_json::Value;
use sqlx::pool::PoolOptions;
use sqlx::postgres::Postgres;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions};
use sqlx::{Connection as _, Pool};
use tokio::sync::{mpsc, oneshot};

use self::statements::Statements;
use super::{Claim, Key, Ledger, story};
use crate::error::{Error, ErrorKind};
use crate::sql::{self, Connection, Database};

/// How long a claim lasts that nobody renews.
const LEASE: Duration = Duration::from_secs(10);
/// How often claims are renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// How long an outcome is kept.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a message without an outcome is kept.
const KEEP_OPEN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Changes in one transaction.
const BATCH: usize = 256;
/// Changes that may wait for the database.
const WAITING_MAX: usize = 4096;
/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections to the database: one writes at a time.
const CONNECTIONS: u32 = 3;
/// How long to wait for a connection to the database.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(crate) struct SqlLedger {
    statements: Arc<Statements>,
    changes: mpsc::Sender<Change>,
    /// Claims that are given back: never refused, as nobody waits for them.
    given_back: mpsc::UnboundedSender<(String, String)>,
}

/// Something to be changed, and who waits until it is.
struct Change {
    queue: String,
    id: String,
    what: What,
    done: oneshot::Sender<Result<Changed, Error>>,
}

/// What was done.
enum Changed {
    /// It is noted.
    Noted,
    /// The claim is granted.
    Granted(Grant),
    /// It is not.
    Denied(Claim),
}

/// A claim on its way to who asked for it: given back if that does not wait any more.
struct Grant {
    key: Option<(String, String)>,
    given_back: mpsc::UnboundedSender<(String, String)>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let _ = self.given_back.send(key);
        }
    }
}

enum What {
    Sent { published_at_ms: u64 },
    Claim { attempt: u32, worker: String },
    Settle(Box<OutcomeMessage<'static>>),
}

/// A name or an id as the database has it: text without zero bytes.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn failed(error: &sqlx::Error) -> Error {
    Error::new(ErrorKind::Ledger, format!("the ledger: {error}"))
}

/// Never with the URL, which may hold a password.
fn cannot_open(error: sqlx::Error) -> Error {
    let text = format!(
        "the ledger of the URL cannot be opened: {error}; check that the database runs, or that the file's \
         directory is there"
    );
    Error::new(ErrorKind::Ledger, text)
}

async fn connect(url: &str) -> Result<Database, sqlx::Error> {
    Ok(match url.starts_with("sqlite:") {
        true => {
            let file: SqliteConnectOptions = url.parse()?;
            Database::Sqlite(pool::<Sqlite>(sql::durable(file)).await?)
        }
        false => Database::Postgres(pool::<Postgres>(url.parse()?).await?),
    })
}

async fn pool<D: sqlx::Database>(
    options: <D::Connection as sqlx::Connection>::Options,
) -> Result<Pool<D>, sqlx::Error> {
    // A pool would try until its time is up.
    let trying = tokio::time::timeout(CONNECT_TIMEOUT, D::Connection::connect_with(&options));
    let tried = trying.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
    drop(tried.close().await);
    let pool = PoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECT_TIMEOUT);
    pool.connect_with(options).await
}

/// A database that vanishes without a word is not waited for for ever.
async fn within<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

impl SqlLedger {
    /// Opens it, and makes its table if there is none.
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        let opened = sql::open_unlocked(sql::is_locked, || Self::try_open(url));
        opened.await.map_err(cannot_open)
    }

    async fn try_open(url: &str) -> Result<Self, sqlx::Error> {
        let statements = Arc::new(Statements::new(connect(url).await?));
        statements.create().await?;
        let (changes, waiting) = mpsc::channel(WAITING_MAX);
        let (given_back, returned) = mpsc::unbounded_channel();
        let writer = Writer {
            statements: Arc::clone(&statements),
            claimant: uuid::Uuid::now_v7().to_string(),
            given_back: given_back.downgrade(),
        };
        tokio::spawn(writer.run(waiting, returned));
        Ok(Self { statements, changes, given_back })
    }

    /// Of a database that does not answer, the error is that.
    async fn bounded<T>(
        &self,
        asking: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        within(asking).await.map_err(|error| failed(&error))
    }

    async fn change(&self, key: Key<'_>, what: What) -> Result<Changed, Error> {
        let (done, is_done) = oneshot::channel();
        let (queue, id) = (readable(key.queue.as_bytes()), readable(key.id));
        let ended = || Error::new(ErrorKind::Closed, "the ledger is closed");
        let change = Change { queue, id, what, done };
        self.changes.send(change).await.map_err(|_| ended())?;
        is_done.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Ledger for SqlLedger {
    fn is_shared(&self) -> bool {
        true
    }

    async fn sent(&self, key: Key<'_>, published_at_ms: u64) -> Result<(), Error> {
        self.change(key, What::Sent { published_at_ms }).await.map(drop)
    }

    async fn claim(&self, key: Key<'_>, attempt: u32, worker: &str) -> Result<Claim, Error> {
        let what = What::Claim { attempt, worker: worker.to_owned() };
        Ok(match self.change(key, what).await? {
            Changed::Granted(mut grant) => {
                grant.key = None;
                Claim::Ours
            }
            Changed::Denied(claim) => claim,
            Changed::Noted => Claim::Theirs,
        })
    }

    fn give_back(&self, key: Key<'_>) {
        // If the task has ended, the claim ends by itself.
        let _ = self.given_back.send((readable(key.queue.as_bytes()), readable(key.id)));
    }

    async fn settle(&self, outcome: &OutcomeMessage<'static>) -> Result<(), Error> {
        let key = Key { queue: &outcome.queue, id: &outcome.details.message_id };
        self.change(key, What::Settle(Box::new(outcome.clone()))).await.map(drop)
    }

    async fn subscribe(&self, topic: &str, queue: &str) -> Result<(), Error> {
        let topic = readable(topic.as_bytes());
        self.bounded(self.statements.subscribe(&topic, queue)).await
    }

    async fn unsubscribe(&self, queue: &str) -> Result<(), Error> {
        self.bounded(self.statements.unsubscribe(queue)).await
    }

    async fn subscribers(&self, topic: &str) -> Result<Vec<String>, Error> {
        let topic = readable(topic.as_bytes());
        self.bounded(self.statements.subscribers(&topic)).await
    }

    async fn story(&self, id: &str) -> Result<Option<Value>, Error> {
        let readable = readable(id.as_bytes());
        Ok(story::of(id, &self.bounded(self.statements.rows(&readable)).await?))
    }
}

/// Carries out changes.
struct Writer {
    statements: Arc<Statements>,
    /// This process, in its claims.
    claimant: String,
    given_back: mpsc::WeakUnboundedSender<(String, String)>,
}

impl Writer {
    async fn run(
        self,
        mut waiting: mpsc::Receiver<Change>,
        mut returned: mpsc::UnboundedReceiver<(String, String)>,
    ) {
        let mut renew = tokio::time::interval(RENEW);
        let mut forget = tokio::time::interval(FORGET);
        let (mut batch, mut given_back) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                // First: claims must not run out because there is much to do.
                _ = renew.tick() => {
                    let renewed = within(self.statements.renew(&self.claimant)).await;
                    self.log("claims could not be renewed", renewed);
                    continue;
                }
                _ = forget.tick() => {
                    let forgotten = within(self.statements.forget()).await;
                    self.log("old outcomes could not be deleted", forgotten);
                    continue;
                }
                count = waiting.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                }
                count = returned.recv_many(&mut given_back, BATCH) => {
                    if count == 0 {
                        break;
                    }
                }
            }
            // What was given back before something was asked for is there for it.
            while let Ok(more) = returned.try_recv() {
                given_back.push(more);
            }
            batch.sort_by(|a, b| (&a.queue, &a.id).cmp(&(&b.queue, &b.id)));
            given_back.sort();
            match within(self.carry_out(&batch, &given_back)).await {
                Ok(results) => {
                    given_back.clear();
                    for (change, result) in batch.drain(..).zip(results) {
                        let _ = change.done.send(Ok(result));
                    }
                }
                // What was to be given back still is, with the next.
                Err(error) => {
                    let error = failed(&error);
                    for change in batch.drain(..) {
                        let _ = change.done.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn log(&self, what: &str, result: Result<(), sqlx::Error>) {
        if let Err(error) = result {
            tracing::warn!("{what}: {}", failed(&error));
        }
    }

    async fn carry_out(
        &self,
        batch: &[Change],
        given_back: &[(String, String)],
    ) -> Result<Vec<Changed>, sqlx::Error> {
        let mut transaction = self.statements.begin().await?;
        let mut connection = transaction.connection();
        let mut results = Vec::with_capacity(batch.len());
        for (queue, id) in given_back {
            self.statements.give_back(&mut connection, queue, id, &self.claimant).await?;
        }
        for change in batch {
            results.push(self.one(&mut connection, change).await?);
        }
        transaction.commit().await?;
        Ok(results)
    }

    async fn one(
        &self,
        connection: &mut Connection<'_>,
        Change { queue, id, what, .. }: &Change,
    ) -> Result<Changed, sqlx::Error> {
        let statements = &self.statements;
        match what {
            What::Sent { published_at_ms } => {
                statements.sent(connection, queue, id, *published_at_ms).await?;
                Ok(Changed::Noted)
            }
            What::Settle(outcome) => {
                statements.settle(connection, queue, id, outcome).await?;
                Ok(Changed::Noted)
            }
            What::Claim { attempt, worker } => {
                let claimant = self.claimant.as_str();
                let is_ours =
                    statements.claim(connection, queue, id, *attempt, worker, claimant).await?;
                if is_ours && let Some(given_back) = self.given_back.upgrade() {
                    let key = Some((queue.clone(), id.clone()));
                    return Ok(Changed::Granted(Grant { key, given_back }));
                }
                let row = statements.row(connection, queue, id).await?;
                let settled = row.and_then(|row| row.outcome_message());
                let claim = settled.map_or(Claim::Theirs, |it| Claim::Settled(Box::new(it)));
                Ok(Changed::Denied(claim))
            }
        }
    }
}

#[cfg(test)]
mod tests;
