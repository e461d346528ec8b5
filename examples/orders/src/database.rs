//! The shop's database, SQLite or PostgreSQL: orders, stock and mails.
//!
//! *Invariants:* what has an effect is one transaction with the mark that it was done, so doing it again
//! does nothing. An order is finished once: whoever changes its state from `placed` also does what follows.

use std::fmt;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, AssertSqlSafe, Error, Executor as _, Row as _, Transaction};

use crate::order::Order;

/// A pool of connections; clones share it.
#[derive(Clone)]
pub(crate) struct Database {
    pool: AnyPool,
    /// How a transaction begins. In SQLite with the lock: one that reads first and writes later would fail
    /// whenever another has written in between.
    begin: &'static str,
}

const TABLES: &str = "
    -- An order is `placed`, then `processed` or `cancelled`. As long as it is placed it is to be sent:
    -- this table is the shop's outbox.
    CREATE TABLE IF NOT EXISTS orders (
        id TEXT PRIMARY KEY, customer TEXT NOT NULL, item TEXT NOT NULL, quantity BIGINT NOT NULL,
        state TEXT NOT NULL DEFAULT 'placed', error TEXT NOT NULL DEFAULT '');
    CREATE INDEX IF NOT EXISTS orders_state ON orders (state, id);
    CREATE TABLE IF NOT EXISTS stock (
        item TEXT PRIMARY KEY, quantity BIGINT NOT NULL CHECK (quantity >= 0), delivered BIGINT NOT NULL);
    -- What was taken for which order; 0 when it is given back, and nothing may be taken any more.
    CREATE TABLE IF NOT EXISTS takings (order_id TEXT PRIMARY KEY, quantity BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS mails (
        order_id TEXT NOT NULL, kind TEXT NOT NULL, customer TEXT NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (order_id, kind));
    INSERT INTO stock (item, quantity, delivered)
        VALUES ('cup', 100000, 100000), ('plate', 100000, 100000), ('vase', 20, 20)
        ON CONFLICT (item) DO NOTHING;";

/// What became of an attempt to take something from stock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    Taken {
        /// How many there are now.
        left: i64,
    },
    SoldOut,
    /// The order was cancelled, and its stock given back, before.
    GivenBack,
}

