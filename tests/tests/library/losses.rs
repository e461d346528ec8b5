//! What the broker has lost, and what a worker leaves behind.

use std::time::Duration;

use end_to_end::Broker;
use wilco::{Failure, Queue};

use super::{block, connect, over_each, shared, unique};

#[test]
fn a_broker_that_has_lost_everything_is_set_up_again() {
    let test = "a_broker_that_has_lost_everything_is_set_up_again";
    let Some(mut broker) = Broker::own(test) else { return };
    block(async {
        let wilco = connect(&broker).await;
        let (plain, late): (Queue<String>, Queue<String>) =
            (Queue::new("plain"), Queue::new("late"));
        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(plain.clone(), handler).run());
        let plain = wilco.producer(plain).build().await.expect("a producer");
        let late_producer = wilco.producer(late.clone()).build().await.expect("a producer");
        let receipt = plain.send(&"x".to_owned()).await.expect("stored");
        assert!(receipt.outcome().await.expect("known").is_processed());
        let lost = late_producer.send(&"x".to_owned()).await.expect("stored");

        broker.kill_nine();
        std::fs::remove_dir_all(broker.data()).expect("its data");
        broker.start();
        // Queues are made again, and what has no outcome is sent again.
        let receipt = loop {
            let receipt = plain.send(&"x".to_owned()).await.expect("stored");
            match receipt.outcome().await.expect("known") {
                outcome if outcome.is_processed() => break receipt,
                // The worker's connection is not there yet.
                outcome => assert_eq!(outcome.name(), "unroutable"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        drop(receipt);
        let late_worker = tokio::spawn(wilco.worker().handle(late, handler).run());
        let outcome = lost.outcome().await.expect("known");
        assert!(outcome.is_processed(), "it was sent again: {outcome}");
        worker.abort();
        late_worker.abort();
    });
}

#[test]
fn a_queue_for_outcomes_that_is_deleted_is_made_again() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("answers"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        let uri = broker.uri();
        let name = queue.name().to_owned();
        let deleted = tokio::task::spawn_blocking(move || {
            let client = end_to_end::Client::connect(&uri);
            // Whoever looks at a message sees where its outcome is to go.
            let message = client.get(&name).expect("it is there");
            let answers = message.properties.reply_to().as_ref().expect("an address").to_string();
            client.delete(&answers);
            client.close();
        });
        deleted.await.expect("it is deleted");
        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        assert!(receipt.outcome().await.expect("known").is_processed());
        worker.abort();
    });
}

#[test]
fn a_worker_that_is_dropped_leaves_nobody_behind() {
    over_each(|wilco| async move {
        let queue: Queue<u32> = Queue::named(unique("dropped"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let waits = move |number: u32| {
            let begun = begun.clone();
            async move {
                begun.send(number).expect("the test listens");
                std::future::pending::<Result<(), Failure>>().await
            }
        };
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), waits).concurrency(1).run());
        let first = producer.send(&1).await.expect("stored");
        assert_eq!(begins.recv().await, Some(1));
        worker.abort();
        let _ = worker.await;
        let rest = producer.send(&2).await.expect("stored");
        // Nobody takes them now: they would have failed of too many deliveries.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(first.known_outcome().is_none() && rest.known_outcome().is_none());
        let handler = async |_: u32| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        for receipt in [first, rest] {
            let outcome = receipt.outcome().await.expect("known").processed().expect("processed");
            assert!(outcome.attempts <= 2, "{outcome:?}");
        }
        worker.abort();
    });
}

#[test]
fn one_id_in_two_queues_is_two_messages() {
    over_each(|wilco| async move {
        let (stock, mail): (Queue<String, String>, Queue<String, String>) =
            (Queue::named(unique("stock")), Queue::named(unique("mail")));
        let worker = wilco
            .worker()
            .handle(stock.clone(), async |_: String| Ok::<_, Failure>("stock".to_owned()))
            .handle(mail.clone(), async |_: String| Ok::<_, Failure>("mail".to_owned()));
        let worker = tokio::spawn(worker.run());
        let id = unique("order");
        let mut receipts = Vec::new();
        for queue in [stock, mail] {
            let producer = wilco.producer(queue).build().await.expect("a producer");
            receipts.push(producer.send(&"x".to_owned()).id(&id).await.expect("stored"));
        }
        for (receipt, expected) in receipts.iter().zip(["stock", "mail"]) {
            let done = receipt.outcome().await.expect("known").processed().expect("processed");
            assert_eq!(done.result().expect("a text"), expected);
        }
        worker.abort();
    });
}

