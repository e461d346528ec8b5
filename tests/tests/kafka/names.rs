//! Topics that are no queues, and those that go away.

use std::time::Duration;

use end_to_end::{Server, unique};
use wilco::{ErrorKind, Failure, Queue, Wilco};

const PATIENCE: Duration = Duration::from_secs(30);

/// With share groups, and with classic ones.
fn on_each(test: &str, run: impl AsyncFn(&Wilco)) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for name in ["kafka-4.4", "kafka-3.9"] {
        let Some(server) = Server::start(test, name) else { continue };
        runtime.block_on(async {
            let url = format!("kafka://{}", server.address());
            let wilco = Wilco::connect(&url).await.expect("it lets us in");
            run(&wilco).await;
            wilco.close().await;
        });
    }
}

#[test]
fn what_others_need_is_no_queue() {
    on_each("what_others_need_is_no_queue", async |wilco| {
        for name in ["__consumer_offsets", "wilco.outcomes", "q.wilco.retry", "q.wilco.dead", "ä"]
        {
            let made = wilco.declare_queue(name).await.expect_err(name);
            let purged = wilco.purge_queue(name).await.expect_err(name);
            let deleted = wilco.delete_queue(name).await.expect_err(name);
            assert_eq!([made.kind(), purged.kind(), deleted.kind()], [ErrorKind::Invalid; 3]);
        }
    });
}

#[test]
fn a_worker_whose_queue_is_deleted_says_so() {
    on_each("a_worker_whose_queue_is_deleted_says_so", async |wilco| {
        let queue: Queue<String, String> = Queue::named(unique("deleted"));
        let handler = async |body: String| Ok::<_, Failure>(body);
        let working = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("taken");
        assert!(receipt.outcome_within(PATIENCE).await.expect("told").is_processed());
        wilco.delete_queue(queue.name()).await.expect("deleted");
        let ended = tokio::time::timeout(PATIENCE, working).await.expect("it ends");
        let error = ended.expect("no panic").expect_err("it cannot go on");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        // The next one makes the queue anew, and so does a producer.
        let _working = wilco.worker().handle(queue, handler).spawn();
        let receipt = producer.send(&"y".to_owned()).await.expect("taken");
        assert!(receipt.outcome_within(PATIENCE).await.expect("told").is_processed());
    });
}
