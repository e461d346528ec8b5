//! What the ledger and the outbox do alike with their databases.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait before a file is opened again that somebody else has locked.
const OPEN_AGAIN: Duration = Duration::from_millis(20);

/// Now, in ms since the epoch, by the database's clock: those of its users may differ.
pub(crate) fn now(is_sqlite: bool) -> &'static str {
    match is_sqlite {
        true => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        false => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    }
}

/// Opens a file, again and again while somebody else has it: who makes one wants all of it for a moment, and
/// for that SQLite lets others not wait.
pub(crate) async fn open_unlocked<T, E, F: Future<Output = Result<T, E>>>(
    patience: Duration,
    is_locked: impl Fn(&E) -> bool,
    open: impl Fn() -> F,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match open().await {
            Err(error) if is_locked(&error) && began.elapsed() < patience => {
                tokio::time::sleep(OPEN_AGAIN).await;
            }
            opened => return opened,
        }
    }
}