#[test]
fn attempts_are_counted_on_classic_queues_too_and_large_results_fail() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let name = unique("classic");
        let uri = broker.uri();
        let declared = tokio::task::spawn_blocking({
            let name = name.clone();
            move || end_to_end::Client::connect(&uri).declare(&name, Default::default())
        });
        declared.await.expect("it is declared");
        let queue: Queue<usize, String> = Queue::named(name);
        let handler = async |bytes: usize| match bytes {
            0 => Err(Failure::retry("never")),
            bytes => Ok("x".repeat(bytes)),
        };
        let worker = wilco.worker().handle(queue.clone(), handler).attempts(3, super::AT_ONCE);
        let worker = tokio::spawn(worker.run());
        let producer = wilco.producer(queue).build().await.expect("a producer");
        let receipt = producer.send(&0).await.expect("stored");
        let failed = receipt.outcome().await.expect("known").failed().expect("it fails");
        assert_eq!((&*failed.error, failed.attempts), ("never", 3));
        let receipt = producer.send(&70_000).await.expect("stored");
        let failed = receipt.outcome().await.expect("known").failed().expect("it fails");
        assert!(failed.error.contains("at most"), "{}", failed.error);
        worker.abort();
    });
}

#[test]
fn the_end_of_the_connection_is_the_end_of_its_workers_and_waits() {
    over_each(|wilco| async move {
        let queue: Queue<String> = Queue::named(unique("ended"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        let waiting = tokio::spawn(async move { receipt.outcome().await });
        let other: Queue<String> = Queue::named(unique("other"));
        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(other, handler).run());
        tokio::time::sleep(Duration::from_millis(100)).await;
        wilco.close().await;
        let error = waiting.await.expect("no panic").expect_err("it is never known");
        assert_eq!(error.kind(), wilco::ErrorKind::Closed);
        let error = worker.await.expect("no panic").expect_err("the connection is closed");
        assert_eq!(error.kind(), wilco::ErrorKind::Closed);
    });
}

#[test]
fn a_store_in_process_is_closed_with_its_runtime_and_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("embedded:{}", directory.path().join("store").display());
    let queue: Queue<String> = Queue::new("kept");
    // One that is on its way out is waited for.
    let open = async |url: &str| wilco::Wilco::connect(url).await.expect("nobody uses it any more");
    for number in 0..3 {
        // The runtime ends with everything in it, and nobody has said good-bye.
        block(async {
            let wilco = open(&url).await;
            let second = wilco::Wilco::connect(&url).await.expect_err("one process at a time");
            assert_eq!(second.kind(), wilco::ErrorKind::Store, "{second}");
            let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
            producer.send(&"x".to_owned()).id(number.to_string()).await.expect("stored");
        });
    }
    block(async {
        let wilco = open(&url).await;
        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        for number in 0..3 {
            let attached = wilco.attach(queue.clone(), number.to_string()).await.expect("known");
            assert!(attached.outcome().await.expect("known").is_processed());
        }
        worker.abort();
        wilco.close().await;
    });
    // Closed is closed, whoever still has a handle and goes on.
    block(async {
        let mut handles = Vec::new();
        for _ in 0..5 {
            let wilco = open(&url).await;
            let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
            let sending = {
                let producer = producer.clone();
                tokio::spawn(async move { while producer.send(&"x".to_owned()).await.is_ok() {} })
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            wilco.clone().close().await;
            let closed = wilco.look_up("0").await.expect_err("it is closed");
            assert_eq!(closed.kind(), wilco::ErrorKind::Closed);
            handles.push((wilco, producer, sending));
        }
        wilco::Wilco::connect(&url).await.expect("all have let go of it").close().await;
    });
}

#[test]
fn a_queue_that_was_deleted_is_made_again_by_who_sends() {
    over_each(|wilco| async move {
        let queue: Queue<String> = Queue::named(unique("gone"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        wilco.delete_queue(queue.name()).await.expect("deleted");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        assert!(receipt.outcome().await.expect("known").is_processed());
        worker.abort();
    });
}

#[test]
fn a_worker_that_ends_leaves_nothing_to_the_next() {
    block(async {
        let wilco = wilco::Wilco::connect("memory:").await.expect("a broker");
        let handler = async |body: String| Ok::<_, Failure>(body);
        for round in 0..300 {
            let crowded: Queue<String, String> = Queue::named(unique("crowded"));
            let producer = wilco.producer(crowded.clone()).build().await.expect("a producer");
            for number in 0..20 {
                producer.send(&number.to_string()).await.expect("stored");
            }
            // It has taken some, and may have begun none.
            let worker = wilco.worker().handle(crowded.clone(), handler).concurrency(16).spawn();
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_micros(200 * (round % 10))).await;
            }
            drop(worker);
            let lonely: Queue<String, String> = Queue::named(unique("lonely"));
            let _worker = wilco.worker().handle(lonely.clone(), handler).spawn();
            let producer = wilco.producer(lonely).build().await.expect("a producer");
            let receipt = producer.send(&"x".to_owned()).await.expect("stored");
            let outcome = receipt.outcome_within(Duration::from_secs(10)).await;
            assert!(outcome.expect("it is worked on").is_processed(), "in round {round}");
            wilco.delete_queue(crowded.name()).await.expect("it is there");
        }
    });
}
