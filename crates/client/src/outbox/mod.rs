//! The outbox: messages that are part of a database's transaction, and their way from there to the engine.
//!
//! ```text
//!  within(&mut tx).send ─┐                      ┌──▶ EncodedProducer ──▶ engine
//!  send ─────────────────┴─▶ wilco_outbox ──▶ relay ◀── confirms, outcomes ──┘
//!                                 ▲             │
//!                                 └── states ───┴──▶ on_outcome
//! ```
//!
//! A program puts rows in; everything else is done by one relay ([`relay`]), which has the lease in
//! `wilco_outbox_relay`. A message stays in its row until its outcome has been told, so whoever is the next
//! relay goes on with it under the same id. Which states a row goes through: [`schema`].
//!
//! *Invariants:* nothing is known only in memory but what is in the rows as well, or is found out again by
//! handing over again. What the relay writes it writes in transactions that renew its lease: one that has
//! lost it changes nothing. Nobody is told an outcome that is not committed, and none is `told` before its
//! callback has returned.

mod entering;
mod failure;
mod pending;
mod relay;
mod schema;
mod stored;
mod within;

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Notify;

use self::failure::Place;
use crate::codec::{Codec as _, Encode};
use crate::error::{Error, ErrorKind};
use crate::queue::SendTo;
use crate::sql;
use crate::sql::Database;
use crate::wilco::Wilco;

pub use self::entering::Entering;
pub use self::pending::{OutboxState, Pending, Told};
pub use self::relay::{Relay, RelayReport};
pub use self::within::{OutboxTransaction, Within};

/// Connections to a file: one writes at a time.
const FILE_CONNECTIONS: u32 = 4;

/// Messages on their way to an engine, in a database: sent if the transaction that they are part of is
/// committed, whether the engine is there or not, and kept until it is known what became of them.
///
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Order { id: u64 }
/// use wilco::{Failure, Outbox, Queue, Wilco};
///
/// const STOCK: Queue<Order> = Queue::new("stock");
///
/// # async fn example(pool: sqlx::PgPool, order: Order) -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Outbox::postgres(pool.clone()).await?;      // or Outbox::open("orders.outbox")
///
/// // Somewhere, one or more of these; one at a time is at work.
/// let wilco = Wilco::connect("amqp://guest:guest@localhost").await?;
/// let relay = outbox.relay(&wilco).on_outcome(async |told| {
///     println!("{told}");
///     Ok::<_, Failure>(())
/// });
/// tokio::spawn(relay.until(wilco::signals()));
///
/// let mut tx = pool.begin().await?;
/// sqlx::query("INSERT INTO orders (id) VALUES ($1)").bind(order.id as i64).execute(&mut *tx).await?;
/// outbox.within(&mut tx).send(STOCK, &order).id(format!("order-{}", order.id)).await?;
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// - Processes may share an outbox, each with a relay or without. The relays agree by a lease in the database,
///   whose clock counts: one works, the others stand by, and one of them takes over when it ends.
/// - A relay hands over what a crashed one may have handed over already: under the same id, so it is processed
///   once where the engine knows ids, and its outcome is told.
/// - A message's outcome is stored in the outbox, told to the relay's callback at least once, found with
///   [`state`](Self::state), and forgotten a week after it was told.
/// - Its tables are called `wilco_outbox` and `wilco_outbox_relay`. `sqlx` must be the version of this
///   crate's: 0.9.
///
/// Cloning is cheap; all clones are the same outbox.
#[derive(Clone)]
pub struct Outbox {
    database: Database,
    place: Arc<Place>,
    /// Something was put in by this process.
    entered: Arc<Notify>,
}

