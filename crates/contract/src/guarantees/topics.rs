//! One message, several queues.

use std::collections::BTreeMap;

use wilco::{Capability, ErrorKind, Failure, Outcome, Topic};

use super::Bench;
use crate::work::{PATIENCE, Working, unique};

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
    let sells = async |body: String| match body.as_str() {
        "plate" => Err(Failure::permanent("sold out")),
        _ => Ok(format!("{body} reserved")),
    };
    let worker = bench.wilco.worker().handle(mail, async |_: String| Ok::<_, Failure>(7));
    let _working = Working::of(worker.handle(stock, sells));
    let sent = async |body: &str| loop {
        let receipt = producer.send(&body.to_owned()).await.expect("taken");
        let outcome = receipt.outcome().await.expect("known");
        // Until both have subscribed.
        if outcome.details().queue_count == 2 {
            return receipt;
        }
    };
    let mut receipt = tokio::time::timeout(PATIENCE, sent("cup")).await.expect("both subscribe");
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
