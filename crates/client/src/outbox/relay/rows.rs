//! What a relay says to the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Error as SqlError;

use crate::error::{Error, ErrorKind};
use crate::outbox::pending::{REFUSED, UNREADABLE};
use crate::outbox::stored::details_of;
use crate::outcome::Settled;
use crate::sql::{Connection, Database, Value, ms};

/// Rows that are sorted into their lines, or deleted, in one transaction.
pub(super) const BATCH: usize = 500;

/// Conditions of indexes, in their words: SQLite uses an index for nothing else.
const FIRST: &str = "state = 'ready' AND order_key IS NOT NULL";
const SENT: &str = "state = 'sent' AND state <> 'told'";

/// See the module's documentation.
pub(super) struct Rows {
    pub(super) database: Database,
    /// Names this relay in its lease.
    pub(super) holder: String,
    pub(super) lease: Duration,
    /// What a message is once its outcome is known: `settled`, or `told` if nobody is to be.
    pub(super) settled: &'static str,
}

/// What is to be noted, by the rows' numbers.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) sent: BTreeSet<i64>,
    pub(super) settled: BTreeMap<i64, Arc<Settled>>,
    pub(super) refused: BTreeMap<i64, Error>,
    /// With why, and how long until the next attempt.
    pub(super) failed: BTreeMap<i64, (String, Duration)>,
    pub(super) told: BTreeSet<i64>,
    pub(super) untold: BTreeMap<i64, Duration>,
    /// Keys of which the next may be ready.
    pub(super) keys: BTreeSet<String>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        let Self { sent, settled, refused, failed, told, untold, keys } = self;
        sent.is_empty()
            && settled.is_empty()
            && refused.is_empty()
            && failed.is_empty()
            && told.is_empty()
            && untold.is_empty()
            && keys.is_empty()
    }
}

pub(super) fn list(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<_> = numbers.into_iter().map(|number| number.to_string()).collect();
    numbers.join(", ")
}

