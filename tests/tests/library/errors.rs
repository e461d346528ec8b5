//! What goes wrong has one clear error each.

use std::time::Duration;

use wilco::{ErrorKind, Failure, Queue, State, Wilco};

use super::{block, connect, shared, unique};

#[test]
fn who_cannot_connect_is_told_why() {
    let broker = shared();
    let address = broker.address().to_owned();
    block(async {
        for (url, kind) in [
            (format!("amqp://guest:wrong@{address}"), ErrorKind::Login),
            (format!("amqp://nobody:x@{address}"), ErrorKind::Login),
            (format!("amqp://{address}/nowhere"), ErrorKind::Login),
            ("amqp://127.0.0.1:1".to_owned(), ErrorKind::Unreachable),
            ("http://127.0.0.1".to_owned(), ErrorKind::Url),
        ] {
            let error = Wilco::connect(&url).await.expect_err(&url);
            assert_eq!(error.kind(), kind, "{url}: {error}");
            assert!(!error.to_string().contains("wrong@"), "{error}");
        }
    });
}

#[test]
fn a_worker_without_its_state_does_not_start() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let handler = async |_: String, State(_): State<u64>| Ok::<_, Failure>(());
        let queue: Queue<String> = Queue::named(unique("stateless"));
        let error = wilco.worker().handle(queue, handler).run().await.expect_err("no state");
        assert!(error.to_string().contains("State<u64>"), "{error}");
        let error = wilco.worker().run().await.expect_err("nothing to handle");
        assert!(error.to_string().contains(".handle("), "{error}");
    });
}

#[test]
fn a_queue_that_is_deleted_ends_its_worker() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let name = unique("deleted");
        let queue: Queue<String> = Queue::named(&name);
        let handler = async |_: String| Ok::<_, Failure>(());
        wilco.producer(queue.clone()).build().await.expect("a producer makes the queue");
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        let client = tokio::task::spawn_blocking({
            let uri = broker.uri();
            move || {
                let client = end_to_end::Client::connect(&uri);
                while client.passive(&name).consumer_count() == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                client.delete(&name);
            }
        });
        client.await.expect("it is deleted");
        let error = worker.await.expect("no panic").expect_err("there is nothing to do");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn what_is_sent_after_the_end_says_so() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("closed"));
        let producer = wilco.producer(queue).build().await.expect("a producer");
        wilco.close().await;
        let error = producer.send(&"x".to_owned()).await.expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let id = producer.send(&"x".to_owned()).id("x".repeat(256)).await.expect_err("too long");
        assert_eq!(id.kind(), ErrorKind::Invalid, "{id}");
        let far = Duration::from_secs(11 * 365 * 24 * 3600);
        let far = producer.send(&"x".to_owned()).deadline(far).await.expect_err("too far");
        assert_eq!(far.kind(), ErrorKind::Invalid, "{far}");
    });
}
