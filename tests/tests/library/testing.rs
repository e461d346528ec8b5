//! The broker for tests of programs: its clock, and what is done to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wilco::testing::Broker;
use wilco::{Backoff, Context, Failure, MessageState, Outcome, Queue};

use super::block;

const HOUR: Duration = Duration::from_secs(3600);
const JOBS: Queue<String, u32> = Queue::new("jobs");

#[test]
fn the_clock_is_moved_by_hand() {
    block(async {
        let broker = Broker::start();
        let attempts = Arc::new(AtomicU32::new(0));
        let handler = {
            let attempts = Arc::clone(&attempts);
            move |_: String, context: Context| {
                attempts.store(context.attempt(), Ordering::SeqCst);
                std::future::ready(match context.attempt() {
                    4 => Ok(context.attempt()),
                    attempt => Err(Failure::retry(attempt)),
                })
            }
        };
        let backoff = Backoff::exponential(HOUR).at_most(24 * HOUR);
        let _worker = broker.worker().handle(JOBS, handler).attempts(5, backoff).spawn();
        let producer = broker.producer(JOBS).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).deadline(2 * HOUR).await.expect("stored");
        let before = broker.now();
        broker.advance(Duration::ZERO).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
        // Up to a tenth more is waited.
        for (advance, expected) in [(HOUR, 1), (HOUR / 8, 2), (3 * HOUR, 3), (5 * HOUR, 4)] {
            broker.advance(advance).await;
            assert_eq!(attempts.load(Ordering::SeqCst), expected);
        }
        let Outcome::Processed(done) = receipt.outcome().await.expect("known") else { panic!() };
        assert!(done.is_late && done.attempts == 4, "{done:?}");
        assert_eq!(broker.now().duration_since(before).expect("later"), 9 * HOUR + HOUR / 8);
        broker.drain().await.expect("nothing is left");
    });
}

#[test]
fn a_deadline_passes_by_the_clock_and_a_handler_sees_it() {
    block(async {
        let broker = Broker::start();
        let producer = broker.producer(JOBS).deadline(HOUR).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        broker.advance(HOUR - Duration::from_secs(1)).await;
        assert!(receipt.known_outcome().is_none());
        let handler = async |_: String, context: Context| {
            assert_eq!(context.time_left(), Some(Duration::from_secs(1)));
            context.deadline_passed().await;
            context.check_deadline().map(|()| 0)
        };
        let _worker = broker.worker().handle(JOBS, handler).spawn();
        broker.advance(Duration::from_secs(2)).await;
        let outcome = receipt.outcome().await.expect("known");
        assert!(matches!(outcome, Outcome::DeadlineMissed(_)), "{outcome}");
        broker.drain().await.expect("the handler gives up");
    });
}

#[test]
fn a_handler_that_takes_too_long_by_the_clock_is_dropped() {
    block(async {
        let broker = Broker::start();
        let handler = async |_: String| std::future::pending::<Result<u32, Failure>>().await;
        let worker = broker.worker().handle(JOBS, handler).timeout(HOUR);
        let _worker = worker.attempts(1, Backoff::default()).spawn();
        let producer = broker.producer(JOBS).build().await.expect("a producer");
        let receipt = producer.send(&"x".to_owned()).await.expect("stored");
        broker.advance(HOUR / 2).await;
        assert!(receipt.known_outcome().is_none());
        broker.advance(HOUR).await;
        let failed = receipt.outcome().await.expect("known").failed().expect("it fails");
        assert_eq!(failed.error, "the handler took too long");
    });
}

#[test]
fn nothing_is_lost_whatever_is_done_to_the_broker() {
    block(async {
        let broker = Broker::start();
        let count = Arc::new(AtomicU32::new(0));
        let handler = {
            let count = Arc::clone(&count);
            move |_: String| {
                let count = Arc::clone(&count);
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    Ok::<_, Failure>(count.fetch_add(1, Ordering::SeqCst))
                }
            }
        };
        let producer = broker.producer(JOBS).build().await.expect("a producer");
        let mut worker = broker.worker().handle(JOBS, handler.clone()).spawn();
        let mut receipts = Vec::new();
        for round in 0..30_u32 {
            let mut sending = tokio::task::JoinSet::new();
            for number in 0..20 {
                let message = producer.send(&number.to_string()).id(format!("{round}-{number}"));
                sending.spawn(message.into_future());
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
            match round % 3 {
                0 => broker.disconnect(),
                1 => broker.restart(),
                _ => {
                    broker.crash_workers();
                    let again = broker.worker().handle(JOBS, handler.clone());
                    worker = again.attempts(100, Backoff::default()).spawn();
                }
            }
            while let Some(sent) = sending.join_next().await {
                receipts.push(sent.expect("no panic").expect("it is stored in the end"));
            }
        }
        for receipt in &receipts {
            let outcome = receipt.outcome().await.expect("known");
            assert!(outcome.is_processed(), "{}: {outcome}", receipt.id());
        }
        broker.drain().await.expect("nothing is left");
        assert!(count.load(Ordering::SeqCst) >= 600);
        let known = broker.attach(JOBS, "7-7").await.expect("an answer");
        assert!(matches!(known.state(), MessageState::Settled(Outcome::Processed(_))));
        drop(worker);
    });
}

#[test]
fn what_the_clock_brings_about_is_told_when_it_has_been_moved() {
    block(async {
        let broker = Broker::start();
        let producer = broker.producer(JOBS).deadline(HOUR).build().await.expect("a producer");
        for _ in 0..300 {
            let receipt = producer.send(&"x".to_owned()).await.expect("stored");
            broker.advance(HOUR + Duration::from_secs(1)).await;
            let outcome = receipt.known_outcome().expect("nobody works, and its time is over");
            assert_eq!(outcome.name(), "deadline-missed");
        }
    });
}

#[test]
fn drained_is_what_has_been_told() {
    block(async {
        for round in 0..100_u32 {
            let broker = Broker::start();
            let handler = async |_: String| Ok::<_, Failure>(1);
            let _worker = broker.worker().handle(JOBS, handler).spawn();
            let producer = broker.producer(JOBS).build().await.expect("a producer");
            let mut receipts = Vec::new();
            for number in 0..40 {
                receipts.push(producer.send(&number.to_string()).await.expect("stored"));
                match round % 4 {
                    1 if number == 20 => broker.disconnect(),
                    2 if number == 20 => broker.restart(),
                    // Answered from the ledger, or by what becomes of the first.
                    3 => {
                        receipts.push(producer.send(&"x".to_owned()).id("same").await.expect("ok"))
                    }
                    _ => {}
                }
            }
            broker.drain().await.expect("all are processed");
            let known = receipts.iter().filter(|receipt| receipt.known_outcome().is_some());
            assert_eq!(known.count(), receipts.len(), "in round {round}");
        }
    });
}

#[test]
fn a_broker_is_restarted_again_and_again() {
    block(async {
        let broker = Broker::start();
        (0..20).for_each(|_| broker.restart());
        broker.producer(JOBS).build().await.expect("it is there");
    });
}
