//! Messages found by their ids, by whoever asks.

use std::time::Duration;

use end_to_end::Broker;
use wilco::{ErrorKind, Failure, MessageState, Outcome, Queue, Stage};

use super::{AT_ONCE, block, connect, over_each, shared, unique};

#[test]
fn another_process_finds_a_message_and_follows_it() {
    let broker = shared();
    block(async {
        let (sender, other) = (connect(&broker).await, connect(&broker).await);
        let queue: Queue<String, String> = Queue::named(unique("followed"));
        let id = unique("followed/id");
        let unknown = other.attach(queue.clone(), &id).await.expect("an answer");
        assert!(matches!(unknown.state(), MessageState::Unknown));
        let error = unknown.outcome().await.expect_err("nothing is known");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(other.look_up(&id).await.expect("an answer").is_none());

        let producer = sender.producer(queue.clone()).build().await.expect("a producer");
        producer.send(&"x".to_owned()).id(&id).await.expect("stored");
        let mut attached = other.attach(queue.clone(), &id).await.expect("an answer");
        assert!(matches!(attached.state(), MessageState::Queued));
        let early = attached.outcome_within(Duration::from_millis(200)).await.expect_err("not yet");
        assert_eq!(early.kind(), ErrorKind::TimedOut);

        let following = tokio::spawn({
            let attached = other.attach(queue.clone(), &id).await.expect("an answer");
            async move { attached.outcome().await }
        });
        let (go, gone) = tokio::sync::watch::channel(false);
        let handler = move |body: String| {
            let mut gone = gone.clone();
            async move {
                gone.wait_for(|gone| *gone).await.expect("the test goes on");
                Ok::<_, Failure>(body.repeat(3))
            }
        };
        let worker = tokio::spawn(sender.worker().handle(queue.clone(), handler).run());
        while !matches!(attached.look_again().await.expect("an answer"), MessageState::Delivered) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = attached.cancel().await.expect_err("a worker has it");
        assert_eq!(error.kind(), ErrorKind::Broker, "{error}");
        go.send_replace(true);
        let outcome = following.await.expect("no panic").expect("known");
        let done = outcome.processed().expect("processed");
        assert_eq!(done.result().expect("a text"), "xxx");
        let story = other.look_up(&id).await.expect("an answer").expect("it is known");
        assert_eq!((story.queues().len(), story.queues()[0].stage), (1, Stage::Settled));
        assert!(story.json().starts_with(b"{\"id\":"));
        worker.abort();
    });
}

#[test]
fn what_failed_is_tried_again_and_what_waits_is_cancelled() {
    over_each(|wilco| async move {
        let queue: Queue<u32> = Queue::named(unique("again"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let receipt = producer.send(&1).await.expect("stored");
        let attached = wilco.attach(queue.clone(), receipt.id()).await.expect("an answer");
        attached.cancel().await.expect("it waits");
        let outcome = receipt.outcome().await.expect("known");
        assert!(matches!(&outcome, Outcome::Dropped(why) if why.reason == Some("cancelled")));
        let error = attached.cancel().await.expect_err("it has its outcome");
        assert_eq!(error.kind(), ErrorKind::Broker, "{error}");

        attached.retry().await.expect("it was dropped");
        let handler = async |_: u32| Err::<(), _>(Failure::permanent("no"));
        let worker = wilco.worker().handle(queue.clone(), handler).attempts(1, AT_ONCE);
        let worker = tokio::spawn(worker.run());
        let failed = loop {
            match attached.outcome().await.expect("known") {
                // What became of it before is told until the worker has it.
                Outcome::Dropped(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                outcome => break outcome.failed().expect("it fails"),
            }
        };
        assert_eq!(failed.error, "no");
        worker.abort();
        let error = wilco.retry("nobody knows this", None).await.expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn a_question_survives_the_brokers_restart() {
    let test = "a_question_survives_the_brokers_restart";
    let Some(mut broker) = Broker::own(test) else { return };
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<u32> = Queue::new("q");
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let id = producer.send(&1).await.expect("stored").id().to_owned();
        let attached = wilco.attach(queue.clone(), &id).await.expect("an answer");
        let waiting = tokio::spawn(async move { attached.outcome().await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.kill_nine();
        broker.start();
        let handler = async |_: u32| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        assert!(waiting.await.expect("no panic").expect("known").is_processed());
        worker.abort();
    });
}

#[test]
fn an_id_that_was_sent_elsewhere_is_still_known_where_it_waits() {
    over_each(|wilco| async move {
        let (first, second): (Queue<u32>, Queue<u32>) =
            (Queue::named(unique("first")), Queue::named(unique("second")));
        let id = unique("twice");
        for queue in [&first, &second] {
            let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
            producer.send(&1).id(&id).await.expect("stored");
        }
        let attached = wilco.attach(first.clone(), &id).await.expect("an answer");
        assert!(matches!(attached.state(), MessageState::Queued), "{attached:?}");
        let handler = async |_: u32| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(first, handler).run());
        assert!(attached.outcome().await.expect("known").is_processed());
        let story = wilco.look_up(&id).await.expect("an answer").expect("it is known");
        assert_eq!(story.queues().len(), 2);
        let nobodys = wilco.attach(second, "x".repeat(70_000)).await.expect("an answer");
        assert!(matches!(nobodys.state(), MessageState::Unknown));
        worker.abort();
    });
}

#[test]
fn hundreds_wait_at_a_time_and_others_still_get_answers() {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<u32> = Queue::named(unique("waited"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let id = producer.send(&1).await.expect("stored").id().to_owned();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let (wilco, queue, id) = (wilco.clone(), queue.clone(), id.clone());
            waiting.spawn(async move {
                let attached = wilco.attach(queue, id).await.expect("an answer");
                attached.outcome().await
            });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(wilco.look_up(&id).await.expect("an answer").is_some());
        let handler = async |_: u32| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        while let Some(told) = waiting.join_next().await {
            assert!(told.expect("no panic").expect("known").is_processed());
        }
        worker.abort();
    });
}
