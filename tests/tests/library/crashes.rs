//! The broker is killed and comes back, again and again, while messages are on their way.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use end_to_end::Broker;
use wilco::{Failure, Queue};

use super::{AT_ONCE, block, connect, unique};

#[test]
fn nothing_confirmed_is_lost_and_every_answer_comes_when_the_broker_is_killed() {
    let test = "nothing_confirmed_is_lost_and_every_answer_comes_when_the_broker_is_killed";
    let Some(mut broker) = Broker::own(test) else { return };
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<u32, u32> = Queue::named(unique("crashes"));
        let done: Arc<Mutex<HashMap<u32, u32>>> = Arc::default();
        let handler = {
            let done = Arc::clone(&done);
            move |number: u32| {
                *done.lock().expect("no panic").entry(number).or_default() += 1;
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    if number % 10 == 3 { Err(Failure::permanent(number)) } else { Ok(number * 2) }
                }
            }
        };
        let worker = wilco.worker().handle(queue.clone(), handler).attempts(9, AT_ONCE);
        let worker = tokio::spawn(worker.run());
        let producer = wilco.producer(queue).window(50).build().await.expect("a producer");
        let producing = tokio::spawn(async move {
            let mut receipts = Vec::new();
            for number in 0..3000_u32 {
                let send = producer.send(&number).id(format!("crash-{number}"));
                receipts.push((number, send.await.expect("stored, however long it takes")));
            }
            for (number, receipt) in receipts {
                let outcome = receipt.outcome().await.expect("known");
                match number % 10 {
                    3 => {
                        let failed = outcome.failed().expect("every tenth fails");
                        assert_eq!(failed.error, number.to_string());
                    }
                    _ => {
                        let done = outcome.processed().expect("it is processed");
                        assert_eq!(done.result().expect("a number"), number * 2);
                    }
                }
            }
        });
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            broker.kill_nine();
            tokio::time::sleep(Duration::from_millis(50)).await;
            broker.start();
        }
        producing.await.expect("every message has its outcome");
        worker.abort();
        assert_eq!(done.lock().expect("no panic").len(), 3000, "nothing was made up");
    });
}

#[test]
fn a_process_with_a_broker_in_it_is_killed_and_nothing_confirmed_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("embedded:{}", directory.path().join("store").display());
    let mut confirmed = Vec::new();
    for round in 0..4_u64 {
        let mut sending = end_to_end::broker::wilco();
        sending.args(["send", "jobs", "--lines", "-", "--url", &url]);
        let mut sending =
            sending.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut stdin = sending.stdin.take().expect("piped");
        let feeding = std::thread::spawn(move || {
            // Until it is killed.
            while (0..100_u32).all(|number| writeln!(stdin, "{number}").is_ok()) {}
        });
        // It prints an id once the message is on disk.
        let mut ids = BufReader::new(sending.stdout.take().expect("piped")).lines();
        let first = ids.next().expect("it sends").expect("a line");
        confirmed.push(first);
        std::thread::sleep(Duration::from_millis(40 * (round + 1)));
        sending.kill().expect("it runs");
        confirmed.extend(ids.map_while(Result::ok).filter(|id| id.len() == 36));
        sending.wait().expect("it ends");
        feeding.join().expect("it ends with the pipe");
    }
    assert!(confirmed.len() > 100, "{}", confirmed.len());
    block(async {
        let wilco = wilco::Wilco::connect(&url).await.expect("the store opens");
        let queue: Queue<Vec<u8>, Vec<u8>, wilco::Raw> = Queue::new("jobs");
        let handler = async |body: Vec<u8>| Ok::<_, Failure>(body);
        let worker = wilco.worker().handle(queue.clone(), handler).concurrency(200);
        let worker = tokio::spawn(worker.run());
        for id in confirmed {
            let attached = wilco.attach(queue.clone(), &id).await.expect("an answer");
            let outcome = attached.outcome().await.expect("it was confirmed, so it is known");
            assert!(outcome.is_processed(), "{id}: {outcome}");
        }
        worker.abort();
        wilco.close().await;
    });
}