impl Outbox {
    /// An outbox in an SQLite file of its own, which is made if it is not there. Processes of the same machine
    /// may share it. What is sent is on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::OutboxDamaged`](crate::ErrorKind::OutboxDamaged): the file is no outbox, or part of it
    /// cannot be read; all of it is looked through, and nothing written.
    /// [`ErrorKind::OutboxInUse`](crate::ErrorKind::OutboxInUse): another process has locked it for ten
    /// seconds. [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a newer version of the library has
    /// made it. [`ErrorKind::Outbox`](crate::ErrorKind::Outbox): anything else, such as a directory that is
    /// not there.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let is_in_use = |error: &Error| error.kind() == ErrorKind::OutboxInUse;
        sql::open_unlocked(is_in_use, || Self::try_open(path)).await
    }

    async fn try_open(path: &Path) -> Result<Self, Error> {
        let place = Place(format!("the outbox {}", path.display()));
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(sql::IN_USE_TIMEOUT);
        // Before anything is changed in it: a mode is, too.
        let is_whole = match schema::check(options.clone().read_only(true), &place).await {
            Err(error) if error.kind() == ErrorKind::OutboxDamaged => return Err(error),
            checked => checked.is_ok(),
        };
        let options = sql::durable(options);
        if !is_whole {
            // It is new, or what a crash has left behind could not be put right by a reader.
            schema::check(options.clone(), &place).await?;
        }
        let pool = SqlitePoolOptions::new().max_connections(FILE_CONNECTIONS);
        let pool = pool.acquire_timeout(sql::IN_USE_TIMEOUT * 2).connect_with(options).await;
        let database = Database::Sqlite(pool.map_err(|error| place.failed(&error))?);
        Self::of(database, place).await
    }

    /// An outbox in a PostgreSQL database, for messages within transactions there. Its tables are made if they
    /// are not there, where the pool's connections make theirs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a newer version of the library has made the
    /// tables. [`ErrorKind::Outbox`](crate::ErrorKind::Outbox): anything else, such as that its user may not
    /// make tables.
    pub async fn postgres(pool: PgPool) -> Result<Self, Error> {
        let place = Place("the outbox in the PostgreSQL database".to_owned());
        Self::of(Database::Postgres(pool), place).await
    }

    /// An outbox in an SQLite database of the program's, for messages within transactions there. Its tables are
    /// made if they are not there. How safe it is on the disk, and how long it waits for locks, the pool says.
    ///
    /// # Errors
    /// As [`open`](Self::open), but not all of the file is looked through.
    pub async fn sqlite(pool: SqlitePool) -> Result<Self, Error> {
        let place = Place("the outbox in the SQLite database".to_owned());
        Self::of(Database::Sqlite(pool), place).await
    }

    async fn of(database: Database, place: Place) -> Result<Self, Error> {
        schema::ensure(&database, &place).await?;
        Ok(Self { database, place: Arc::new(place), entered: Arc::default() })
    }

    /// Puts a message in, by itself: await it, and it is durable in the outbox. No engine is needed.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec), [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) and
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what no engine would take;
    /// [`ErrorKind::Outbox`](crate::ErrorKind::Outbox),
    /// [`ErrorKind::OutboxInUse`](crate::ErrorKind::OutboxInUse),
    /// [`ErrorKind::OutboxDamaged`](crate::ErrorKind::OutboxDamaged).
    pub fn send<T: SendTo>(&self, to: T, message: &T::In) -> Entering<'static>
    where
        T::Codec: Encode<T::In>,
    {
        self.entering(None, &to, message)
    }

    /// Has messages be part of a transaction: `outbox.within(&mut tx).send(STOCK, &order).await?`. They are
    /// sent once it is committed.
    pub fn within<'t>(&self, transaction: &'t mut impl OutboxTransaction) -> Within<'t> {
        Within::new(self.clone(), transaction)
    }

    /// Hands messages over to an engine, and says what became of them; to be told more, and to be run.
    pub fn relay(&self, wilco: &Wilco) -> Relay {
        Relay::new(self.clone(), wilco.connection())
    }

    fn entering<'t, T: SendTo>(
        &self,
        transaction: Option<&'t mut dyn within::InTransaction>,
        to: &T,
        message: &T::In,
    ) -> Entering<'t>
    where
        T::Codec: Encode<T::In>,
    {
        let body = T::Codec::encode(message);
        let content_type = T::Codec::CONTENT_TYPE;
        Entering::new(self.clone(), transaction, to.target().0, body, content_type)
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("place", &self.place.0).finish_non_exhaustive()
    }
}