impl Database {
    /// Opens it, and makes the tables if they are not there.
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let options: AnyConnectOptions = match is_sqlite {
            // Made if it is not there.
            true => format!("{url}?mode=rwc").parse()?,
            false => url.parse()?,
        };
        let pool = AnyPoolOptions::new().max_connections(4).after_connect(move |connection, _| {
            Box::pin(async move {
                if is_sqlite {
                    // Other processes write, too.
                    let pragmas = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL";
                    connection.execute(pragmas).await?;
                }
                Ok(())
            })
        });
        let begin = if is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let database = Self { pool: pool.connect_with(options).await?, begin };
        if database.make_tables().await.is_err() {
            // In PostgreSQL two that make them at the same time get into each other's way.
            database.make_tables().await?;
        }
        Ok(database)
    }

    async fn make_tables(&self) -> Result<(), Error> {
        let mut transaction = self.begin().await?;
        transaction.execute(TABLES).await?;
        transaction.commit().await
    }

    /// Given up, when it is dropped without a commit.
    async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        self.pool.begin_with(self.begin).await
    }

    /// Writes a new order down.
    pub(crate) async fn place(&self, order: &Order) -> Result<(), Error> {
        let insert = "INSERT INTO orders (id, customer, item, quantity) VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(insert).bind(&order.id).bind(&order.customer);
        query.bind(&order.item).bind(order.quantity).execute(&self.pool).await.map(drop)
    }

    /// Orders of which it is not known what became of them; the oldest first.
    pub(crate) async fn open_orders(&self, count_max: i64) -> Result<Vec<Order>, Error> {
        let select = "SELECT id, customer, item, quantity FROM orders WHERE state = 'placed' \
                      ORDER BY id LIMIT $1";
        let rows = sqlx::query(select).bind(count_max).fetch_all(&self.pool).await?;
        let read = |row: &AnyRow| {
            Ok(Order {
                id: row.try_get("id")?,
                customer: row.try_get("customer")?,
                item: row.try_get("item")?,
                quantity: row.try_get("quantity")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Takes what was ordered from stock. For the same order again: says so, and takes nothing.
    pub(crate) async fn take(&self, order: &Order) -> Result<Taking, Error> {
        let mut transaction = self.begin().await?;
        let mark = "INSERT INTO takings (order_id, quantity) VALUES ($1, $2) \
                    ON CONFLICT (order_id) DO NOTHING";
        let mark = sqlx::query(mark).bind(&order.id).bind(order.quantity);
        let is_new = mark.execute(&mut *transaction).await?.rows_affected() == 1;
        if is_new {
            let take =
                "UPDATE stock SET quantity = quantity - $2 WHERE item = $1 AND quantity >= $2";
            let take = sqlx::query(take).bind(&order.item).bind(order.quantity);
            if take.execute(&mut *transaction).await?.rows_affected() == 0 {
                // Without a commit: the mark goes, too.
                return Ok(Taking::SoldOut);
            }
        } else {
            let taken = "SELECT quantity FROM takings WHERE order_id = $1";
            let taken = sqlx::query_scalar::<_, i64>(taken).bind(&order.id);
            if taken.fetch_one(&mut *transaction).await? == 0 {
                return Ok(Taking::GivenBack);
            }
        }
        let left = "SELECT quantity FROM stock WHERE item = $1";
        let left = sqlx::query_scalar(left).bind(&order.item).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Taking::Taken { left })
    }

    /// Sends the confirmation of an order, unless it was sent, or the order is cancelled.
    pub(crate) async fn confirm(&self, order: &Order) -> Result<(), Error> {
        let insert = "INSERT INTO mails (order_id, kind, customer, text) \
                      SELECT id, 'confirmation', customer, 'thank you for your order' FROM orders \
                      WHERE id = $1 AND state <> 'cancelled' \
                      ON CONFLICT (order_id, kind) DO NOTHING";
        sqlx::query(insert).bind(&order.id).execute(&self.pool).await.map(drop)
    }

    /// The order is done.
    pub(crate) async fn mark_processed(&self, order: &Order) -> Result<(), Error> {
        let update = "UPDATE orders SET state = 'processed' WHERE id = $1 AND state = 'placed'";
        sqlx::query(update).bind(&order.id).execute(&self.pool).await.map(drop)
    }

    /// Compensates: what was taken for the order goes back into stock, and the customer is told.
    pub(crate) async fn cancel(&self, order: &Order, error: &str) -> Result<(), Error> {
        let mut transaction = self.begin().await?;
        let cancel = "UPDATE orders SET state = 'cancelled', error = $2 \
                      WHERE id = $1 AND state = 'placed'";
        let cancel = sqlx::query(cancel).bind(&order.id).bind(error);
        if cancel.execute(&mut *transaction).await?.rows_affected() == 0 {
            // Somebody has finished it before.
            return Ok(());
        }
        // That stock has failed does not say that nothing was taken: its worker may have died after the
        // commit. And one that is still at it, or is made to try again, must not take anything later.
        for statement in [
            "INSERT INTO takings (order_id, quantity) VALUES ($1, 0) ON CONFLICT (order_id) DO NOTHING",
            "UPDATE stock SET quantity = quantity \
                 + (SELECT quantity FROM takings WHERE order_id = $1) \
             WHERE item = (SELECT item FROM orders WHERE id = $1)",
            "UPDATE takings SET quantity = 0 WHERE order_id = $1",
            "INSERT INTO mails (order_id, kind, customer, text) \
             SELECT id, 'cancellation', customer, 'order cancelled: ' || error FROM orders WHERE id = $1",
        ] {
            sqlx::query(statement).bind(&order.id).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Looks whether orders, stock and mails agree.
    pub(crate) async fn check(&self) -> Result<Found, Error> {
        let mut transaction = self.begin().await?;
        let mut counts = [0; 3];
        for (count, state) in counts.iter_mut().zip(["placed", "processed", "cancelled"]) {
            let select = sqlx::query_scalar("SELECT COUNT(*) FROM orders WHERE state = $1");
            *count = select.bind(state).fetch_one(&mut *transaction).await?;
        }
        let mut wrong = Vec::new();
        for (what, rows) in RULES {
            let select = AssertSqlSafe(format!("SELECT COUNT(*) FROM {rows}"));
            let count: i64 = sqlx::query_scalar(select).fetch_one(&mut *transaction).await?;
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        let [placed, processed, cancelled] = counts;
        Ok(Found { placed, processed, cancelled, wrong })
    }
}

/// What must not be, and where it would be.
const RULES: [(&str, &str); 7] = [
    (
        "items of which there are not as many as were delivered without those of processed orders",
        "stock WHERE quantity < 0 OR quantity <> delivered - COALESCE((SELECT SUM(orders.quantity) \
         FROM orders WHERE orders.item = stock.item AND state = 'processed'), 0)",
    ),
    (
        "processed orders for which something else was taken",
        "orders WHERE state = 'processed' AND quantity <> COALESCE( \
         (SELECT takings.quantity FROM takings WHERE order_id = id), 0)",
    ),
    (
        "cancelled orders for which something is still taken",
        "orders WHERE state = 'cancelled' AND (SELECT takings.quantity FROM takings \
         WHERE order_id = id) <> 0",
    ),
    (
        "processed orders without exactly one confirmation",
        "orders WHERE state = 'processed' AND 1 <> (SELECT COUNT(*) FROM mails \
         WHERE order_id = id AND kind = 'confirmation')",
    ),
    (
        "cancelled orders without exactly one cancellation",
        "orders WHERE state = 'cancelled' AND 1 <> (SELECT COUNT(*) FROM mails \
         WHERE order_id = id AND kind = 'cancellation')",
    ),
    (
        "cancellations of orders that are not cancelled",
        "mails WHERE kind = 'cancellation' AND NOT EXISTS (SELECT 1 FROM orders \
         WHERE id = order_id AND state = 'cancelled')",
    ),
    (
        "orders in a state that there is not",
        "orders WHERE state NOT IN ('placed', 'processed', 'cancelled')",
    ),
];

/// What is in the database.
pub(crate) struct Found {
    placed: i64,
    processed: i64,
    cancelled: i64,
    /// Which rules are broken.
    wrong: Vec<String>,
}

impl Found {
    /// Whether every order is finished, and all agrees.
    pub(crate) fn is_right(&self) -> bool {
        self.placed == 0 && self.wrong.is_empty()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { placed, processed, cancelled, wrong } = self;
        write!(f, "{processed} orders processed, {cancelled} cancelled, {placed} open")?;
        match wrong.is_empty() {
            true => write!(f, "; stock and mails agree"),
            false => wrong.iter().try_for_each(|it| write!(f, "\nwrong: {it}")),
        }
    }
}
