//! One message, several queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wilco::{Capability, ErrorKind, Failure, Outcome, Topic};

use super::Bench;
use crate::process::Process;
use crate::work::{PATIENCE, unique};

pub(super) async fn outcomes(bench: Bench) {
    let topic: Topic<String> = Topic::named(unique("placed"));
    let building = bench.wilco.producer(topic.clone()).outcome_timeout(PATIENCE).build();
    if !bench.can(Capability::Topics) {
        let error = building.await.expect_err("nobody knows how many outcomes there are");
        assert_eq!(error.kind(), ErrorKind::NoLedger, "{error}");
        return;
    }
    let producer = building.await.expect("a producer");
    let nobody = producer.send(&"x".to_owned()).await.expect("taken");
    let outcome = nobody.outcome().await.expect("known");
    assert!(matches!(outcome, Outcome::Unroutable(_)), "{outcome}");

    let (mail, stock) = (topic.queue::<u32>("mail"), topic.queue::<String>("stock"));
    let (mail_queue, stock_queue) = (mail.name().to_owned(), stock.name().to_owned());
    bench.wilco.subscribe(&mail).await.expect("it may");
    bench.wilco.subscribe(&stock).await.expect("it may");
    let sells = async |body: String| match body.as_str() {
        "plate" => Err(Failure::permanent("sold out")),
        _ => Ok(format!("{body} reserved")),
    };
    let worker = bench.wilco.worker().handle(mail, async |_: String| Ok::<_, Failure>(7));
    let _working = worker.handle(stock, sells).spawn();
    let sent = async |body: &str| producer.send(&body.to_owned()).await.expect("taken");
    let mut receipt = sent("cup").await;
    let mut told = BTreeMap::new();
    while let Some(outcome) = receipt.next().await.expect("known") {
        let done = outcome.processed().expect("processed");
        let text = String::from_utf8_lossy(done.body()).into_owned();
        told.insert(done.queue.clone(), text);
        if done.queue == mail_queue {
            assert_eq!(done.decode::<u32>().expect("a number"), 7);
        }
    }
    let expected = [(mail_queue, "7"), (stock_queue.clone(), "\"cup reserved\"")];
    assert_eq!(told, expected.map(|(queue, text)| (queue, text.to_owned())).into());

    let receipt = sent("plate").await;
    let worst = receipt.outcome().await.expect("known").failed().expect("one of them fails");
    assert_eq!((&*worst.error, &worst.queue), ("sold out", &stock_queue));
}

pub(super) async fn sent_again(bench: Bench) {
    let topic: Topic<String> = Topic::named(unique("again"));
    let queues = ["one", "two", "three"].map(|name| topic.queue::<u32>(name));
    let can = bench.can(Capability::Topics);
    if !can {
        let error = bench.wilco.producer(topic).build().await.expect_err("nobody knows them");
        assert_eq!(error.kind(), ErrorKind::NoLedger, "{error}");
        return;
    }
    let count = Arc::new(AtomicU32::new(0));
    let mut worker = bench.wilco.worker();
    for queue in &queues {
        bench.wilco.subscribe(queue).await.expect("it may");
        let count = Arc::clone(&count);
        let handler = move |_: String| {
            std::future::ready(Ok::<_, Failure>(count.fetch_add(1, Ordering::SeqCst)))
        };
        worker = worker.handle(queue.clone(), handler);
    }
    let _working = worker.spawn();
    let id = unique("id");
    for _ in 0..3 {
        let process = Process::start(&bench.engine).await;
        let producer = process.wilco().producer(topic.clone()).outcome_timeout(PATIENCE);
        let producer = producer.build().await.expect("a producer");
        let mut receipt = producer.send(&"x".to_owned()).id(&id).await.expect("taken");
        let mut told = BTreeSet::new();
        while let Some(outcome) = receipt.next().await.expect("known") {
            assert!(outcome.is_processed(), "{outcome}");
            told.insert(outcome.details().queue.clone());
        }
        assert_eq!(told, queues.iter().map(|queue| queue.name().to_owned()).collect());
        process.crash().await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 3, "once in each queue");
}
