//! The shop: places orders, and does what has to be done when it is known what became of them.
//!
//! Placing an order is writing it into the database, and nothing else. Whatever is there in the state
//! `placed` is sent, and sent again until its outcome is known: by this process, or by the next one if
//! this one dies. That is harmless, since an order is always sent under the same id.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use uuid::Uuid;
use wilco::{Outcome, Producer, Wilco};

use crate::database::Database;
use crate::order::{Order, PLACED};
use crate::stock::Left;
use crate::{mail, stock};

/// How often to look for orders that have to be sent.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an order waits that could not be finished.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// So many orders are under way at a time; more wait in the database, also when it is for one worker only.
const UNDER_WAY_MAX: i64 = 200;

/// Places so many orders, and returns once it is known what became of all there are.
pub(crate) async fn run(
    wilco: Wilco,
    database: Database,
    count: u64,
    every: Duration,
) -> anyhow::Result<()> {
    // Before their workers run for the first time: no order goes to one of them only.
    wilco.subscribe(&stock::queue()).await?;
    wilco.subscribe(&mail::queue()).await?;
    // No deadline: an order is not cancelled because a worker is down for a while.
    let producer = wilco.producer(PLACED).build().await?;
    let placing = tokio::spawn(place(database.clone(), count, every));
    let mut finishing = JoinSet::new();
    let mut under_way = HashSet::new();
    loop {
        // Before looking: what is placed after that is seen the next time.
        let is_all_placed = placing.is_finished();
        let open = database.open_orders(UNDER_WAY_MAX).await?;
        if open.is_empty() && is_all_placed {
            return placing.await?;
        }
        for order in open {
            if under_way.insert(order.id.clone()) {
                finishing.spawn(finish(producer.clone(), database.clone(), order));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
        while let Some(finished) = finishing.try_join_next() {
            under_way.remove(&finished?);
        }
    }
}

async fn place(database: Database, count: u64, every: Duration) -> anyhow::Result<()> {
    for number in 0..count {
        database.place(&order(number)).await.context("placing an order")?;
        tokio::time::sleep(every).await;
    }
    Ok(())
}

/// What customers want: much that is there, something that sells out, and one gave no good address.
fn order(number: u64) -> Order {
    let items = ["cup", "plate", "cup", "plate", "vase"];
    let customers = ["ada@example.org", "bob@example.org", "carol@example.org", "nobody"];
    // Never a number that starts again from 1: brokers remember ids, for longer than databases may live.
    let id = format!("order-{}", Uuid::now_v7());
    let item = items[number as usize % items.len()].to_owned();
    let customer = customers[number as usize % customers.len()].to_owned();
    Order { id, customer, item, quantity: (number % 3) as i64 + 1 }
}

/// Sends an order and finishes it when its outcome is known. If it cannot be known now, the order stays
/// as it is, and is sent again later. Returns its id.
async fn finish(producer: Producer<Order>, database: Database, order: Order) -> String {
    match try_to_finish(&producer, &database, &order).await {
        Ok(true) => {}
        Ok(false) => tokio::time::sleep(AGAIN_AFTER).await,
        Err(error) => {
            eprintln!("{}: {error:#}; trying again", order.id);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
    order.id
}

/// Whether the order is finished.
async fn try_to_finish(
    producer: &Producer<Order>,
    database: &Database,
    order: &Order,
) -> anyhow::Result<bool> {
    let mut receipt = producer.send(order).id(&order.id).await?;
    while let Some(outcome) = receipt.next().await? {
        tell(order, &outcome);
    }
    match receipt.outcome().await? {
        Outcome::Processed(_) => {
            database.mark_processed(order).await?;
            Ok(true)
        }
        Outcome::Failed(failed) => {
            database.cancel(order, &failed.error).await?;
            println!("{}: cancelled, and the customer is told", order.id);
            Ok(true)
        }
        // Nobody has worked on it: it reached no queue, or somebody has emptied one.
        _ => Ok(false),
    }
}

/// Says what the shop has heard.
fn tell(order: &Order, outcome: &Outcome) {
    let details = outcome.details();
    let mut text = format!("{}: {outcome}", details.queue);
    if let Outcome::Processed(done) = outcome
        && done.queue == stock::queue().name()
        && let Ok(Left { left }) = done.decode()
    {
        text += &format!(", {left} left");
    }
    if details.attempts > 1 {
        text += &format!(", attempt {}", details.attempts);
    }
    println!("{} ({} {}): {text}", order.id, order.quantity, order.item);
}
