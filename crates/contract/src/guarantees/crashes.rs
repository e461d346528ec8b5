//! What holds when somebody ends without a last word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wilco::{Backoff, Capability, Context, ErrorKind, Failure};

use super::Bench;
use crate::process::Process;
use crate::work::{
    AT_ONCE, PATIENCE, counting, outcome, producer, queue, send, shout, stuck, unique,
};

pub(super) async fn worker(bench: Bench) {
    let queue = queue("worker");
    let producer = producer(&bench.wilco, &queue).await;
    let receipt = send(&producer, "x").await;
    let process = Process::start(&bench.engine).await;
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    process.spawn(process.wilco().worker().handle(queue.clone(), stuck(&begun)).run());
    assert_eq!(begins.recv().await, Some(1));
    process.crash().await;
    let _working = bench.wilco.worker().handle(queue, shout).spawn();
    let done = outcome(&receipt).await.processed().expect("another worker takes it");
    assert_eq!(done.result().expect("a text"), "X");
}

pub(super) async fn poison(bench: Bench) {
    let queue = queue("poison");
    let producer = producer(&bench.wilco, &queue).await;
    let receipt = send(&producer, "x").await;
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let most = if bench.engine.counts_each_crash() { 3 } else { 50 };
    let mut attempts = 0;
    let failed = loop {
        let process = Process::start(&bench.engine).await;
        let worker = process.wilco().worker().handle(queue.clone(), stuck(&begun));
        process.spawn(worker.attempts(3, AT_ONCE).run());
        tokio::select! {
            _ = begins.recv() => attempts += 1,
            outcome = outcome(&receipt) => break outcome.failed().expect("it fails"),
        }
        assert!(attempts <= most, "it is tried three times");
        process.crash().await;
    };
    assert!((3..=most).contains(&attempts), "{attempts}");
    assert!(failed.error.contains("3 times"), "{}", failed.error);
}

pub(super) async fn worker_between(bench: Bench) {
    let queue = queue("between");
    let producer = producer(&bench.wilco, &queue).await;
    let count = Arc::new(AtomicU32::new(0));
    let id = unique("id");
    for _ in 0..3 {
        let process = Process::start(&bench.engine).await;
        process.spawn(process.wilco().worker().handle(queue.clone(), counting(&count)).run());
        let receipt = producer.send(&"x".to_owned()).id(&id).await.expect("taken");
        assert!(outcome(&receipt).await.is_processed());
        process.crash().await;
    }
    let count = count.load(Ordering::SeqCst);
    let expected = if bench.can(Capability::SharedIds) { 1..=1 } else { 1..=3 };
    assert!(expected.contains(&count), "{count}");
}

pub(super) async fn worker_delay(bench: Bench) {
    const DELAY: Duration = Duration::from_secs(1);
    let queue = queue("delay");
    let producer = producer(&bench.wilco, &queue).await;
    let receipt = send(&producer, "x").await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let attempts = Arc::clone(&attempts);
        move |body: String, context: Context| {
            attempts.lock().push(Instant::now());
            std::future::ready(match context.attempt() {
                1 => Err(Failure::retry("not yet")),
                _ => Ok(body),
            })
        }
    };
    let worker = |wilco: &wilco::Wilco| {
        let worker = wilco.worker().handle(queue.clone(), handler.clone());
        worker.attempts(5, Backoff::constant(DELAY))
    };
    let process = Process::start(&bench.engine).await;
    process.spawn(worker(process.wilco()).run());
    while attempts.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Its delay has begun by then.
    tokio::time::sleep(DELAY / 4).await;
    process.crash().await;
    let _working = worker(&bench.wilco).spawn();
    assert!(outcome(&receipt).await.is_processed());
    let attempts = attempts.lock().clone();
    let waited = attempts[1].duration_since(attempts[0]);
    if bench.can(Capability::Delay) {
        assert!(waited >= DELAY, "{waited:?}");
    }
}

async fn producer_ended(bench: &Bench, ids: &[String]) -> Arc<AtomicU32> {
    let queue = queue("producer");
    let process = Process::start(&bench.engine).await;
    let sending = {
        let (wilco, queue, ids) = (process.wilco().clone(), queue.clone(), ids.to_owned());
        async move {
            let producer = producer(&wilco, &queue).await;
            for id in ids {
                producer.send(&"x".to_owned()).id(id).await.expect("taken");
            }
        }
    };
    process.spawn(sending).await.expect("all are confirmed");
    process.crash().await;
    let count = Arc::new(AtomicU32::new(0));
    let worker = bench.wilco.worker().handle(queue, counting(&count));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(worker.until(async { drop(stopped.await) }));
    let wait = async {
        while count.load(Ordering::SeqCst) < ids.len() as u32 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("nothing is lost");
    stop.send(()).expect("it works");
    let report = working.await.expect("no panic").expect("no error");
    assert_eq!(report.processed, ids.len() as u64, "{report}");
    count
}

fn ids() -> Vec<String> {
    (0..50).map(|_| unique("id")).collect()
}

pub(super) async fn producer_crash(bench: Bench) {
    let count = producer_ended(&bench, &ids()).await;
    assert_eq!(count.load(Ordering::SeqCst), 50);
}

pub(super) async fn producer_attach(bench: Bench) {
    let ids = ids();
    producer_ended(&bench, &ids).await;
    for id in &ids {
        let known = bench.wilco.look_up(id).await;
        if !bench.can(Capability::Attach) {
            assert_eq!(known.expect_err("nobody knows").kind(), ErrorKind::NoLedger);
            continue;
        }
        let story = known.expect("an answer").expect("it is known");
        let outcome = story.queues()[0].outcome::<String, wilco::Json>();
        assert!(outcome.expect("it is settled").is_processed());
    }
}

pub(super) async fn engine(bench: Bench) {
    if !bench.can(Capability::Durable) {
        return;
    }
    let queue = queue("engine");
    let seen = Arc::new(Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |body: String, context: Context| {
            let seen = Arc::clone(&seen);
            async move {
                *seen.lock().entry(context.id().to_owned()).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<_, Failure>(body)
            }
        }
    };
    let _working = bench.wilco.worker().handle(queue.clone(), handler).spawn();
    let producer = producer(&bench.wilco, &queue).await;
    // RabbitMQ forgets what is in a quorum queue that it was told to make half a second ago.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..2000_u32 {
        if number == 1000 {
            let engine = Arc::clone(&bench.engine);
            let killing = tokio::task::spawn_blocking(move || engine.kill_and_restart());
            // Where it cannot be killed, all is told all the same.
            killing.await.expect("it is there again");
        }
        let sending = producer.send(&number.to_string());
        waiting.spawn(async move {
            let receipt = sending.await.expect("it is taken in the end");
            outcome(&receipt).await
        });
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut processed = 0;
    while let Some(told) = waiting.join_next().await {
        let outcome = told.expect("every outcome is told");
        assert!(outcome.is_processed(), "{outcome}");
        processed += 1;
    }
    assert_eq!((processed, seen.lock().len()), (2000, 2000));
}
