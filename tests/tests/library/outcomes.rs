//! Each outcome, as a producer sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wilco::{Context, ErrorKind, Failure, Outcome, Queue, Raw, State};

use super::{AT_ONCE, over_each, unique};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reserved {
    left: u32,
}

fn order(item: &str) -> Order {
    Order { item: item.to_owned() }
}

async fn reserve(order: Order, State(stock): State<u32>) -> Result<Reserved, Failure> {
    match order.item.as_str() {
        "cup" => Ok(Reserved { left: stock }),
        "panic" => panic!("there is a hole in the cup"),
        "io" => Err(std::io::Error::other("the shelf is locked"))?,
        item => Err(Failure::permanent(format!("no {item}"))),
    }
}

#[test]
fn a_producer_learns_what_became_of_each_message() {
    over_each(|wilco| async move {
        let queue: Queue<Order, Reserved> = Queue::named(unique("stock"));
        let worker = wilco.worker().handle(queue.clone(), reserve).state(7_u32);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = worker.attempts(3, AT_ONCE).until(async { drop(stopped.await) });
        let working = tokio::spawn(worker);

        let stock = wilco.producer(queue).build().await.expect("a producer");
        let cup = stock.send(&order("cup")).id(unique("cup")).await.expect("stored");
        let Outcome::Processed(done) = cup.outcome().await.expect("known") else { panic!() };
        assert_eq!(done.result().expect("a result"), Reserved { left: 7 });
        assert_eq!((done.attempts, &*done.id), (1, cup.id()));

        for (item, error, attempts) in [
            ("plate", "no plate", 1),
            ("panic", "the handler panicked: there is a hole in the cup", 1),
            ("io", "the shelf is locked", 3),
        ] {
            let receipt = stock.send(&order(item)).await.expect("stored");
            let failed = receipt.outcome().await.expect("known").failed().expect(item);
            assert_eq!((&*failed.error, failed.attempts), (error, attempts), "{item}");
        }
        stop.send(()).expect("it works");
        let report = working.await.expect("no panic").expect("no error");
        assert_eq!((report.processed, report.failed, report.retried), (1, 3, 2));
    });
}

#[test]
fn an_id_is_processed_once_however_often_it_is_sent() {
    over_each(|wilco| async move {
        let queue: Queue<String> = Queue::named(unique("once"));
        let count = Arc::new(AtomicU32::new(0));
        let worker = {
            let count = Arc::clone(&count);
            let handler = move |_: String| {
                count.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, Failure>(()) }
            };
            tokio::spawn(wilco.worker().handle(queue.clone(), handler).run())
        };
        let producer = wilco.producer(queue).build().await.expect("a producer");
        let id = unique("id");
        for _ in 0..5 {
            let receipt = producer.send(&"x".to_owned()).id(&id).await.expect("stored");
            assert!(receipt.outcome().await.expect("known").is_processed());
            receipt.send_again().await.expect("harmless");
            assert!(receipt.outcome().await.expect("known").is_processed());
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        worker.abort();
    });
}

#[test]
fn a_deadline_passes_and_the_message_is_put_in_again() {
    over_each(|wilco| async move {
        let queue: Queue<String> = Queue::named(unique("late"));
        let producer = wilco.producer(queue.clone()).deadline(Duration::from_millis(50));
        let producer = producer.build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        let outcome = receipt.outcome().await.expect("known");
        assert!(matches!(outcome, Outcome::DeadlineMissed(_)), "{outcome}");

        let handler = async |_: String, context: Context| {
            assert!(context.time_left().is_some());
            Ok::<_, Failure>(())
        };
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        receipt.send_again().await.expect("stored");
        let outcome = receipt.outcome().await.expect("known");
        assert!(outcome.is_processed(), "{outcome}");
        worker.abort();
    });
}

