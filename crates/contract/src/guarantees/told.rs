//! What a producer is told while nobody fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use wilco::{Capability, Context, Failure, Outcome, Queue, Raw};

use super::Bench;
use crate::work::{AT_ONCE, PATIENCE, Texts, outcome, producer, queue, send, shout, stuck, unique};

pub(super) async fn processed(Bench { wilco, .. }: Bench) {
    let queue = queue("processed");
    let _working = wilco.worker().handle(queue.clone(), shout).spawn();
    let producer = producer(&wilco, &queue).await;
    let id = unique("id");
    let receipt = producer.send(&"seven cups".to_owned()).id(&id).await.expect("taken");
    let Outcome::Processed(done) = outcome(&receipt).await else { panic!("it is processed") };
    assert_eq!(done.result().expect("a text"), "SEVEN CUPS");
    assert_eq!((&*done.id, &*done.queue, done.attempts), (&*id, queue.name(), 1));
    assert!(!done.is_late && !done.is_duplicate && done.settled_at >= done.published_at);
}

#[derive(Debug)]
struct Locked(std::io::Error);

impl std::fmt::Display for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no cups")
    }
}

impl std::error::Error for Locked {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(super) async fn failed(Bench { wilco, .. }: Bench) {
    let queue = queue("failed");
    let handler = async |body: String| match body.as_str() {
        "permanent" => Err(Failure::permanent("sold \0 out ü")),
        _ => Err(Locked(std::io::Error::other("the shelf is locked")))?,
    };
    let worker = wilco.worker().handle::<_, String, _, _, _>(queue.clone(), handler);
    let _working = worker.attempts(1, AT_ONCE).spawn();
    let producer = producer(&wilco, &queue).await;
    for (body, error) in [("permanent", "sold \0 out ü"), ("chain", "no cups: the shelf is locked")]
    {
        let failed = outcome(&send(&producer, body).await).await.failed().expect("it fails");
        assert_eq!((&*failed.error, failed.attempts, &*failed.queue), (error, 1, queue.name()));
    }
}

pub(super) async fn retried(Bench { wilco, .. }: Bench) {
    let queue = queue("retried");
    let handler = async |body: String, context: Context| match body.as_str() {
        "in the end" if context.attempt() == 3 => Ok(context.attempt().to_string()),
        _ => Err(Failure::retry(format!("not at attempt {}", context.attempt()))),
    };
    let _working = wilco.worker().handle(queue.clone(), handler).attempts(4, AT_ONCE).spawn();
    let producer = producer(&wilco, &queue).await;
    let (good, bad) = (send(&producer, "in the end").await, send(&producer, "never").await);
    let done = outcome(&good).await.processed().expect("it is processed in the end");
    assert_eq!((done.result().expect("a text").as_str(), done.attempts), ("3", 3));
    let failed = outcome(&bad).await.failed().expect("it fails");
    assert_eq!((&*failed.error, failed.attempts), ("not at attempt 4", 4));
}

pub(super) async fn unreadable(Bench { wilco, .. }: Bench) {
    let queue = queue("unreadable");
    let handler = async |body: String| match body.as_str() {
        "panic" => panic!("a hole in the cup"),
        _ => Ok::<_, Failure>(body),
    };
    let _working = wilco.worker().handle(queue.clone(), handler).concurrency(1).spawn();
    let bytes: Queue<Vec<u8>, String, Raw> = Queue::named(queue.name());
    let bytes = wilco.producer(bytes).build().await.expect("a producer");
    let broken = bytes.send(&b"{ no text".to_vec()).await.expect("taken");
    let producer = producer(&wilco, &queue).await;
    let (panics, good) = (send(&producer, "panic").await, send(&producer, "good").await);
    let failed = broken.outcome_within(PATIENCE).await.expect("known").failed().expect("it fails");
    assert!(failed.error.contains("application/json"), "{}", failed.error);
    let failed = outcome(&panics).await.failed().expect("it fails");
    assert!(failed.error.contains("a hole in the cup"), "{}", failed.error);
    assert!(outcome(&good).await.is_processed());
}

pub(super) async fn once(bench: Bench) {
    const COUNT: usize = 300;
    let wilco = &bench.wilco;
    let queue = queue("once");
    // A callback is called once whatever comes; who watches sees what else there is.
    let watching = match bench.can(Capability::Watch) {
        true => Some(wilco.watch(Some(queue.name())).await.expect("it may")),
        false => None,
    };
    let _working = wilco.worker().handle(queue.clone(), shout).spawn();
    let producer = producer(wilco, &queue).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    for number in 0..COUNT {
        let told = Arc::clone(&told);
        let note = move |id: &str, outcome: Outcome<String>| {
            assert!(outcome.is_processed(), "{id}: {outcome}");
            told.lock().push(number);
        };
        producer.send(&number.to_string()).on_outcome(note).await.expect("taken");
    }
    tokio::time::timeout(PATIENCE, async {
        while told.lock().len() < COUNT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all are told");
    // Whoever is told twice is told soon.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut told = told.lock().clone();
    told.sort_unstable();
    assert_eq!(told, (0..COUNT).collect::<Vec<_>>());
    let Some(mut watch) = watching else { return };
    let mut seen = BTreeSet::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(300), watch.next()).await {
        let outcome = next.expect("no error").expect("it goes on");
        let id = outcome.details().id.clone();
        assert!(seen.insert(id), "it has two outcomes: {outcome:?}");
    }
    assert_eq!(seen.len(), COUNT);
    watch.close().await.expect("it ends");
}

pub(super) async fn contents(Bench { wilco, .. }: Bench) {
    let queue: Queue<Vec<u8>, Vec<u8>, Raw> = Queue::named(unique("contents"));
    let handler = async |body: Vec<u8>, context: Context| {
        let mut headers: Vec<_> =
            context.headers().map(|(name, value)| format!("{name}={value}")).collect();
        // Tables of headers have no order.
        headers.sort_unstable();
        let sum =
            body.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        Ok::<_, Failure>(format!("{} {sum} {}", body.len(), headers.join(",")).into_bytes())
    };
    let _working = wilco.worker().handle(queue.clone(), handler).spawn();
    let producer = wilco.producer(queue).build().await.expect("a producer");
    for bytes in [0, 1, 4096, 1 << 20] {
        let body: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
        let sum =
            body.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let sending =
            producer.send(&body).header("traceparent", "00-ab-cd-01").header("größe", "ü\"\n");
        let receipt = sending.await.expect("taken");
        let outcome = receipt.outcome_within(PATIENCE).await.expect("known");
        let trace = outcome.details().traceparent.as_deref();
        assert_eq!(trace, Some("00-ab-cd-01"), "who is told goes on with the trace");
        let done = outcome.processed().expect("it is processed");
        let expected = format!("{bytes} {sum} größe=ü\"\n,traceparent=00-ab-cd-01");
        assert_eq!(String::from_utf8_lossy(done.body()), expected);
    }
}

pub(super) async fn order(Bench { wilco, .. }: Bench) {
    let queue = queue("order");
    let producer = producer(&wilco, &queue).await;
    let mut receipts = Vec::new();
    for number in 0..100 {
        receipts.push(send(&producer, &number.to_string()).await);
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |body: String| {
            seen.lock().push(body.clone());
            std::future::ready(Ok::<_, Failure>(body))
        }
    };
    let _working = wilco.worker().handle(queue, handler).concurrency(1).spawn();
    for receipt in &receipts {
        assert!(outcome(receipt).await.is_processed());
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(*seen.lock(), expected);
}

pub(super) async fn late(Bench { wilco, .. }: Bench) {
    let queue = queue("late");
    let producer = producer(&wilco, &queue).await;
    let sending = producer.send(&"x".to_owned()).deadline(Duration::from_millis(300));
    let receipt = sending.await.expect("taken");
    let missed = outcome(&receipt).await;
    assert!(matches!(missed, Outcome::DeadlineMissed(_)), "{missed}");
    let _working = wilco.worker().handle(queue, shout).spawn();
    let late = async {
        loop {
            match receipt.known_outcome() {
                Some(Outcome::Processed(done)) => break done,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, late).await.expect("it is processed in the end");
    assert!(done.is_late);
}

pub(super) async fn progress(bench: Bench) {
    // Where the engine itself knows messages by their ids.
    let bench_makes_stories = bench.can(Capability::Retry);
    let wilco = bench.wilco;
    let queue: Texts = queue("progress");
    let (go, gone) = tokio::sync::watch::channel(false);
    let handler = move |body: String, context: Context| {
        let mut gone = gone.clone();
        async move {
            context.progress(0.4, "frames");
            gone.wait_for(|gone| *gone).await?;
            Ok::<_, Failure>(body)
        }
    };
    let _working = wilco.worker().handle(queue.clone(), handler).spawn();
    let producer = producer(&wilco, &queue).await;
    let receipt = send(&producer, "film").await;
    let mut progress = receipt.progress();
    let seen = tokio::time::timeout(PATIENCE, progress.next()).await.expect("it is told");
    let seen = seen.expect("before the outcome");
    assert_eq!((seen.fraction, &*seen.text, seen.attempt), (0.4, "frames", 1));
    assert_eq!(seen.queue, queue.name());
    if bench_makes_stories {
        let story = async {
            loop {
                let story = wilco.look_up(receipt.id()).await.expect("an answer").expect("known");
                if String::from_utf8_lossy(story.json())
                    .contains(r#""progress":0.4,"text":"frames""#)
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, story).await.expect("it is in the story");
    }
    go.send_replace(true);
    assert!(outcome(&receipt).await.is_processed());
    let after = tokio::time::timeout(PATIENCE, progress.next()).await.expect("it ends");
    assert!(after.is_none(), "{after:?}");
}

pub(super) async fn stopped(Bench { wilco, .. }: Bench) {
    let queue = queue("stopped");
    let producer = producer(&wilco, &queue).await;
    let mut receipts = Vec::new();
    for number in 0..3 {
        receipts.push(send(&producer, &number.to_string()).await);
    }
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let worker = wilco.worker().handle(queue.clone(), stuck(&begun)).concurrency(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let until = worker.grace(Duration::from_millis(50)).until(async { drop(stopped.await) });
    let working = tokio::spawn(until);
    begins.recv().await.expect("the first has begun");
    stop.send(()).expect("it works");
    let report = working.await.expect("no panic").expect("no error");
    assert_eq!((report.processed, report.failed, report.given_back), (0, 0, 1), "{report}");
    let _working = wilco.worker().handle(queue, shout).spawn();
    for receipt in &receipts {
        let outcome = outcome(receipt).await;
        assert!(outcome.is_processed(), "{outcome}");
    }
}

pub(super) async fn purged(bench: Bench) {
    let queue = queue("purged");
    let producer = producer(&bench.wilco, &queue).await;
    let deadline = Duration::from_millis(1500);
    let receipt = producer.send(&"x".to_owned()).deadline(deadline).await.expect("taken");
    assert_eq!(bench.wilco.purge_queue(queue.name()).await.expect("purged"), 1);
    match outcome(&receipt).await {
        Outcome::Dropped(dropped) => assert_eq!(dropped.reason, Some("purged")),
        // Nobody else says anything.
        Outcome::DeadlineMissed(_) if !bench.can(Capability::Dropped) => {}
        other => panic!("{other}"),
    }
}
