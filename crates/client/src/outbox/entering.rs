//! Putting one message into the outbox.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::Outbox;
use super::stored::column_of;
use super::within::InTransaction;
use crate::codec::CodecError;
use crate::error::{Error, ErrorKind};
use crate::producer::{check_deadline, check_headers, check_id, not_written};
use crate::queue::check_name;
use crate::sql::{Connection, Value};
use crate::target::Target;

/// A message about to be put into an outbox: await it, and it is there, or part of the transaction. What
/// comes back is its id.
#[must_use = "a message is put in when this is awaited"]
pub struct Entering<'t> {
    outbox: Outbox,
    transaction: Option<&'t mut dyn InTransaction>,
    target: Target,
    body: Result<Bytes, CodecError>,
    content_type: &'static str,
    id: Option<String>,
    key: Option<String>,
    deadline: Option<Duration>,
    headers: Vec<(String, String)>,
}

/// What a key may have: as much as an id.
const KEY_BYTES_MAX: usize = 255;

impl<'t> Entering<'t> {
    pub(super) fn new(
        outbox: Outbox,
        transaction: Option<&'t mut dyn InTransaction>,
        target: Target,
        body: Result<Bytes, CodecError>,
        content_type: &'static str,
    ) -> Self {
        let (id, key, deadline, headers) = Default::default();
        Self { outbox, transaction, target, body, content_type, id, key, deadline, headers }
    }

    /// The id by which the message is known; up to 255 bytes. Putting in another with the same id is
    /// harmless: while it is not known what becomes of the first, nothing changes. Once it is, the message is
    /// handed over again as [`Receipt::send_again`](crate::Receipt::send_again) does, also from within
    /// [`on_outcome`](super::Relay::on_outcome): it is not processed twice, and what becomes of it is told.
    /// Without an id it gets a UUID.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Messages with the same key, up to 255 bytes, are handed over one after the other, in the order in which
    /// they were put in, whichever queues they go to. Transactions that are open at the same time have no
    /// order.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// By when it must be processed, from now on: after that its outcome is
    /// [`DeadlineMissed`](crate::Outcome::DeadlineMissed).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives the message a header, as [`Sending::header`](crate::Sending::header) does.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    async fn enter(self) -> Result<String, Error> {
        let Self { outbox, transaction, target, body, content_type, .. } = self;
        let id = self.id.unwrap_or_else(|| Uuid::now_v7().to_string());
        check_name(target.name())?;
        check_id(&id)?;
        check_headers(&self.headers)?;
        check_deadline(self.deadline)?;
        let key = self.key.as_deref();
        for (what, text) in
            [("a queue", target.name()), ("a message's id", &id), ("a key", key.unwrap_or("-"))]
        {
            if text.contains('\0') {
                let text = format!("{what} has a zero byte, which a database cannot keep");
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        }
        if key.is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            let text = format!("a key has 1 to {KEY_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let entry = Entry {
            target: column_of(&target),
            id: &id,
            key,
            content_type,
            headers: serde_json::json!(self.headers).to_string(),
            deadline_ms: self.deadline.map(|it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX)),
            body: &body.map_err(|error| not_written(content_type, &error))?,
        };
        let entered = match transaction {
            Some(transaction) => {
                let connection = transaction.connection();
                if matches!(connection, Connection::Sqlite(_)) != outbox.database.is_sqlite() {
                    let text = "the transaction is not of the database that the outbox is in: begin it \
                                on the pool that the outbox was made with";
                    return Err(Error::new(ErrorKind::Outbox, text));
                }
                entry.enter(connection, outbox.database.now()).await
            }
            None => entry.enter_alone(&outbox).await,
        };
        entered.map_err(|error| outbox.place.failed(&error))?;
        outbox.entered.notify_one();
        Ok(id)
    }
}

impl<'t> IntoFuture for Entering<'t> {
    type Output = Result<String, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 't>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.enter())
    }
}

impl std::fmt::Debug for Entering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, id, .. } = self;
        f.debug_struct("Entering").field("target", target).field("id", id).finish_non_exhaustive()
    }
}

/// A new row.
struct Entry<'e> {
    target: String,
    id: &'e str,
    key: Option<&'e str>,
    content_type: &'static str,
    headers: String,
    deadline_ms: Option<i64>,
    body: &'e [u8],
}

impl Entry<'_> {
    async fn enter_alone(&self, outbox: &Outbox) -> Result<(), sqlx::Error> {
        let mut transaction = outbox.database.begin().await?;
        self.enter(transaction.connection(), outbox.database.now()).await?;
        transaction.commit().await
    }

    async fn enter(&self, mut connection: Connection<'_>, now: &str) -> Result<(), sqlx::Error> {
        // One that has its outcome makes room for a new one, at the end of the line: that is told, too.
        if !self.insert(connection.again(), now).await? {
            let known = "DELETE FROM wilco_outbox WHERE target = $1 AND id = $2 \
                         AND state IN ('settled', 'told')";
            let values = [self.target.as_str().into(), self.id.into()];
            connection.execute(known, &values).await?;
            // Also if there was none: the relay may just have forgotten it. If there is one still, it is
            // under way.
            self.insert(connection, now).await?;
        }
        Ok(())
    }

    /// `false`: there is one with this id.
    async fn insert(&self, mut connection: Connection<'_>, now: &str) -> Result<bool, sqlx::Error> {
        let state = if self.key.is_some() { "new" } else { "ready" };
        let insert = format!(
            "INSERT INTO wilco_outbox (target, id, order_key, content_type, headers, deadline_ms, \
                 body, body_bytes, state, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '{state}', {now}) \
             ON CONFLICT (target, id) DO NOTHING"
        );
        let values = [
            self.target.as_str().into(),
            self.id.into(),
            Value::Text(self.key),
            self.content_type.into(),
            self.headers.as_str().into(),
            Value::Number(self.deadline_ms),
            Value::Bytes(Some(self.body)),
            i64::try_from(self.body.len()).unwrap_or(i64::MAX).into(),
        ];
        Ok(connection.execute(&insert, &values).await? > 0)
    }
}
