//! What the ledger and the outbox do alike with their databases.

mod database;

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::time::Instant;

pub(crate) use self::database::{Connection, Database, Own, Row, Value};

/// How long a file may be locked by others.
pub(crate) const IN_USE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before a file is opened again that somebody else has locked.
const OPEN_AGAIN: Duration = Duration::from_millis(20);

/// SQLite's codes, without what they say beyond.
pub(crate) mod code {
    pub(crate) const BUSY: i32 = 5;
    pub(crate) const LOCKED: i32 = 6;
    pub(crate) const CORRUPT: i32 = 11;
    pub(crate) const NOT_A_DATABASE: i32 = 26;
}

/// What SQLite says of an error, in a code of [`code`] or another. `None`: it is not SQLite's.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    // PostgreSQL's codes have five characters, SQLite's extended ones are numbers up to four digits.
    code.parse::<i32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff)
}

/// Whether somebody else has the file, for now.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(sqlite_code(error), Some(code::BUSY | code::LOCKED))
}

/// As statements have it.
pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// A file that is made if it is not there, that other processes write, too, and in which what is committed
/// survives a power cut.
pub(crate) fn durable(file: SqliteConnectOptions) -> SqliteConnectOptions {
    file.create_if_missing(true)
        .busy_timeout(IN_USE_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
}

/// Opens a file, again and again while somebody else has it: who makes one wants all of it for a moment, and
/// for that SQLite lets others not wait.
pub(crate) async fn open_unlocked<T, E, F: Future<Output = Result<T, E>>>(
    is_locked: impl Fn(&E) -> bool,
    open: impl Fn() -> F,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match open().await {
            Err(error) if is_locked(&error) && began.elapsed() < IN_USE_TIMEOUT => {
                tokio::time::sleep(OPEN_AGAIN).await;
            }
            opened => return opened,
        }
    }
}