impl Rows {
    /// Takes the lease, if nobody has it. What an earlier relay has handed over is ready again, and what has
    /// its key is sorted anew, so that it goes first: the engine may have lost it.
    pub(super) async fn acquire(&self) -> Result<bool, SqlError> {
        let now = self.database.now();
        let free = format!("(holder IS NULL OR holder = $1 OR lease_until < {now})");
        let look = format!("SELECT 1 AS free FROM wilco_outbox_relay WHERE {free}");
        let holder = [self.holder.as_str().into()];
        if self.database.rows(&look, &holder).await?.is_empty() {
            return Ok(false);
        }
        let lease = ms(self.lease);
        let take = format!(
            "UPDATE wilco_outbox_relay SET holder = $1, lease_until = {now} + {lease} WHERE {free}"
        );
        let mut transaction = self.database.begin().await?;
        let mut connection = transaction.connection();
        if connection.execute(&take, &holder).await? == 0 {
            return Ok(false);
        }
        let behind_sent = format!(
            "UPDATE wilco_outbox SET state = 'new' WHERE {FIRST} \
                 AND order_key IN (SELECT order_key FROM wilco_outbox WHERE {SENT})"
        );
        connection.execute(&behind_sent, &[]).await?;
        let sort =
            format!("UPDATE wilco_outbox SET state = 'new' WHERE {SENT} AND order_key IS NOT NULL");
        connection.execute(&sort, &[]).await?;
        let ready = format!("UPDATE wilco_outbox SET state = 'ready' WHERE {SENT}");
        connection.execute(&ready, &[]).await?;
        if self.settled == "told" {
            let told = format!(
                "UPDATE wilco_outbox SET state = 'told', told_at = {now} \
                 WHERE seq IN (SELECT seq FROM wilco_outbox \
                     WHERE state = 'settled' AND state <> 'told' {})",
                self.database.unless_locked()
            );
            connection.execute(&told, &[]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    pub(super) async fn release(&self) -> Result<(), SqlError> {
        let release = "UPDATE wilco_outbox_relay SET holder = NULL, lease_until = 0 \
                       WHERE holder = $1";
        self.database.execute(release, &[self.holder.as_str().into()]).await.map(drop)
    }

    /// Renews the lease, notes what has changed and, if there are any, sorts new messages into their lines.
    /// `None`: the lease is somebody else's, and nothing was noted. Else whether there may be more new ones.
    pub(super) async fn write(
        &self,
        changes: &Changes,
        has_new: bool,
    ) -> Result<Option<bool>, SqlError> {
        let now = self.database.now();
        let mut transaction = self.database.begin().await?;
        let mut connection = transaction.connection();
        let renew = format!(
            "UPDATE wilco_outbox_relay SET lease_until = {now} + {} WHERE holder = $1",
            ms(self.lease)
        );
        if connection.execute(&renew, &[self.holder.as_str().into()]).await? == 0 {
            return Ok(None);
        }
        self.note_sending(&mut connection, changes).await?;
        self.note_telling(&mut connection, changes).await?;
        let mut keys = changes.keys.clone();
        let has_more = has_new && self.sort(&mut connection, &mut keys).await?;
        let next = format!(
            "UPDATE wilco_outbox SET state = 'ready' WHERE seq = \
                 (SELECT seq FROM wilco_outbox \
                  WHERE order_key = $1 AND state = 'behind' ORDER BY seq LIMIT 1) \
             AND NOT EXISTS (SELECT 1 FROM wilco_outbox WHERE {FIRST} AND order_key = $1)"
        );
        for key in keys {
            connection.execute(&next, &[key.as_str().into()]).await?;
        }
        transaction.commit().await?;
        Ok(Some(has_more))
    }

    async fn note_sending(
        &self,
        connection: &mut Connection<'_>,
        changes: &Changes,
    ) -> Result<(), SqlError> {
        let now = self.database.now();
        let sent: Vec<_> =
            changes.sent.iter().filter(|seq| !changes.settled.contains_key(seq)).collect();
        for sent in sent.chunks(BATCH) {
            let sent = list(sent.iter().map(|seq| **seq));
            let note = format!(
                "UPDATE wilco_outbox SET state = 'sent', attempts = attempts + 1, \
                     last_error = NULL WHERE seq IN ({sent}) AND state = 'ready'"
            );
            connection.execute(&note, &[]).await?;
        }
        let told_at = if self.settled == "told" { now } else { "NULL" };
        // The body is not needed any more.
        let settle = format!(
            "UPDATE wilco_outbox SET state = '{}', told_at = {told_at}, outcome = $2, details = $3, \
                 result = $4, last_error = $5, body = $6, tellings = 0, retry_at = 0 \
             WHERE seq = $1 AND state IN ('ready', 'sent')",
            self.settled
        );
        for (seq, settled) in &changes.settled {
            let details = details_of(settled);
            let values = [
                Value::from(*seq),
                settled.kind.name().into(),
                details.as_str().into(),
                Value::Bytes((!settled.result.is_empty()).then_some(&settled.result[..])),
                Value::Text(None),
                Value::Bytes(Some(&[])),
            ];
            connection.execute(&settle, &values).await?;
        }
        // Its body stays: whoever looks may find out what is wrong with it.
        let refuse = format!(
            "UPDATE wilco_outbox SET state = '{}', told_at = {told_at}, outcome = '{REFUSED}', \
                 last_error = $2, details = $3, attempts = attempts + 1, tellings = 0, retry_at = 0 \
             WHERE seq = $1 AND state = 'ready'",
            self.settled
        );
        for (seq, error) in &changes.refused {
            let text = without_zeros(&error.to_string());
            let details = (error.kind() == ErrorKind::Codec).then_some(UNREADABLE);
            let values = [(*seq).into(), text.as_str().into(), Value::Text(details)];
            connection.execute(&refuse, &values).await?;
        }
        let fail = format!(
            "UPDATE wilco_outbox SET attempts = attempts + 1, last_error = $2, \
                 retry_at = {now} + $3 WHERE seq = $1 AND state = 'ready'"
        );
        for (seq, (error, wait)) in &changes.failed {
            let error = without_zeros(error);
            let values = [(*seq).into(), error.as_str().into(), ms(*wait).into()];
            connection.execute(&fail, &values).await?;
        }
        Ok(())
    }

    async fn note_telling(
        &self,
        connection: &mut Connection<'_>,
        changes: &Changes,
    ) -> Result<(), SqlError> {
        let now = self.database.now();
        let unless_locked = self.database.unless_locked();
        let told: Vec<_> = changes.told.iter().copied().collect();
        for told in told.chunks(BATCH) {
            let note = format!(
                "UPDATE wilco_outbox SET state = 'told', told_at = {now} \
                 WHERE seq IN (SELECT seq FROM wilco_outbox \
                     WHERE seq IN ({}) AND state = 'settled' {unless_locked})",
                list(told.iter().copied())
            );
            connection.execute(&note, &[]).await?;
        }
        let again = format!(
            "UPDATE wilco_outbox SET tellings = tellings + 1, retry_at = {now} + $2 \
             WHERE seq = (SELECT seq FROM wilco_outbox \
                 WHERE seq = $1 AND state = 'settled' {unless_locked})"
        );
        for (seq, wait) in &changes.untold {
            connection.execute(&again, &[(*seq).into(), ms(*wait).into()]).await?;
        }
        Ok(())
    }

    /// Has new messages stand behind the others with their key, in the order in which they were put in.
    async fn sort(
        &self,
        connection: &mut Connection<'_>,
        keys: &mut BTreeSet<String>,
    ) -> Result<bool, SqlError> {
        let select = format!(
            "SELECT seq, order_key FROM wilco_outbox \
             WHERE state = 'new' AND state <> 'told' ORDER BY seq LIMIT {BATCH}"
        );
        let rows = connection.rows(&select, &[]).await?;
        let mut sorted = Vec::with_capacity(rows.len());
        for row in &rows {
            sorted.push(row.read::<i64>("seq")?);
            keys.extend(row.read::<Option<String>>("order_key")?);
        }
        if !sorted.is_empty() {
            let list = list(sorted);
            let line = format!("UPDATE wilco_outbox SET state = 'behind' WHERE seq IN ({list})");
            connection.execute(&line, &[]).await?;
        }
        Ok(rows.len() == BATCH)
    }
}

/// PostgreSQL has no texts with zero bytes.
fn without_zeros(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
