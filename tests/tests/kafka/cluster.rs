//! A cluster under load: a node is killed, workers come and go, and one ends between what it did and the broker's
//! knowledge of it. Nothing that was confirmed is lost; and nothing is processed twice, as the workers share a
//! ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use end_to_end::{KafkaCluster, Server, rounds, unique};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use wilco::{Context, Failure, Queue, Wilco};

/// How long the library may take to get over whatever happens here.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two messages, so that there are some at each moment.
const EVERY: Duration = Duration::from_millis(2);

type Texts = Queue<String, String>;

/// How often each message was processed.
type Effects = Arc<Mutex<HashMap<String, u32>>>;

/// A process with a worker, as the cluster sees it: all of it can end at once.
struct Worker {
    runtime: Option<Runtime>,
}

impl Worker {
    fn start(url: &str, queue: &Texts, effects: &Effects) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, queue, effects) = (url.to_owned(), queue.clone(), Arc::clone(effects));
        let handler = move |body: String, context: Context| {
            *effects.lock().entry(context.id().to_owned()).or_default() += 1;
            std::future::ready(Ok::<_, Failure>(body))
        };
        runtime.spawn(async move {
            let wilco = Wilco::connect(&url).await.expect("a cluster");
            wilco.worker().handle(queue, handler).concurrency(16).run().await.expect("it works");
        });
        Self { runtime: Some(runtime) }
    }

    /// Ends it without a last word.
    fn crash(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What happens while messages are sent; who still works in the end.
fn trouble(cluster: &mut KafkaCluster, url: &str, queue: &Texts, effects: &Effects) -> Worker {
    let wait = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    let mut working = Worker::start(url, queue, effects);
    for round in 0..rounds() {
        wait(5);
        let number = (round + 1) % cluster.node_count();
        cluster.node(number).kill();
        wait(5);
        cluster.node(number).launch();
        // The partitions are dealt out anew, twice.
        let next = Worker::start(url, queue, effects);
        wait(8);
        // What the brokers are told from now on they hear later, or never: who ends meanwhile has processed what
        // they do not know of.
        cluster.freeze();
        wait(2);
        std::mem::replace(&mut working, next).crash();
        cluster.thaw();
        wait(15);
    }
    working
}

fn nothing_is_lost_or_processed_twice(test: &str, groups: &str) {
    let Some(mut cluster) = KafkaCluster::start(test, "kafka-4.4") else { return };
    let Some(database) = Server::start(test, "postgresql") else { return };
    let ledger = format!("postgres://postgres@{}/postgres", database.address());
    let url = format!("{}?groups={groups}&partitions=3&ledger={ledger}", cluster.uri());
    let queue = Texts::named(unique("cluster"));
    let effects = Effects::default();
    let troubling = std::thread::spawn({
        let (url, queue, effects) = (url.clone(), queue.clone(), Arc::clone(&effects));
        move || {
            let working = trouble(&mut cluster, &url, &queue, &effects);
            (cluster, working)
        }
    });
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let sent = runtime.block_on(load(&url, &queue, || troubling.is_finished()));
    let (cluster, working) = troubling.join().expect("it ends");
    let effects = effects.lock();
    let again = effects.values().filter(|count| **count > 1).count();
    eprintln!("{sent} were sent, {again} of them processed more than once");
    assert!(sent > 1000, "{sent} were sent");
    assert_eq!(effects.len(), sent, "each was processed");
    assert_eq!(again, 0, "none twice");
    drop((working, cluster));
}

/// Sends until the trouble is over, and waits for each outcome; how many there were.
async fn load(url: &str, queue: &Texts, is_over: impl Fn() -> bool) -> usize {
    let wilco = Wilco::connect(url).await.expect("a cluster");
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
    let began = Instant::now();
    while let Some(told) = waiting.join_next().await {
        let outcome = told.expect("every outcome is told");
        assert!(outcome.is_processed(), "{outcome}");
    }
    eprintln!("the last was told {:?} later", began.elapsed());
    wilco.close().await;
    count
}

#[test]
fn on_share_groups_nothing_is_lost_or_processed_twice() {
    nothing_is_lost_or_processed_twice(
        "on_share_groups_nothing_is_lost_or_processed_twice",
        "share",
    );
}

#[test]
fn on_classic_groups_nothing_is_lost_or_processed_twice() {
    nothing_is_lost_or_processed_twice(
        "on_classic_groups_nothing_is_lost_or_processed_twice",
        "classic",
    );
}
