//! The two databases behind one face: statements with values, rows with columns.
//!
//! The statements are the same for both, but for their clocks and the type of bytes. `sqlx`'s own `Any` does
//! not do: an outbox takes part in transactions that the user has begun.

use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Executor as _, Row as _, Transaction, Type};

/// A database, by its pool of connections.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A transaction of our own; rolled back if it is dropped.
pub(crate) enum Own {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A connection, or a transaction on it.
pub(crate) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A value in a statement: `$1` and so on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'v> {
    Number(Option<i64>),
    Text(Option<&'v str>),
    Bytes(Option<&'v [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(Some(text))
    }
}

/// A row that was read.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn read<'r, T>(&'r self, column: &str) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// A query of either database with its values.
macro_rules! query {
    ($sql:expr, $values:expr) => {{
        let values: &[Value<'_>] = $values;
        // What has no values is made for the occasion, and not worth keeping prepared.
        let mut query = sqlx::query(AssertSqlSafe($sql)).persistent(!values.is_empty());
        for value in values {
            query = match *value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text.map(str::to_owned)),
                Value::Bytes(bytes) => query.bind(bytes.map(<[u8]>::to_vec)),
            };
        }
        query
    }};
}

impl Connection<'_> {
    pub(crate) fn again(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }

    /// Carries out a statement; returns how many rows it has changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let sql = sql.to_owned();
        Ok(match self {
            Self::Sqlite(connection) => {
                query!(sql, values).execute(&mut **connection).await?.rows_affected()
            }
            Self::Postgres(connection) => {
                query!(sql, values).execute(&mut **connection).await?.rows_affected()
            }
        })
    }

    pub(crate) async fn rows(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let sql = sql.to_owned();
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }
}

impl Database {
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Now, in ms since the epoch, by the database's clock: those of its users may differ.
    pub(crate) fn now(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// The type of bytes.
    pub(crate) fn bytes(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BLOB",
            Self::Postgres(_) => "BYTEA",
        }
    }

    /// Behind a selection of rows to be changed: leaves out those that somebody else is changing. SQLite has
    /// one writer at a time.
    pub(crate) fn unless_locked(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// Begins a transaction that writes: in SQLite with the lock, since a reader that becomes a writer is
    /// refused at once instead of waiting.
    pub(crate) async fn begin(&self) -> Result<Own, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Own::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Own::Postgres(pool.begin().await?),
        })
    }

    pub(crate) async fn rows(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                Connection::Sqlite(&mut *pool.acquire().await?).rows(sql, values).await
            }
            Self::Postgres(pool) => {
                Connection::Postgres(&mut *pool.acquire().await?).rows(sql, values).await
            }
        }
    }

    pub(crate) async fn execute(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                Connection::Sqlite(&mut *pool.acquire().await?).execute(sql, values).await
            }
            Self::Postgres(pool) => {
                Connection::Postgres(&mut *pool.acquire().await?).execute(sql, values).await
            }
        }
    }
}

impl Own {
    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }

    /// Several statements without values.
    pub(crate) async fn script(&mut self, sql: String) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.execute(AssertSqlSafe(sql)).await.map(drop),
            Self::Postgres(transaction) => transaction.execute(AssertSqlSafe(sql)).await.map(drop),
        }
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
