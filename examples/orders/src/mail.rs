//! The mail worker: confirms orders. `mail_worker.py` is the same in Python.

use std::time::Duration;

use wilco::{Backoff, Context, Failure, Queue, State, Wilco, WorkerBuilder};

use crate::database::Database;
use crate::order::{Order, PLACED};

/// Where the worker gets orders from: `placed.mail`.
pub(crate) fn queue() -> Queue<Order> {
    PLACED.queue("mail")
}

pub(crate) fn worker(wilco: &Wilco, database: Database) -> WorkerBuilder {
    let backoff = Backoff::exponential(Duration::from_millis(200)).at_most(Duration::from_secs(5));
    wilco.worker().handle(queue(), confirm).state(database).attempts(10, backoff)
}

/// Here a mail is a row of a table, whose key keeps it from being sent twice. A real mail can be sent
/// twice, if the worker dies right after: then give it the order's id as its Message-ID.
pub(crate) async fn confirm(
    order: Order,
    State(database): State<Database>,
    context: Context,
) -> Result<(), Failure> {
    if !order.customer.contains('@') {
        return Err(Failure::permanent(format!("'{}' is no address", order.customer)));
    }
    // Ids are random, so this is about every eighth order.
    if context.attempt() == 1 && order.id.ends_with(['3', '7']) {
        return Err(Failure::retry("the mail server is busy"));
    }
    database.confirm(&order).await?;
    Ok(())
}
