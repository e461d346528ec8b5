//! What holds for messages that come from an outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wilco::{Capability, Context, Failure, Outbox, Relay, RunningWorker, Wilco};

use super::Bench;
use crate::process::Process;
use crate::work::{PATIENCE, Texts, queue, unique};

/// A relay that has gone is missed for so long.
const LEASE: Duration = Duration::from_secs(1);

/// An outbox in a file, and what its relays tell.
struct Shop {
    outbox: Outbox,
    queue: Texts,
    /// Which ids were told, and whether as processed.
    told: Arc<Mutex<BTreeMap<String, bool>>>,
    /// How often each id was processed.
    processed: Arc<Mutex<BTreeMap<String, u32>>>,
    _directory: tempfile::TempDir,
}

impl Shop {
    async fn open(stem: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let outbox = Outbox::open(directory.path().join("outbox")).await.expect("an outbox");
        let (told, processed) = Default::default();
        Self { outbox, queue: queue(stem), told, processed, _directory: directory }
    }

    /// A worker that notes what it processes, until the handle is dropped.
    fn work(&self, wilco: &Wilco) -> RunningWorker {
        let processed = Arc::clone(&self.processed);
        let handler = move |body: String, context: Context| {
            *processed.lock().entry(context.id().to_owned()).or_default() += 1;
            std::future::ready(Ok::<_, Failure>(body))
        };
        wilco.worker().handle(self.queue.clone(), handler).spawn()
    }

    /// A relay that notes what it tells.
    fn relay(&self, wilco: &Wilco) -> Relay {
        let told = Arc::clone(&self.told);
        self.outbox.relay(wilco).lease(LEASE).on_outcome(move |it| {
            let is_processed = it.outcome.is_ok_and(|outcome| outcome.is_processed());
            told.lock().insert(it.id, is_processed);
            std::future::ready(Ok::<_, Failure>(()))
        })
    }

    async fn send(&self, count: u32) {
        for _ in 0..count {
            let entered = self.outbox.send(self.queue.clone(), &"x".to_owned());
            entered.id(unique("outbox")).await.expect("it is in the outbox");
        }
    }

    /// Waits until so many are told; all as processed.
    async fn all_told(&self, count: u32) {
        let wait = async {
            while (self.told.lock().len() as u32) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("all are told");
        assert!(self.told.lock().values().all(|is_processed| *is_processed));
        assert_eq!(self.processed.lock().len(), count as usize);
        assert_eq!(self.outbox.pending().await.expect("an answer").len(), 0);
    }

    fn each_was_processed_once(&self) -> bool {
        self.processed.lock().values().all(|count| *count == 1)
    }
}

pub(super) async fn told(bench: Bench) {
    let shop = Shop::open("outbox").await;
    let _working = shop.work(&bench.wilco);
    shop.send(20).await;
    let relaying = tokio::spawn(shop.relay(&bench.wilco).run());
    shop.send(20).await;
    shop.all_told(40).await;
    assert!(shop.each_was_processed_once());
    relaying.abort();
}

pub(super) async fn relay_ended(bench: Bench) {
    let shop = Shop::open("outbox-relay").await;
    let _working = shop.work(&bench.wilco);
    for _ in 0..3 {
        let process = Process::start(&bench.engine).await;
        process.spawn(shop.relay(process.wilco()).run());
        shop.send(50).await;
        process.crash().await;
    }
    let relaying = tokio::spawn(shop.relay(&bench.wilco).run());
    shop.all_told(150).await;
    assert!(shop.each_was_processed_once());
    relaying.abort();
}

pub(super) async fn engine(bench: Bench) {
    if !bench.can(Capability::Durable) {
        return;
    }
    let shop = Shop::open("outbox-engine").await;
    let _working = shop.work(&bench.wilco);
    let relaying = tokio::spawn(shop.relay(&bench.wilco).run());
    shop.send(1).await;
    // RabbitMQ forgets what is in a quorum queue that it was told to make half a second ago.
    tokio::time::sleep(Duration::from_secs(1)).await;
    shop.send(100).await;
    let killing = {
        let engine = Arc::clone(&bench.engine);
        tokio::task::spawn_blocking(move || engine.kill_and_restart())
    };
    // What is put in while it is away goes out when it is there again.
    shop.send(100).await;
    killing.await.expect("it is there again");
    shop.send(100).await;
    shop.all_told(301).await;
    relaying.abort();
}
