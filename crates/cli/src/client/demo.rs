//! `wilco demo`: a shop, its stock and its mail, with a broker in this process.
//!
//! Each order goes to two queues. The workers do what workers do: most succeed; stock runs out; the mail
//! server is down for a while; some are too slow for their deadline; one worker dies with what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wilco::{Backoff, Context, Failure as WorkFailure, Outcome, Processed, Queue, Wilco};

use super::failure;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    number: u32,
    item: String,
}

const STOCK: Queue<Order, u32> = Queue::new("stock");
const MAIL: Queue<Order, String> = Queue::new("mail");
/// How long the shop waits for either.
const DEADLINE: Duration = Duration::from_secs(1);
/// How many cups there are.
const CUPS: u32 = 12;

/// One thing that the shop learns.
struct Learned {
    id: String,
    outcome: &'static str,
    text: String,
}

pub(super) async fn run(orders: u32) -> Result<(), Failure> {
    let wilco = Wilco::connect("memory:").await.map_err(failure)?;
    let workers = [work_on_stock(&wilco), work_on_mail(&wilco)];
    let (tell, mut learn) = mpsc::unbounded_channel();
    output::line("ORDER          OUTCOME          WHAT THE SHOP LEARNS")?;
    let sending = tokio::spawn(send(wilco.clone(), orders, tell));
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    while let Some(Learned { id, outcome, text }) = learn.recv().await {
        *counts.entry(outcome).or_default() += 1;
        output::line(format!("{id:<13}  {outcome:<15}  {text}").trim_end())?;
    }
    sending.await.map_err(Failure::runtime)??;
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    wilco.close().await;
    let counts: Vec<_> =
        counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    output::line(&format!("{} orders to 2 queues: {}", orders, counts.join(", ")))
}

async fn send(
    wilco: Wilco,
    orders: u32,
    tell: mpsc::UnboundedSender<Learned>,
) -> Result<(), Failure> {
    let stock = wilco.producer(STOCK).deadline(DEADLINE).build().await.map_err(failure)?;
    let mail = wilco.producer(MAIL).deadline(DEADLINE).build().await.map_err(failure)?;
    for number in 1..=orders {
        let order = Order { number, item: "cup".to_owned() };
        let told = learns(&tell, |done: &Processed<u32>| {
            format!("{} left, attempt {}", done.result().unwrap_or_default(), done.attempts)
        });
        let sending = stock.send(&order).id(format!("{number}-stock")).on_outcome(told);
        sending.await.map_err(failure)?;
        let told = learns(&tell, |done: &Processed<String>| {
            format!("{}, attempt {}", done.result().unwrap_or_default(), done.attempts)
        });
        mail.send(&order).id(format!("{number}-mail")).on_outcome(told).await.map_err(failure)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Tells the shop what became of a message.
fn learns<R: 'static>(
    tell: &mpsc::UnboundedSender<Learned>,
    show: impl Fn(&Processed<R>) -> String + Send + 'static,
) -> impl FnOnce(&str, Outcome<R>) + Send + 'static {
    let tell = tell.clone();
    move |id, outcome| {
        let text = match &outcome {
            Outcome::Processed(done) => show(done),
            Outcome::Failed(failed) => failed.error.clone(),
            _ => String::new(),
        };
        // The shop may have closed.
        let _ = tell.send(Learned { id: id.to_owned(), outcome: outcome.name(), text });
    }
}

fn work_on_stock(wilco: &Wilco) -> tokio::task::JoinHandle<()> {
    let cups = Arc::new(AtomicU32::new(CUPS));
    let take = move |_: Order| {
        let cups = Arc::clone(&cups);
        async move {
            let taken =
                cups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
            taken.map(|before| before - 1).map_err(|_| WorkFailure::permanent("sold out"))
        }
    };
    let worker = wilco.worker().handle(STOCK, take);
    tokio::spawn(async move { drop(worker.run().await) })
}

fn work_on_mail(wilco: &Wilco) -> tokio::task::JoinHandle<()> {
    let write = async |order: Order, context: Context| match order.number % 7 {
        // The mail server is down, for once.
        3 if context.attempt() == 1 => Err(WorkFailure::retry("connection refused")),
        5 => {
            tokio::time::sleep(DEADLINE * 3 / 2).await;
            Ok("sent at last".to_owned())
        }
        6 => Err(WorkFailure::permanent("no such address")),
        _ => Ok(format!("order {} confirmed", order.number)),
    };
    // The first worker dies with what it has: it goes back, to the next one.
    let dies = async |_: Order| std::future::pending::<Result<String, WorkFailure>>().await;
    let first = wilco.worker().handle(MAIL, dies).concurrency(1);
    let then = wilco.worker().handle(MAIL, write).attempts(3, Backoff::constant(DEADLINE / 10));
    tokio::spawn(async move {
        let _ = tokio::time::timeout(DEADLINE / 4, first.run()).await;
        drop(then.run().await);
    })
}
