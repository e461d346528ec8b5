//! The table, and all that is said to the database.
//!
//! What changes rows is said on the [`Connection`] of a transaction; the rest by itself.

use std::borrow::Cow;

use ::outcome::{Details, Flags, Outcome as Kind, OutcomeMessage, Reason, Verdict};

use super::{KEEP, KEEP_OPEN, LEASE, readable};
use crate::ledger::story::{InQueue, Settled};
use crate::sql::{self, Connection, Database, Own, Value, ms};

/// See the module's documentation.
pub(super) struct Statements {
    database: Database,
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

impl Statements {
    pub(super) fn new(database: Database) -> Self {
        let now = database.now();
        let lease = ms(LEASE);
        let (keep, keep_open) = (ms(KEEP), ms(KEEP_OPEN));
        Self {
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
            database,
        }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Own, sqlx::Error> {
        self.database.begin().await
    }

    /// Makes the tables, if there are none.
    pub(super) async fn create(&self) -> Result<(), sqlx::Error> {
        let bytes = self.database.bytes();
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
            if let Err(error) = self.database.execute(&statement, &[]).await {
                // Two that begin together may both find no table; then one of them fails.
                tracing::debug!("again: {error}");
                self.database.execute(&statement, &[]).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn sent(
        &self,
        connection: &mut Connection<'_>,
        queue: &str,
        id: &str,
        published_at_ms: u64,
    ) -> Result<(), sqlx::Error> {
        let values = [queue.into(), id.into(), number(published_at_ms)];
        connection.execute(&self.sent, &values).await.map(drop)
    }

    /// Whether the claim is granted.
    pub(super) async fn claim(
        &self,
        connection: &mut Connection<'_>,
        queue: &str,
        id: &str,
        attempt: u32,
        worker: &str,
        claimant: &str,
    ) -> Result<bool, sqlx::Error> {
        let worker = readable(worker.as_bytes());
        let values =
            [queue.into(), id.into(), number(attempt.into()), (*worker).into(), claimant.into()];
        Ok(connection.execute(&self.claim, &values).await? == 1)
    }

    pub(super) async fn give_back(
        &self,
        connection: &mut Connection<'_>,
        queue: &str,
        id: &str,
        claimant: &str,
    ) -> Result<(), sqlx::Error> {
        let values = [queue.into(), id.into(), claimant.into()];
        connection.execute(&self.give_back, &values).await.map(drop)
    }

    pub(super) async fn renew(&self, claimant: &str) -> Result<(), sqlx::Error> {
        self.database.execute(&self.renew, &[claimant.into()]).await.map(drop)
    }

    pub(super) async fn forget(&self) -> Result<(), sqlx::Error> {
        self.database.execute(&self.forget, &[]).await.map(drop)
    }

    pub(super) async fn settle(
        &self,
        connection: &mut Connection<'_>,
        queue: &str,
        id: &str,
        outcome: &OutcomeMessage<'_>,
    ) -> Result<(), sqlx::Error> {
        let OutcomeMessage { verdict, details, .. } = outcome;
        let worker = readable(details.worker.as_bytes());
        let content_type = details.content_type.as_deref().map(|it| readable(it));
        let values = [
            queue.into(),
            id.into(),
            number(verdict.published_at_ms),
            number(verdict.attempts.into()),
            (*worker).into(),
            verdict.outcome.name().into(),
            Value::Text(verdict.reason.map(Reason::name)),
            Value::Bytes(details.error.as_deref().map(|it| &**it)),
            Value::Text(content_type.as_deref()),
            Value::Bytes(details.result.as_deref()),
            number(verdict.is_late().into()),
            number(outcome.settled_at_ms),
        ];
        connection.execute(&self.settle, &values).await.map(drop)
    }

    pub(super) async fn subscribe(&self, topic: &str, queue: &str) -> Result<(), sqlx::Error> {
        let subscribe = "INSERT INTO wilco_subscriptions (topic, queue) VALUES ($1, $2) \
                         ON CONFLICT (topic, queue) DO NOTHING";
        self.database.execute(subscribe, &[topic.into(), queue.into()]).await.map(drop)
    }

    pub(super) async fn unsubscribe(&self, queue: &str) -> Result<(), sqlx::Error> {
        let unsubscribe = "DELETE FROM wilco_subscriptions WHERE queue = $1";
        self.database.execute(unsubscribe, &[queue.into()]).await.map(drop)
    }

    pub(super) async fn subscribers(&self, topic: &str) -> Result<Vec<String>, sqlx::Error> {
        let queues = "SELECT queue FROM wilco_subscriptions WHERE topic = $1 ORDER BY queue";
        let rows = self.database.rows(queues, &[topic.into()]).await?;
        rows.iter().map(|row| row.read("queue")).collect()
    }

    pub(super) async fn row(
        &self,
        connection: &mut Connection<'_>,
        queue: &str,
        id: &str,
    ) -> Result<Option<InQueue>, sqlx::Error> {
        let rows = connection.rows(&self.row, &[queue.into(), id.into()]).await?;
        rows.first().map(InQueue::read).transpose()
    }

    /// A message in all its queues.
    pub(super) async fn rows(&self, id: &str) -> Result<Vec<InQueue>, sqlx::Error> {
        let rows = self.database.rows(&self.rows, &[id.into()]).await?;
        rows.iter().map(InQueue::read).collect()
    }
}

/// As columns have numbers, also those without a sign.
fn number(number: u64) -> Value<'static> {
    Value::Number(Some(number as i64))
}

impl InQueue {
    fn read(row: &sql::Row) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.read::<i64>(name);
        let outcome: Option<String> = row.read("outcome")?;
        let settled = match outcome.as_deref().and_then(Kind::parse) {
            None => None,
            Some(outcome) => {
                let reason: Option<String> = row.read("reason")?;
                Some(Settled {
                    outcome,
                    reason: reason.as_deref().and_then(Reason::parse),
                    error: row.read("error")?,
                    content_type: row.read("content_type")?,
                    result: row.read("result")?,
                    is_late: number("is_late")? != 0,
                    settled_at_ms: number("settled_at")? as u64,
                })
            }
        };
        let claimant: Option<String> = row.read("claimant")?;
        Ok(Self {
            queue: row.read("queue")?,
            id: row.read("id")?,
            published_at_ms: number("published_at")? as u64,
            attempts: u16::try_from(number("attempts")?).unwrap_or(u16::MAX),
            worker: row.read("worker")?,
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
            traceparent: None,
        })
    }
}
