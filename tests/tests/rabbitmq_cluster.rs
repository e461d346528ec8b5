//! A cluster of RabbitMQ under load, while a node is killed and another one cut off: nothing that was confirmed is
//! lost, and each message gets its outcome.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use end_to_end::{Cluster, rounds, unique};
use tokio::task::JoinSet;
use wilco::{Context, Failure, Queue, Wilco};

/// How long the library may take to get over the loss of a node.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two messages, so that there are some at each moment.
const EVERY: Duration = Duration::from_millis(2);

type Seen = Arc<Mutex<HashMap<String, u32>>>;

/// What is done to the cluster while messages are sent.
fn trouble(cluster: &mut Cluster) {
    let wait = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    let nodes = cluster.node_count();
    // Producers and workers use the first node of the URL as long as it is there.
    for round in 0..rounds() {
        wait(2);
        cluster.node(round % nodes).kill();
        wait(5);
        cluster.node(round % nodes).launch();
        wait(5);
        // Those who were sent elsewhere are on the next one now.
        let number = (round + 1) % nodes;
        cluster.cut_off(number);
        // Longer than heartbeats take to notice, and than nodes wait for each other.
        wait(25);
        cluster.join(number);
        wait(5);
    }
}

#[test]
fn every_message_gets_its_outcome_whichever_node_is_lost() {
    let test = "every_message_gets_its_outcome_whichever_node_is_lost";
    let Some(mut cluster) = Cluster::start(test, "rabbitmq-4.3") else { return };
    let url = format!("{}/?heartbeat=2", cluster.uri());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let troubling = std::thread::spawn(move || {
        trouble(&mut cluster);
        cluster
    });
    let seen = Seen::default();
    let sent = runtime.block_on(load(&url, &seen, || troubling.is_finished()));
    let seen = seen.lock().expect("no panic");
    assert!(sent > 1000, "{sent} were sent");
    assert_eq!(seen.len(), sent, "each was processed");
    let again = seen.values().filter(|count| **count > 1).count();
    eprintln!("{sent} were sent, {again} of them processed more than once");
    drop(troubling.join().expect("it ends"));
}

/// Sends until the trouble is over, and waits for each outcome; how many there were.
async fn load(url: &str, seen: &Seen, is_over: impl Fn() -> bool) -> usize {
    let queue: Queue<String, String> = Queue::named(unique("cluster"));
    let wilco = Wilco::connect(url).await.expect("a cluster");
    let working = Wilco::connect(url).await.expect("a cluster");
    let handler = {
        let seen = Arc::clone(seen);
        move |body: String, context: Context| {
            let mut seen = seen.lock().expect("no panic");
            *seen.entry(context.id().to_owned()).or_default() += 1;
            std::future::ready(Ok::<_, Failure>(body))
        }
    };
    let worker = working.worker().handle(queue.clone(), handler).concurrency(16).spawn();
    let producer = wilco.producer(queue.clone()).outcome_timeout(PATIENCE).send_timeout(PATIENCE);
    let producer = producer.build().await.expect("a producer");
    let mut waiting = JoinSet::new();
    let mut count = 0_usize;
    while !is_over() {
        let sending = producer.send(&count.to_string());
        waiting.spawn(async move {
            let receipt = sending.await.expect("it is taken in the end");
            receipt.outcome().await.expect("every outcome is told")
        });
        count += 1;
        tokio::time::sleep(EVERY).await;
    }
    while let Some(told) = waiting.join_next().await {
        let outcome = told.expect("every outcome is told");
        assert!(outcome.is_processed(), "{outcome}");
    }
    drop(worker);
    let _ = wilco.delete_queue(queue.name()).await;
    count
}
