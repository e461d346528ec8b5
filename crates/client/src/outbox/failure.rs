//! What databases refuse, as the library's errors: which kind it is, and what to do.

use crate::error::{Error, ErrorKind};
use crate::sql::{self, code};

/// An outbox, as errors name it: its file, or that it is in a database.
#[derive(Debug, Clone)]
pub(super) struct Place(pub(super) String);

impl Place {
    /// Why something could not be done.
    pub(super) fn failed(&self, error: &sqlx::Error) -> Error {
        let Self(place) = self;
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        match (sql::sqlite_code(error), &*code) {
            (Some(code::CORRUPT | code::NOT_A_DATABASE), _) | (None, "XX001" | "XX002") => {
                self.damaged(error)
            }
            (Some(code::BUSY | code::LOCKED), _) | (None, "55P03") => {
                let text = format!(
                    "{place} is in use: somebody else has had it locked for too long ({error}). End what \
                     holds it, such as a backup or a transaction that was left open, and try again; \
                     nothing is lost"
                );
                Error::new(ErrorKind::OutboxInUse, text)
            }
            _ if is_missing(error, &code) => {
                let text = format!(
                    "there is no outbox where this transaction is ({error}): begin it on the pool that \
                     the outbox was made with"
                );
                Error::new(ErrorKind::Outbox, text)
            }
            _ => {
                let text = format!(
                    "{place} cannot be read or written: {error}; check that its database can be reached \
                     and written, and has room"
                );
                Error::new(ErrorKind::Outbox, text)
            }
        }
    }

    pub(super) fn damaged(&self, why: &dyn std::fmt::Display) -> Error {
        let text = format!(
            "{} is damaged ({why}). Nothing was changed in it: keep it, and restore it from a backup, or \
             save what can be read of it (sqlite3 FILE .recover); or begin with a new one",
            self.0
        );
        Error::new(ErrorKind::OutboxDamaged, text)
    }
}

fn is_missing(error: &sqlx::Error, code: &str) -> bool {
    let message = error.as_database_error().map(|error| error.message()).unwrap_or_default();
    code == "42P01" || message.starts_with("no such table: wilco_outbox")
}
