//! `wilco send`.

mod reading;
mod report;

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use wilco::{Error, Producer, Queue, Raw};

use self::reading::{Message, Messages, Unread, messages, too_long};
use self::report::{Report, Told};
use super::{connect, failure};
use crate::arguments::SendArguments;
use crate::failure::Failure;

/// Messages on their way to the broker's disk at a time.
const UNDER_WAY_MAX: usize = 500;

type Bytes = Vec<u8>;

/// A message on its way to the broker's disk: its line and id, and whether the broker has taken it.
type Sent = Pin<Box<dyn Future<Output = (u64, String, Result<(), Error>)> + Send>>;

pub(super) async fn run(arguments: &SendArguments) -> Result<(), Failure> {
    let messages = messages(arguments)?;
    let wilco = connect(&arguments.remote).await?;
    let queue: Queue<Bytes, Bytes, Raw> = Queue::named(&arguments.queue);
    let mut producer = wilco.producer(queue);
    if let Some(deadline) = arguments.deadline {
        producer = producer.deadline(deadline);
    }
    let producer = producer.build().await.map_err(failure)?;
    let mut report = Report::new(arguments);
    let sent = tokio::select! {
        sent = send_all(arguments, &producer, messages, &mut report) => sent,
        // What is under way is left to the broker.
        () = wilco::signals() => return report.interrupted(),
    };
    wilco.close().await;
    sent.and_then(|()| report.finish())
}

/// Sends all, and reports on each, until nothing more is to come.
async fn send_all(
    arguments: &SendArguments,
    producer: &Producer<Bytes, Bytes, Raw>,
    mut messages: Messages,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    // Polled first in the order in which they came, so they are stored in it.
    let mut under_way: FuturesOrdered<Sent> = FuturesOrdered::new();
    // Each callback holds a sender: the channel ends with the last outcome.
    let (told, mut hear) = mpsc::unbounded_channel();
    let mut told = Some(told);
    let mut is_deaf = false;
    while told.is_some() || !under_way.is_empty() || !is_deaf {
        let may_read = told.is_some() && under_way.len() < UNDER_WAY_MAX;
        tokio::select! {
            outcome = hear.recv(), if !is_deaf => match outcome {
                Some(outcome) => report.told(outcome)?,
                None => is_deaf = true,
            },
            Some((line, id, sent)) = under_way.next() => match sent {
                Ok(()) => report.stored(line, &id)?,
                Err(error) => report.not_sent(line, &id, error)?,
            },
            message = messages.recv(), if may_read => match (message, &told) {
                (Some(Ok(message)), Some(told)) => {
                    under_way.push_back(begin(arguments, producer, message, told, report));
                }
                (Some(Err(Unread::TooLong { line })), _) => report.unread(line, &too_long())?,
                (Some(Err(Unread::Failed(why))), _) if arguments.lines.is_none() => return Err(why),
                (Some(Err(Unread::Failed(why))), _) => report.stop(&why),
                _ => told = None,
            },
        }
        if report.is_stopped() {
            told = None;
        }
    }
    Ok(())
}

fn begin(
    arguments: &SendArguments,
    producer: &Producer<Bytes, Bytes, Raw>,
    Message { line, body, room }: Message,
    told: &mpsc::UnboundedSender<Told>,
    report: &mut Report<'_>,
) -> Sent {
    let id = arguments.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    report.begun(line, &id);
    let mut message = producer.send(&body).id(&id);
    for (name, value) in &arguments.headers {
        message = message.header(name, value);
    }
    if arguments.wait {
        let told = told.clone();
        message = message.on_outcome(move |id, outcome| {
            // Nobody listens any more once something went wrong.
            let _ = told.send(Told { line, id: id.to_owned(), outcome });
        });
    }
    let sending = message.into_future();
    Box::pin(async move {
        let sent = sending.await.map(drop);
        drop(room);
        (line, id, sent)
    })
}
