//! The table, and all that is said to the database.
//!
//! The same statements serve SQLite and PostgreSQL, but for their clocks and the type of bytes.

use std::borrow::Cow;
use std::time::Duration;

use ::outcome::{Details, Flags, Outcome as Kind, OutcomeMessage, Reason, Verdict};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Executor as _, Row as _};

use super::{KEEP, KEEP_OPEN, LEASE, readable};
use crate::sql;

/// See the module's documentation.
pub(super) struct Statements {
    is_sqlite: bool,
    sent: String,
    claim: String,
    give_back: String,
    renew: String,
    settle: String,
    forget: String,
    row: String,
    rows: String,
}

/// What is read of a row.
const COLUMNS: &str = "queue, id, published_at, attempts, worker, claimant, outcome, reason, error, \
                       content_type, result, is_late, settled_at";

/// A message in a queue.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) queue: String,
    pub(super) id: String,
    pub(super) published_at_ms: u64,
    pub(super) attempts: u16,
    pub(super) worker: String,
    pub(super) is_claimed: bool,
    pub(super) settled: Option<Settled>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) outcome: Kind,
    pub(super) reason: Option<Reason>,
    pub(super) error: Option<Vec<u8>>,
    pub(super) content_type: Option<String>,
    pub(super) result: Option<Vec<u8>>,
    pub(super) is_late: bool,
    pub(super) settled_at_ms: u64,
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Statements {
    pub(super) fn new(is_sqlite: bool) -> Self {
        let now = sql::now(is_sqlite);
        let lease = ms(LEASE);
        let (keep, keep_open) = (ms(KEEP), ms(KEEP_OPEN));
        Self {
            is_sqlite,
            sent: "INSERT INTO wilco_messages (queue, id, published_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (queue, id) DO NOTHING"
                .to_owned(),
            claim: format!(
                "INSERT INTO wilco_messages \
                     (queue, id, published_at, attempts, worker, claimant, claimed_until) \
                 VALUES ($1, $2, {now}, $3, $4, $5, {now} + {lease}) \
                 ON CONFLICT (queue, id) DO UPDATE SET attempts = excluded.attempts, \
                     worker = excluded.worker, claimant = excluded.claimant, \
                     claimed_until = excluded.claimed_until \
                 WHERE wilco_messages.outcome IS NULL AND (wilco_messages.claimant IS NULL \
                     OR wilco_messages.claimed_until < {now})"
            ),
            give_back: "UPDATE wilco_messages SET claimant = NULL, claimed_until = NULL \
                        WHERE queue = $1 AND id = $2 AND claimant = $3"
                .to_owned(),
            renew: format!(
                "UPDATE wilco_messages SET claimed_until = {now} + {lease} WHERE claimant = $1"
            ),
            settle:
                "INSERT INTO wilco_messages (queue, id, published_at, attempts, worker, outcome, \
                         reason, error, content_type, result, is_late, settled_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                     ON CONFLICT (queue, id) DO UPDATE SET published_at = excluded.published_at, \
                         attempts = excluded.attempts, worker = excluded.worker, \
                         outcome = excluded.outcome, reason = excluded.reason, \
                         error = excluded.error, content_type = excluded.content_type, \
                         result = excluded.result, is_late = excluded.is_late, \
                         settled_at = excluded.settled_at, claimant = NULL, claimed_until = NULL \
                     WHERE wilco_messages.outcome IS NULL"
                    .to_owned(),
            forget: format!(
                "DELETE FROM wilco_messages WHERE settled_at < {now} - {keep} \
                 OR (settled_at IS NULL AND published_at < {now} - {keep_open})"
            ),
            row: format!("SELECT {COLUMNS} FROM wilco_messages WHERE queue = $1 AND id = $2"),
            rows: format!("SELECT {COLUMNS} FROM wilco_messages WHERE id = $1 ORDER BY queue"),
        }
    }

    /// How a transaction that writes begins: in SQLite with the lock, since a reader that becomes a writer
    /// is refused at once instead of waiting.
    pub(super) fn begin(&self) -> &'static str {
        if self.is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }
    }

    /// Makes the table, if it is not there.
    pub(super) async fn create(&self, pool: &AnyPool) -> Result<(), sqlx::Error> {
        let bytes = if self.is_sqlite { "BLOB" } else { "BYTEA" };
        let create = [
            format!(
                "CREATE TABLE IF NOT EXISTS wilco_messages (queue TEXT NOT NULL, id TEXT NOT NULL, \
                     published_at BIGINT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0, \
                     worker TEXT NOT NULL DEFAULT '', claimant TEXT, claimed_until BIGINT, \
                     outcome TEXT, reason TEXT, error {bytes}, content_type TEXT, result {bytes}, \
                     is_late BIGINT NOT NULL DEFAULT 0, settled_at BIGINT, PRIMARY KEY (queue, id))"
            ),
            "CREATE TABLE IF NOT EXISTS wilco_subscriptions (topic TEXT NOT NULL, \
             queue TEXT NOT NULL, PRIMARY KEY (topic, queue))"
                .to_owned(),
            "CREATE INDEX IF NOT EXISTS wilco_messages_id ON wilco_messages (id)".to_owned(),
            "CREATE INDEX IF NOT EXISTS wilco_messages_claimant ON wilco_messages (claimant) \
             WHERE claimant IS NOT NULL"
                .to_owned(),
            "CREATE INDEX IF NOT EXISTS wilco_messages_settled ON wilco_messages (settled_at)"
                .to_owned(),
        ];
        for statement in create {
            if let Err(error) = pool.execute(AssertSqlSafe(statement.clone())).await {
                // Two that begin together may both find no table; then one of them fails.
                tracing::debug!("again: {error}");
                pool.execute(AssertSqlSafe(statement)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn sent(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        id: &str,
        published_at_ms: u64,
    ) -> Result<(), sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.sent.as_str()));
        query.bind(queue).bind(id).bind(published_at_ms as i64).execute(connection).await.map(drop)
    }

    /// Whether the claim is granted.
    pub(super) async fn claim(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        id: &str,
        attempt: u32,
        worker: &str,
        claimant: &str,
    ) -> Result<bool, sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.claim.as_str()));
        let query = query.bind(queue).bind(id).bind(i64::from(attempt));
        let query = query.bind(readable(worker.as_bytes())).bind(claimant);
        Ok(query.execute(connection).await?.rows_affected() == 1)
    }

    pub(super) async fn give_back(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        id: &str,
        claimant: &str,
    ) -> Result<(), sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.give_back.as_str()));
        query.bind(queue).bind(id).bind(claimant).execute(connection).await.map(drop)
    }

    pub(super) async fn renew(&self, pool: &AnyPool, claimant: &str) -> Result<(), sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.renew.as_str()));
        query.bind(claimant).execute(pool).await.map(drop)
    }

    pub(super) async fn forget(&self, pool: &AnyPool) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(self.forget.as_str())).execute(pool).await.map(drop)
    }

    pub(super) async fn settle(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        id: &str,
        outcome: &OutcomeMessage<'_>,
    ) -> Result<(), sqlx::Error> {
        let OutcomeMessage { verdict, details, .. } = outcome;
        let query = sqlx::query(AssertSqlSafe(self.settle.as_str()));
        let query = query.bind(queue).bind(id).bind(verdict.published_at_ms as i64);
        let query = query.bind(i64::from(verdict.attempts));
        let query = query.bind(readable(details.worker.as_bytes()));
        let query = query.bind(verdict.outcome.name()).bind(verdict.reason.map(Reason::name));
        let query = query.bind(details.error.as_deref().map(|error| error.to_vec()));
        let query = query.bind(details.content_type.as_deref().map(|it| readable(it)));
        let query = query.bind(details.result.as_deref().map(<[u8]>::to_vec));
        let query = query.bind(i64::from(verdict.is_late())).bind(outcome.settled_at_ms as i64);
        query.execute(connection).await.map(drop)
    }

    pub(super) async fn subscribe(
        &self,
        pool: &AnyPool,
        topic: &str,
        queue: &str,
    ) -> Result<(), sqlx::Error> {
        let subscribe = "INSERT INTO wilco_subscriptions (topic, queue) VALUES ($1, $2) \
                         ON CONFLICT (topic, queue) DO NOTHING";
        sqlx::query(subscribe).bind(topic).bind(queue).execute(pool).await.map(drop)
    }

    pub(super) async fn unsubscribe(&self, pool: &AnyPool, queue: &str) -> Result<(), sqlx::Error> {
        let unsubscribe = "DELETE FROM wilco_subscriptions WHERE queue = $1";
        sqlx::query(unsubscribe).bind(queue).execute(pool).await.map(drop)
    }

    pub(super) async fn subscribers(
        &self,
        pool: &AnyPool,
        topic: &str,
    ) -> Result<Vec<String>, sqlx::Error> {
        let queues = "SELECT queue FROM wilco_subscriptions WHERE topic = $1 ORDER BY queue";
        sqlx::query_scalar(queues).bind(topic).fetch_all(pool).await
    }

    pub(super) async fn row(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        id: &str,
    ) -> Result<Option<Row>, sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.row.as_str())).bind(queue).bind(id);
        query.fetch_optional(connection).await?.as_ref().map(Row::read).transpose()
    }

    /// A message in all its queues.
    pub(super) async fn rows(&self, pool: &AnyPool, id: &str) -> Result<Vec<Row>, sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(self.rows.as_str())).bind(id);
        query.fetch_all(pool).await?.iter().map(Row::read).collect()
    }
}

