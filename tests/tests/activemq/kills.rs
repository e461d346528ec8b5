//! The broker is killed and started again while there is much to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use wilco::{Backoff, Context, Failure, Outcome};

use crate::brokers::{PATIENCE, Texts, on_each, producer};

/// Messages, of which half are under way when the broker is killed for the first time.
const COUNT: usize = 1500;
const KILLS: usize = 4;

#[test]
fn nothing_confirmed_is_lost_however_often_the_broker_is_killed() {
    on_each("nothing_confirmed_is_lost_however_often_the_broker_is_killed", async |broker| {
        // As of two processes.
        let (sends, works) = (broker.connect().await, broker.connect().await);
        let queue = Texts::new("killed");
        let producer = producer(&sends, &queue).await;
        let calls = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
        let handler = {
            let calls = Arc::clone(&calls);
            move |body: String, context: Context| {
                *calls.lock().entry(context.id().to_owned()).or_default() += 1;
                async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    // Some have to wait in the broker.
                    match context.attempt() {
                        1 if body.ends_with('7') => Err(Failure::retry("not yet")),
                        _ => Ok(body),
                    }
                }
            }
        };
        let worker = works.worker().handle(queue, handler).concurrency(8);
        let working = worker.attempts(1000, Backoff::constant(Duration::from_millis(300))).spawn();
        let told = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
        let sending = tokio::spawn({
            let (told, producer) = (Arc::clone(&told), producer.clone());
            let send = move |number: usize| {
                let (told, producer) = (Arc::clone(&told), producer.clone());
                let note = move |id: &str, outcome: Outcome<String>| {
                    assert!(outcome.is_processed(), "{id}: {outcome}");
                    *told.lock().entry(id.to_owned()).or_default() += 1;
                };
                async move {
                    let (body, id) = (number.to_string(), format!("id-{number}"));
                    producer.send(&body).id(id).on_outcome(note).await.expect("taken");
                }
            };
            // Some are not confirmed when the broker is killed.
            stream::iter(0..COUNT).for_each_concurrent(64, send)
        });
        for kill in 1..=KILLS {
            let enough = COUNT * kill / (KILLS + 1);
            let began = Instant::now();
            while told.lock().len() < enough {
                assert!(began.elapsed() < PATIENCE, "{} of {enough} are told", told.lock().len());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let server = &mut broker.server;
            tokio::task::block_in_place(|| server.kill_and_restart());
        }
        sending.await.expect("all are confirmed");
        let began = Instant::now();
        while told.lock().len() < COUNT {
            assert!(began.elapsed() < PATIENCE, "{} of {COUNT} are told", told.lock().len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let is_told_once = told.lock().values().all(|count| *count == 1);
        assert!(is_told_once, "each callback is called once");
        let retried = (0..COUNT).filter(|number| number % 10 == 7).count();
        let called = calls.lock().values().sum::<u32>() as usize;
        let extra = called - COUNT - retried;
        eprintln!("{}: {KILLS} kills, {COUNT} told, {extra} calls too many", broker.name);
        let report = working.stop().await.expect("it stops");
        eprintln!("{report}");
        sends.close().await;
        works.close().await;
    });
}

#[test]
fn what_waits_in_the_broker_still_does_when_it_was_killed() {
    const DELAY: Duration = Duration::from_secs(6);
    on_each("what_waits_in_the_broker_still_does_when_it_was_killed", async |broker| {
        let wilco = broker.connect().await;
        let queue = Texts::new("waits");
        let began = Arc::new(Mutex::new(Vec::new()));
        let handler = {
            let began = Arc::clone(&began);
            move |body: String, context: Context| {
                began.lock().push(Instant::now());
                std::future::ready(match context.attempt() {
                    1 => Err(Failure::retry("not yet")),
                    _ => Ok(body),
                })
            }
        };
        let worker = wilco.worker().handle(queue.clone(), handler);
        let _working = worker.attempts(3, Backoff::constant(DELAY)).spawn();
        let receipt = producer(&wilco, &queue).await.send(&"x".to_owned()).await.expect("taken");
        while began.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The copy is on disk by then.
        tokio::time::sleep(DELAY / 6).await;
        let server = &mut broker.server;
        tokio::task::block_in_place(|| server.kill_and_restart());
        assert!(receipt.outcome_within(PATIENCE).await.expect("known").is_processed());
        let began = began.lock().clone();
        let waited = began[1].duration_since(began[0]);
        assert_eq!(began.len(), 2);
        assert!(waited >= DELAY, "{waited:?}");
        wilco.close().await;
    });
}
