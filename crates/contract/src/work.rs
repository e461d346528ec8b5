//! What the tests of guarantees have in common: queues that nobody else uses, producers, workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wilco::{Backoff, Context, Failure, Outcome, Producer, Queue, Receipt, Wilco};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// No wait between attempts that a test would notice.
pub(crate) const AT_ONCE: Backoff = Backoff::constant(Duration::from_millis(1));

/// A queue of texts.
pub(crate) type Texts = Queue<String, String>;

/// A name that nobody else uses.
pub(crate) fn unique(stem: &str) -> String {
    format!("contract.{stem}.{}", uuid::Uuid::now_v7())
}

pub(crate) fn queue(stem: &str) -> Texts {
    Queue::named(unique(stem))
}

pub(crate) async fn producer(wilco: &Wilco, queue: &Texts) -> Producer<String, String> {
    let producer = wilco.producer(queue.clone()).outcome_timeout(PATIENCE).send_timeout(PATIENCE);
    producer.build().await.expect("a producer")
}

pub(crate) async fn send(producer: &Producer<String, String>, body: &str) -> Receipt<String> {
    producer.send(&body.to_owned()).await.expect("the engine takes it")
}

pub(crate) async fn outcome(receipt: &Receipt<String>) -> Outcome<String> {
    receipt.outcome_within(PATIENCE).await.expect("it becomes known")
}

/// Says what it got, in capitals.
pub(crate) async fn shout(body: String) -> Result<String, Failure> {
    Ok(body.to_uppercase())
}

/// Counts how often it is called, and waits for nobody.
pub(crate) fn counting(
    count: &Arc<AtomicU32>,
) -> impl Fn(String) -> std::future::Ready<Result<String, Failure>> + Clone + Send + Sync + 'static
{
    let count = Arc::clone(count);
    move |body: String| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(body))
    }
}

/// Says that it has begun, and never ends.
pub(crate) fn stuck(
    begun: &tokio::sync::mpsc::UnboundedSender<u32>,
) -> impl Fn(String, Context) -> std::future::Pending<Result<String, Failure>>
+ Clone
+ Send
+ Sync
+ 'static {
    let begun = begun.clone();
    move |_: String, context: Context| {
        let _ = begun.send(context.attempt());
        std::future::pending()
    }
}