impl Row {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.try_get::<i64, _>(name);
        let outcome: Option<String> = row.try_get("outcome")?;
        let settled = match outcome.as_deref().and_then(Kind::parse) {
            None => None,
            Some(outcome) => {
                let reason: Option<String> = row.try_get("reason")?;
                Some(Settled {
                    outcome,
                    reason: reason.as_deref().and_then(Reason::parse),
                    error: row.try_get("error")?,
                    content_type: row.try_get("content_type")?,
                    result: row.try_get("result")?,
                    is_late: number("is_late")? != 0,
                    settled_at_ms: number("settled_at")? as u64,
                })
            }
        };
        let claimant: Option<String> = row.try_get("claimant")?;
        Ok(Self {
            queue: row.try_get("queue")?,
            id: row.try_get("id")?,
            published_at_ms: number("published_at")? as u64,
            attempts: u16::try_from(number("attempts")?).unwrap_or(u16::MAX),
            worker: row.try_get("worker")?,
            is_claimed: claimant.is_some(),
            settled,
        })
    }

    /// What became of it, as its producer is told.
    pub(super) fn outcome_message(self) -> Option<OutcomeMessage<'static>> {
        let Self { queue, id, published_at_ms, attempts, worker, settled, .. } = self;
        let settled = settled?;
        Some(OutcomeMessage {
            verdict: Verdict {
                outcome: settled.outcome,
                reason: settled.reason,
                attempts,
                queue_count: 1,
                published_at_ms,
                flags: Flags::NONE.with_if(settled.is_late, Flags::LATE),
            },
            details: Details {
                message_id: Cow::Owned(id.into()),
                worker: worker.into(),
                error: settled.error.map(|error| Cow::Owned(error.into())),
                content_type: settled.content_type.map(|it| Cow::Owned(it.into())),
                result: settled.result.map(Cow::Owned),
                dead_letter_exchange: None,
            },
            correlation_id: None,
            queue: queue.into(),
            settled_at_ms: settled.settled_at_ms,
            result_bytes: None,
        })
    }
}