#[test]
fn a_callback_is_called_once_and_nobody_need_wait() {
    over_each(|wilco| async move {
        let queue: Queue<Vec<u8>, Vec<u8>, Raw> = Queue::named(unique("raw"));
        let handler = async |body: Vec<u8>| Ok::<_, Failure>(body.repeat(2));
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        let producer = wilco.producer(queue).build().await.expect("a producer");
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..100_u8 {
            let told = told.clone();
            let send = producer.send(&vec![number]).id(format!("{number}")).on_outcome(
                move |id, outcome| {
                    let done = outcome.processed().expect("it is processed");
                    told.send((id.to_owned(), done.body().to_vec())).expect("somebody listens");
                },
            );
            drop(send.await.expect("stored"));
        }
        drop(told);
        let mut all = Vec::new();
        while let Some((id, body)) = heard.recv().await {
            let number: u8 = id.parse().expect("a number");
            assert_eq!(body, [number, number]);
            all.push(number);
        }
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        worker.abort();
    });
}

#[test]
fn a_body_that_is_no_order_fails_alone() {
    over_each(|wilco| async move {
        let name = unique("mixed");
        let queue: Queue<Order, Reserved> = Queue::named(&name);
        let worker = tokio::spawn(wilco.worker().handle(queue, reserve).state(1_u32).run());
        let raw: Queue<&[u8], Vec<u8>, Raw> = Queue::named(&name);
        let raw = wilco.producer(raw).build().await.expect("a producer");
        let bad = raw.send(&&b"{\"item\":"[..]).await.expect("stored");
        let good = raw.send(&&b"{\"item\":\"cup\"}"[..]).await.expect("stored");
        let failed = bad.outcome().await.expect("known").failed().expect("it fails");
        assert!(failed.error.starts_with("the body is not the application/json"), "{failed:?}");
        let done = good.outcome().await.expect("known").processed().expect("it is processed");
        assert_eq!(&done.body()[..], b"{\"left\":1}");
        worker.abort();
    });
}

#[test]
fn a_full_window_says_so_or_waits() {
    over_each(|wilco| async move {
        let queue: Queue<String> = Queue::named(unique("window"));
        let producer = wilco.producer(queue.clone()).window(2).window_bytes(4096);
        let producer =
            producer.send_timeout(Duration::from_millis(300)).build().await.expect("a producer");
        for _ in 0..2 {
            let send = producer.send(&"x".to_owned()).on_outcome(|_, _| ());
            send.await.expect("there is room");
        }
        let full = producer.try_send(&"x".to_owned()).await.expect_err("it is full");
        assert_eq!(full.kind(), ErrorKind::Full);
        let waited = producer.send(&"x".to_owned()).await.expect_err("nobody works");
        assert_eq!(waited.kind(), ErrorKind::TimedOut);
        let large = producer.send(&"x".repeat(5000)).await.expect_err("larger than the window");
        assert_eq!(large.kind(), ErrorKind::TooLarge);

        let handler = async |_: String| Ok::<_, Failure>(());
        let worker = tokio::spawn(wilco.worker().handle(queue, handler).run());
        let receipt = producer.send(&"x".to_owned()).await.expect("there is room again");
        assert!(receipt.outcome().await.expect("known").is_processed());
        worker.abort();
    });
}

#[test]
fn a_worker_that_stops_gives_back_what_it_has_not_finished() {
    over_each(|wilco| async move {
        let queue: Queue<u64> = Queue::named(unique("stop"));
        let producer = wilco.producer(queue.clone()).build().await.expect("a producer");
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let handler = move |ms: u64| {
            let begun = begun.clone();
            async move {
                begun.send(ms).expect("the test listens");
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok::<_, Failure>(())
            }
        };
        let slow = producer.send(&3_600_000).await.expect("stored");
        let quick = producer.send(&200).await.expect("stored");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = wilco.worker().handle(queue.clone(), handler.clone());
        let worker = worker.grace(Duration::from_secs(1)).until(async { drop(stopped.await) });
        let worker = tokio::spawn(worker);
        for _ in 0..2 {
            begins.recv().await.expect("it begins");
        }
        stop.send(()).expect("it works");
        let report = worker.await.expect("no panic").expect("no error");
        assert_eq!((report.processed, report.failed, report.given_back), (1, 0, 1));
        assert!(quick.outcome().await.expect("known").is_processed());
        assert!(slow.known_outcome().is_none(), "stopping is no failure");

        let again = tokio::spawn(wilco.worker().handle(queue, handler).run());
        assert_eq!(begins.recv().await, Some(3_600_000), "somebody else has it now");
        again.abort();
    });
}

