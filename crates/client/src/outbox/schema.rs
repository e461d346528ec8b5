//! The tables, and whether they are there and whole.
//!
//! `wilco_outbox` has a row for each message, `wilco_outbox_relay` one row: the version of both, and which
//! relay has the lease. Times are ms since the epoch, by the database's clock. A message's `state` goes
//!
//! ```text
//!  (no key) ──────────────▶ ready ──▶ sent ──▶ settled ──▶ told ──▶ (deleted)
//!  (key) ──▶ new ──▶ behind ──▲
//! ```
//!
//! - `new`: it has a key, and stands in no line yet; `behind`: another with the same key is `ready`.
//! - `ready`: the relay hands it over, or is about to.
//! - `sent`: the engine has it; `settled`: its outcome is known, or it cannot be sent at all (outcome
//!   `refused`); `told`: the program knows.
//!
//! *Invariants:* of each key at most one is `ready`, and one is if any are `behind`. Only the relay with the
//! lease changes rows, but for those that are `settled` or `told`: whoever sends such an id again replaces
//! them. So of these, in PostgreSQL, the relay leaves out what others have locked: it never waits for a
//! user's transaction.

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::failure::Place;
use crate::error::{Error, ErrorKind};
use crate::sql::{Connection, Database};

/// The version of the tables that this library reads and writes.
const VERSION: i64 = 1;
/// Who makes the tables in PostgreSQL has this advisory lock, so that two do not make them at a time.
const MAKING: i64 = 0x7769_6c63_6f6f_7574;

/// Makes the tables if they are not there, and checks that this library can use them.
pub(super) async fn ensure(database: &Database, place: &Place) -> Result<(), Error> {
    // Who may not make tables can still use those that are there.
    let version = match version(database).await {
        Ok(Some(version)) => version,
        _ => {
            make(database).await.map_err(|error| place.failed(&error))?;
            version(database).await.map_err(|error| place.failed(&error))?.unwrap_or_default()
        }
    };
    if version == VERSION {
        return Ok(());
    }
    let text = format!(
        "{} is of version {version}, and this library knows only version {VERSION}: use the version of \
         the library that made it, or a newer one; nothing was changed",
        place.0
    );
    Err(Error::new(ErrorKind::Unsupported, text))
}

async fn version(database: &Database) -> Result<Option<i64>, sqlx::Error> {
    let rows = database.rows("SELECT version FROM wilco_outbox_relay", &[]).await?;
    rows.first().map(|row| row.read("version")).transpose()
}

async fn make(database: &Database) -> Result<(), sqlx::Error> {
    let bytes = database.bytes();
    let number = match database.is_sqlite() {
        // Numbers are not used again, even if the latest rows are deleted.
        true => "INTEGER PRIMARY KEY AUTOINCREMENT",
        false => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    };
    let mut transaction = database.begin().await?;
    if !database.is_sqlite() {
        let lock = format!("SELECT pg_advisory_xact_lock({MAKING})");
        transaction.connection().execute(&lock, &[]).await?;
    }
    let tables = format!(
        "CREATE TABLE IF NOT EXISTS wilco_outbox_relay (one BIGINT PRIMARY KEY CHECK (one = 1), \
             version BIGINT NOT NULL, holder TEXT, lease_until BIGINT NOT NULL DEFAULT 0); \
         CREATE TABLE IF NOT EXISTS wilco_outbox (seq {number}, target TEXT NOT NULL, \
             id TEXT NOT NULL, order_key TEXT, content_type TEXT NOT NULL, headers TEXT NOT NULL, \
             deadline_ms BIGINT, body {bytes} NOT NULL, body_bytes BIGINT NOT NULL, \
             state TEXT NOT NULL, created_at BIGINT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0, \
             retry_at BIGINT NOT NULL DEFAULT 0, last_error TEXT, outcome TEXT, details TEXT, \
             result {bytes}, tellings BIGINT NOT NULL DEFAULT 0, told_at BIGINT, \
             UNIQUE (target, id)); \
         CREATE INDEX IF NOT EXISTS wilco_outbox_state ON wilco_outbox (state, seq) \
             WHERE state <> 'told'; \
         CREATE INDEX IF NOT EXISTS wilco_outbox_ready ON wilco_outbox (target, seq) \
             WHERE state = 'ready'; \
         CREATE INDEX IF NOT EXISTS wilco_outbox_first ON wilco_outbox (order_key) \
             WHERE state = 'ready' AND order_key IS NOT NULL; \
         CREATE INDEX IF NOT EXISTS wilco_outbox_behind ON wilco_outbox (order_key, seq) \
             WHERE state = 'behind'; \
         CREATE INDEX IF NOT EXISTS wilco_outbox_told ON wilco_outbox (told_at) \
             WHERE state = 'told'; \
         INSERT INTO wilco_outbox_relay (one, version) VALUES (1, {VERSION}) \
             ON CONFLICT (one) DO NOTHING"
    );
    transaction.script(tables).await?;
    transaction.commit().await
}

/// Looks through all of a file. Damage that is found while messages are on their way would be found late.
pub(super) async fn check(options: SqliteConnectOptions, place: &Place) -> Result<(), Error> {
    let check = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let rows = Connection::Sqlite(&mut connection).rows("PRAGMA quick_check(1)", &[]).await;
        connection.close().await?;
        rows?.first().map(|row| row.read::<String>("quick_check")).transpose()
    };
    match check.await.map_err(|error| place.failed(&error))? {
        Some(found) if found != "ok" => Err(place.damaged(&found)),
        _ => Ok(()),
    }
}
