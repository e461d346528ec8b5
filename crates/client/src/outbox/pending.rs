//! Looking at what is in an outbox.

use std::time::Duration;

use super::Outbox;
use super::failure::Place;
use super::stored::{column_of, settled_of, target_of};
use crate::codec::Json;
use crate::error::{Error, ErrorKind};
use crate::outcome::Outcome;
use crate::queue::SendTo;
use crate::sql::{Database, Row};
use crate::target::Target;

/// Messages on a page.
const PAGE: usize = 1000;

/// A message in an outbox of which it is not known yet what becomes of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// The name of the queue or topic that it goes to.
    pub target: String,
    /// Whether that is a topic.
    pub is_topic: bool,
    /// Its key, if it has one: of those with the same key, one is handed over after the other.
    pub key: Option<String>,
    /// How long ago it was put in.
    pub age: Duration,
    /// How often it was handed over, or that was tried.
    pub attempts: u32,
    /// The engine has it, says the relay; what is missing is its outcome.
    pub is_sent: bool,
    /// Why it could not be handed over the last time, if that is so.
    pub last_error: Option<String>,
    seq: i64,
}

/// What an outbox knows of a message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OutboxState<R = (), C = Json> {
    /// Nobody has put in a message with this id, or it was forgotten after its time.
    Unknown,
    /// It is to be handed over.
    Waiting,
    /// The engine has it; its outcome is not known yet.
    Sent,
    /// This became of it; of a message to a topic, the worst of its queues.
    Settled(Outcome<R, C>),
    /// It cannot be sent, and is not tried again.
    Refused(Error),
}

/// What became of a message, for the callback of [`Relay::on_outcome`](super::Relay::on_outcome).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Told {
    /// Its id.
    pub id: String,
    /// The name of the queue or topic that it was put in for.
    pub target: String,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// What became of it; of a message to a topic, the worst of its queues. An error: it cannot be sent at all,
    /// as when it is too large for the engine, and is not tried again.
    /// [`Processed::decode`](crate::Processed::decode) reads what the worker gave back.
    pub outcome: Result<Outcome, Error>,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Ok(outcome) => write!(f, "{}: {outcome}", self.id),
            Err(error) => write!(f, "{}: not sent: {error}", self.id),
        }
    }
}

/// The outcome in a row.
pub(super) fn outcome_of<R, C>(
    row: &Row,
    target: &Target,
    id: &str,
) -> Result<Result<Outcome<R, C>, Error>, sqlx::Error> {
    let name: String = row.read("outcome")?;
    let details: Option<String> = row.read("details")?;
    if name == REFUSED {
        let why: Option<String> = row.read("last_error")?;
        let kind = match details.as_deref() {
            Some(UNREADABLE) => ErrorKind::Codec,
            _ => ErrorKind::TooLarge,
        };
        return Ok(Err(Error::new(kind, why.unwrap_or_default())));
    }
    let settled = settled_of(target, id, &name, &details.unwrap_or_default(), row.read("result")?);
    let settled = settled.ok_or_else(|| unreadable("outcome"))?;
    Ok(Ok(Outcome::from_settled(&settled)))
}

/// The outcome of what cannot be sent: it is too large, or its details say that it cannot be read.
pub(super) const REFUSED: &str = "refused";
pub(super) const UNREADABLE: &str = "unreadable";

/// A row has what nobody wrote there.
pub(super) fn unreadable(column: &str) -> sqlx::Error {
    let why = "it is not what this library writes there";
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: why.into() }
}

impl Outbox {
    /// The oldest messages whose outcome is not known, at most 1000, in the order in which they were put in.
    ///
    /// # Errors
    /// [`ErrorKind::Outbox`], [`ErrorKind::OutboxInUse`], [`ErrorKind::OutboxDamaged`].
    pub async fn pending(&self) -> Result<Vec<Pending>, Error> {
        page(&self.database, &self.place, 0).await
    }

    /// The next ones, at most 1000, behind the last of a page.
    ///
    /// # Errors
    /// As [`pending`](Self::pending).
    pub async fn pending_after(&self, last: &Pending) -> Result<Vec<Pending>, Error> {
        page(&self.database, &self.place, last.seq).await
    }

    /// What is known of a message by its id: without a broker, in any process that has the outbox.
    ///
    /// # Errors
    /// As [`pending`](Self::pending).
    pub async fn state<T: SendTo>(
        &self,
        to: T,
        id: &str,
    ) -> Result<OutboxState<T::Out, T::Codec>, Error> {
        let target = to.target().0;
        let column = column_of(&target);
        let select = "SELECT state, outcome, details, result, last_error FROM wilco_outbox \
                      WHERE target = $1 AND id = $2";
        let rows = self.database.rows(select, &[column.as_str().into(), id.into()]).await;
        let read = |rows: Vec<Row>| {
            let Some(row) = rows.first() else { return Ok(OutboxState::Unknown) };
            Ok(match &*row.read::<String>("state")? {
                "new" | "behind" | "ready" => OutboxState::Waiting,
                "sent" => OutboxState::Sent,
                _ => match outcome_of(row, &target, id)? {
                    Ok(outcome) => OutboxState::Settled(outcome),
                    Err(error) => OutboxState::Refused(error),
                },
            })
        };
        rows.and_then(read).map_err(|error| self.place.failed(&error))
    }
}

async fn page(database: &Database, place: &Place, after: i64) -> Result<Vec<Pending>, Error> {
    // Of each state the first by its index: those whose outcome is known may be many more.
    let of_state = |state: &str| {
        format!(
            "SELECT * FROM (SELECT seq, id, target, order_key, attempts, last_error, state, \
                 {} - created_at AS age FROM wilco_outbox \
             WHERE state = '{state}' AND state <> 'told' AND seq > $1 ORDER BY seq LIMIT {PAGE}) \
             AS {state}_messages",
            database.now()
        )
    };
    let all = ["new", "behind", "ready", "sent"].map(of_state).join(" UNION ALL ");
    let select = format!("{all} ORDER BY seq LIMIT {PAGE}");
    let rows = database.rows(&select, &[after.into()]).await;
    let read = |rows: Vec<Row>| rows.iter().map(pending).collect();
    rows.and_then(read).map_err(|error| place.failed(&error))
}

fn pending(row: &Row) -> Result<Pending, sqlx::Error> {
    let target = target_of(&row.read::<String>("target")?).ok_or_else(|| unreadable("target"))?;
    let number = |column: &str| Ok::<_, sqlx::Error>(row.read::<i64>(column)?.max(0) as u64);
    Ok(Pending {
        id: row.read("id")?,
        target: target.name().to_owned(),
        is_topic: matches!(target, Target::Topic(_)),
        key: row.read("order_key")?,
        age: Duration::from_millis(number("age")?),
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
        is_sent: row.read::<String>("state")? == "sent",
        last_error: row.read("last_error")?,
        seq: row.read("seq")?,
    })
}