#[test]
fn layers_made_for_tower_are_put_around_handlers() {
    use tower::timeout::TimeoutLayer;
    use tower::util::{MapErrLayer, MapRequestLayer};

    over_each(|wilco| async move {
        let queue: Queue<String, String> = Queue::named(unique("layers"));
        let handler = async |body: String| match body.as_str() {
            "slow" => std::future::pending().await,
            "bad" => Err(Failure::permanent("no")),
            _ => Ok(body),
        };
        let seen = Arc::new(AtomicU32::new(0));
        let counting = {
            let seen = Arc::clone(&seen);
            MapRequestLayer::new(move |job: wilco::Job| {
                assert_eq!(job.context().attempt(), 1);
                seen.fetch_add(job.body().len() as u32, Ordering::SeqCst);
                job
            })
        };
        let renaming = MapErrLayer::new(|error| match Failure::of(&error) {
            Some(failure) => Failure::permanent(format!("layered: {failure}")).boxed(),
            None => error,
        });
        let worker = wilco.worker().handle(queue.clone(), handler).attempts(1, AT_ONCE);
        let limit = TimeoutLayer::new(Duration::from_millis(50));
        let _worker = worker.layer(counting).layer(renaming).layer(limit).spawn();
        let producer = wilco.producer(queue).build().await.expect("a producer");
        for (body, expected) in [("slow", "request timed out"), ("bad", "layered: no")] {
            let receipt = producer.send(&body.to_owned()).await.expect("stored");
            let failed = receipt.outcome().await.expect("known").failed().expect("it fails");
            assert_eq!(failed.error, expected);
        }
        let receipt = producer.send(&"good".to_owned()).await.expect("stored");
        assert!(receipt.outcome().await.expect("known").is_processed());
        assert_eq!(seen.load(Ordering::SeqCst), 17, "with the quotation marks");
    });
}

#[test]
fn a_stream_is_sent_with_no_more_under_way_than_the_window_has_room_for() {
    use futures_util::{StreamExt, stream};

    const WINDOW: u32 = 10;
    over_each(|wilco| async move {
        let queue: Queue<u32, u32> = Queue::named(unique("stream"));
        let handler = async |number: u32| match number % 7 {
            3 => Err(Failure::permanent(number)),
            _ => Ok(number),
        };
        let _worker = wilco.worker().handle(queue.clone(), handler).spawn();
        let producer = wilco.producer(queue).window(WINDOW as usize);
        let producer = producer.build().await.expect("a producer");
        let (taken, told) = (AtomicU32::new(0), AtomicU32::new(0));
        let numbers = stream::iter(0..500_u32).inspect(|_| {
            let taken = taken.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(taken - told.load(Ordering::SeqCst) <= WINDOW + 1, "{taken} were taken");
        });
        let mut outcomes = std::pin::pin!(producer.send_all(numbers));
        let (mut sum, mut failed) = (0, 0);
        while let Some(outcome) = outcomes.next().await {
            told.fetch_add(1, Ordering::SeqCst);
            match outcome.expect("known") {
                Outcome::Processed(done) => sum += done.result().expect("a number"),
                Outcome::Failed(why) => failed += why.error.parse::<u32>().expect("a number"),
                other => panic!("{other}"),
            }
        }
        assert_eq!((sum + failed, told.load(Ordering::SeqCst)), ((0..500).sum(), 500));
    });
}
