//! The stock worker: takes what was ordered from stock.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wilco::{Backoff, Failure, Queue, State, Wilco, WorkerBuilder};

use crate::database::{Database, Taking};
use crate::order::{Order, PLACED};

/// What the worker gives back to the shop.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) left: i64,
}

/// Where the worker gets orders from: `placed.stock`.
pub(crate) fn queue() -> Queue<Order, Left> {
    PLACED.queue("stock")
}

/// Ten attempts take half a minute: a database that is started again meanwhile costs no order.
pub(crate) fn worker(wilco: &Wilco, database: Database) -> WorkerBuilder {
    let backoff = Backoff::exponential(Duration::from_millis(200)).at_most(Duration::from_secs(5));
    wilco.worker().handle(queue(), take).state(database).attempts(10, backoff)
}

/// An error of the database, by `?`, is tried again; what will not change is a permanent failure.
async fn take(order: Order, State(database): State<Database>) -> Result<Left, Failure> {
    match database.take(&order).await? {
        Taking::Taken { left } => Ok(Left { left }),
        Taking::SoldOut => Err(Failure::permanent(format!("{} is sold out", order.item))),
        Taking::GivenBack => Err(Failure::permanent("the order is cancelled")),
    }
}
