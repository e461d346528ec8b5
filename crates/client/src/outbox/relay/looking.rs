//! What a relay reads: what is to be handed over, and what is to be told; and what it deletes.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Error as SqlError;

use super::rows::{BATCH, Rows, list};
use crate::error::{Error, ErrorKind};
use crate::outbox::Told;
use crate::outbox::pending::{outcome_of, unreadable};
use crate::outbox::stored::target_of;
use crate::producer::Encoded;
use crate::sql::{Row, ms};

/// A message to be handed over.
pub(super) struct Message {
    pub(super) seq: i64,
    pub(super) key: Option<String>,
    pub(super) attempts: u32,
    /// `None`: the row cannot be read.
    pub(super) encoded: Option<Encoded>,
}

/// An outcome to be told.
pub(super) struct Untold {
    pub(super) seq: i64,
    pub(super) tellings: u32,
    pub(super) told: Told,
}

impl Rows {
    /// Whether there are messages that stand in no line yet.
    pub(super) async fn has_new(&self) -> Result<bool, SqlError> {
        let select = "SELECT seq FROM wilco_outbox WHERE state = 'new' AND state <> 'told' LIMIT 1";
        Ok(!self.database.rows(select, &[]).await?.is_empty())
    }

    /// The targets of what is ready: found one after the other by the index, however much there is.
    pub(super) async fn targets(&self) -> Result<Vec<Arc<str>>, SqlError> {
        let select = "WITH RECURSIVE targets (target) AS ( \
                          SELECT min(target) FROM wilco_outbox WHERE state = 'ready' \
                          UNION ALL \
                          SELECT (SELECT min(more.target) FROM wilco_outbox AS more \
                                  WHERE more.state = 'ready' AND more.target > targets.target) \
                          FROM targets WHERE targets.target IS NOT NULL) \
                      SELECT target FROM targets WHERE target IS NOT NULL";
        let rows = self.database.rows(select, &[]).await?;
        rows.iter().map(|row| Ok(row.read::<String>("target")?.into())).collect()
    }

    /// The first ready ones, with the lengths of their bodies.
    pub(super) async fn ready(
        &self,
        target: &str,
        limit: usize,
    ) -> Result<Vec<(i64, usize)>, SqlError> {
        let select = format!(
            "SELECT seq, body_bytes FROM wilco_outbox \
             WHERE state = 'ready' AND target = $1 AND retry_at <= {} ORDER BY seq LIMIT $2",
            self.database.now()
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.database.rows(&select, &[target.into(), limit.into()]).await?;
        let read = |row: &Row| {
            let bytes = row.read::<i64>("body_bytes")?;
            Ok((row.read("seq")?, usize::try_from(bytes).unwrap_or_default()))
        };
        rows.iter().map(read).collect()
    }

    pub(super) async fn messages(
        &self,
        seqs: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<Message>, SqlError> {
        let select = format!(
            "SELECT seq, id, order_key, content_type, headers, deadline_ms, attempts, body, \
                 {} - created_at AS age FROM wilco_outbox WHERE seq IN ({}) ORDER BY seq",
            self.database.now(),
            list(seqs)
        );
        let rows = self.database.rows(&select, &[]).await?;
        rows.iter().map(message).collect()
    }

    /// Outcomes that nobody has been told, at most so many.
    pub(super) async fn untold(&self, limit: usize) -> Result<Vec<Untold>, SqlError> {
        let select = format!(
            "SELECT seq, target, id, order_key, tellings, outcome, details, result, last_error \
             FROM wilco_outbox WHERE state = 'settled' AND state <> 'told' AND retry_at <= {} \
             ORDER BY seq LIMIT {limit}",
            self.database.now()
        );
        self.database.rows(&select, &[]).await?.iter().map(untold).collect()
    }

    /// Deletes what was told long ago, so many at a time. Returns whether there may be more.
    pub(super) async fn forget(&self, keep: Duration) -> Result<bool, SqlError> {
        let forget = format!(
            "DELETE FROM wilco_outbox WHERE seq IN (SELECT seq FROM wilco_outbox \
                 WHERE state = 'told' AND told_at <= {} - $1 ORDER BY told_at LIMIT {BATCH} \
                 {})",
            self.database.now(),
            self.database.unless_locked()
        );
        let deleted = self.database.execute(&forget, &[ms(keep).into()]).await?;
        Ok(deleted == BATCH as u64)
    }
}

fn count(row: &Row, column: &str) -> Result<u32, SqlError> {
    Ok(u32::try_from(row.read::<i64>(column)?).unwrap_or_default())
}

fn message(row: &Row) -> Result<Message, SqlError> {
    let headers: String = row.read("headers")?;
    let age = row.read::<i64>("age")?.max(0);
    // One that has passed is told by the engine.
    let left = |deadline: i64| deadline.saturating_sub(age).max(1) as u64;
    let id: String = row.read("id")?;
    let deadline: Option<i64> = row.read("deadline_ms")?;
    let (content_type, body) = (row.read("content_type")?, row.read::<Vec<u8>>("body")?.into());
    let encoded = serde_json::from_str(&headers).ok().map(|headers| Encoded {
        id: id.into(),
        content_type,
        deadline: deadline.map(|deadline| Duration::from_millis(left(deadline))),
        headers,
        body,
    });
    Ok(Message {
        seq: row.read("seq")?,
        key: row.read("order_key")?,
        attempts: count(row, "attempts")?,
        encoded,
    })
}

fn untold(row: &Row) -> Result<Untold, SqlError> {
    let id: String = row.read("id")?;
    let target = target_of(&row.read::<String>("target")?).ok_or_else(|| unreadable("target"))?;
    let outcome = match outcome_of(row, &target, &id) {
        Err(SqlError::ColumnDecode { source, .. }) => {
            let text = format!("what became of message {id} cannot be read: {source}");
            Err(Error::new(ErrorKind::Codec, text))
        }
        outcome => outcome?,
    };
    let told = Told { id, target: target.name().to_owned(), key: row.read("order_key")?, outcome };
    Ok(Untold { seq: row.read("seq")?, tellings: count(row, "tellings")?, told })
}
