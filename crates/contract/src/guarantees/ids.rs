//! What an id is good for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wilco::{Capability, ErrorKind, Failure, MessageState, Stage};

use super::Bench;
use crate::process::Process;
use crate::work::{AT_ONCE, PATIENCE, counting, outcome, producer, queue, send, shout, unique};

pub(super) async fn sent_again(Bench { wilco, .. }: Bench) {
    let queue = queue("sent-again");
    let count = Arc::new(AtomicU32::new(0));
    let _working = wilco.worker().handle(queue.clone(), counting(&count)).spawn();
    let producer = producer(&wilco, &queue).await;
    let id = unique("id");
    for number in 0..5 {
        let receipt = producer.send(&"x".to_owned()).id(&id).await.expect("taken");
        let done = outcome(&receipt).await.processed().expect("it is processed");
        assert_eq!((done.result().expect("a text").as_str(), done.is_duplicate), ("x", number > 0));
        receipt.send_again().await.expect("harmless");
        assert!(outcome(&receipt).await.is_processed());
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

pub(super) async fn several_workers(bench: Bench) {
    let queue = queue("several");
    let count = Arc::new(AtomicU32::new(0));
    let mut processes = Vec::new();
    for _ in 0..3 {
        let process = Process::start(&bench.engine).await;
        let worker = process.wilco().worker().handle(queue.clone(), counting(&count));
        process.spawn(worker.run());
        processes.push(process);
    }
    let producer = producer(&bench.wilco, &queue).await;
    let ids: Vec<_> = (0..20).map(|_| unique("id")).collect();
    for _ in 0..5 {
        let mut receipts = Vec::new();
        for id in &ids {
            receipts.push(producer.send(&"x".to_owned()).id(id).await.expect("taken"));
        }
        for receipt in &receipts {
            assert!(outcome(receipt).await.is_processed());
        }
    }
    let count = count.load(Ordering::SeqCst);
    match bench.can(Capability::SharedIds) {
        true => assert_eq!(count, 20),
        // Each worker knows what it has done itself.
        false => assert!((20..=60).contains(&count), "{count}"),
    }
    for process in processes {
        process.crash().await;
    }
}

pub(super) async fn attached(bench: Bench) {
    let queue = queue("attached");
    let other = Process::start(&bench.engine).await;
    let id = unique("id");
    if !bench.can(Capability::Attach) {
        let error = other.wilco().attach(queue, &id).await.expect_err("nobody knows");
        assert_eq!(error.kind(), ErrorKind::NoLedger, "{error}");
        let error = other.wilco().look_up(&id).await.expect_err("nobody knows");
        assert_eq!(error.kind(), ErrorKind::NoLedger, "{error}");
        return;
    }
    let unknown = other.wilco().attach(queue.clone(), &id).await.expect("an answer");
    assert!(matches!(unknown.state(), MessageState::Unknown));
    let producer = producer(&bench.wilco, &queue).await;
    producer.send(&"x".to_owned()).id(&id).await.expect("taken");
    let attached = other.wilco().attach(queue.clone(), &id).await.expect("an answer");
    assert!(matches!(attached.state(), MessageState::Queued), "{:?}", attached.state());
    let following = tokio::spawn(async move { attached.outcome_within(PATIENCE).await });
    let _working = bench.wilco.worker().handle(queue.clone(), shout).spawn();
    let done = following.await.expect("no panic").expect("known").processed().expect("processed");
    assert_eq!((done.result().expect("a text").as_str(), done.attempts), ("X", 1));
    let story = other.wilco().look_up(&id).await.expect("an answer").expect("it is known");
    let [there] = story.queues() else { panic!("{story:?}") };
    assert_eq!((&*there.queue, there.stage), (queue.name(), Stage::Settled));
}

pub(super) async fn retried(bench: Bench) {
    let queue = queue("retried-by-id");
    let producer = producer(&bench.wilco, &queue).await;
    let receipt = send(&producer, "x").await;
    {
        let fails = async |_: String| Err::<String, _>(Failure::permanent("not yet"));
        let worker = bench.wilco.worker().handle(queue.clone(), fails);
        let _working = worker.attempts(1, AT_ONCE).spawn();
        assert!(outcome(&receipt).await.failed().is_some());
    }
    let retried = bench.wilco.retry(receipt.id(), None).await;
    if !bench.can(Capability::Retry) {
        let error = retried.expect_err("it cannot be had");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    }
    retried.expect("it has failed");
    let _working = bench.wilco.worker().handle(queue.clone(), shout).spawn();
    let attached = bench.wilco.attach(queue, receipt.id()).await.expect("known");
    let followed = async {
        loop {
            match attached.outcome_within(PATIENCE).await.expect("known") {
                outcome if outcome.is_processed() => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("it is processed in the end");
}

pub(super) async fn cancelled(bench: Bench) {
    let queue = queue("cancelled");
    let producer = producer(&bench.wilco, &queue).await;
    let receipt = send(&producer, "x").await;
    let cancelled = bench.wilco.cancel(receipt.id(), None).await;
    if !bench.can(Capability::Cancel) {
        let error = cancelled.expect_err("it cannot be had");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    }
    cancelled.expect("it waits");
    let outcome = outcome(&receipt).await;
    assert_eq!((outcome.name(), outcome.details().reason), ("dropped", Some("cancelled")));
}

pub(super) async fn watched(bench: Bench) {
    let queue = queue("watched");
    let other = Process::start(&bench.engine).await;
    let watching = other.wilco().watch(Some(queue.name())).await;
    if !bench.can(Capability::Watch) {
        let error = watching.expect_err("it cannot be had");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    }
    let mut watch = watching.expect("it may");
    let producer = producer(&bench.wilco, &queue).await;
    let elsewhere = crate::work::queue("elsewhere");
    let elsewhere = crate::work::producer(&bench.wilco, &elsewhere).await;
    let handler = async |body: String| match body.as_str() {
        "bad" => Err(Failure::permanent("no")),
        _ => Ok(body),
    };
    let _working = bench.wilco.worker().handle(queue.clone(), handler).concurrency(1).spawn();
    send(&elsewhere, "x").await;
    let sent = [send(&producer, "good").await, send(&producer, "bad").await];
    for (receipt, expected) in sent.iter().zip(["processed", "failed: no"]) {
        let seen = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it is seen");
        let seen = seen.expect("no error").expect("it goes on");
        assert_eq!((&*seen.details().id, &*seen.to_string()), (receipt.id(), expected));
        assert_eq!(seen.details().queue, queue.name());
    }
    watch.close().await.expect("it ends");
}
