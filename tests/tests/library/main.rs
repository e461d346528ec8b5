//! The library against the real server: what producers are told, and what crashes take from nobody.

mod attach;
mod crashes;
mod errors;
mod losses;
mod outbox;
mod outcomes;
mod proxy;
mod testing;
mod tls;

use std::time::Duration;

use end_to_end::{Broker, shared, unique};
use wilco::{Backoff, Wilco};

/// No wait between attempts that a test would notice.
const AT_ONCE: Backoff = Backoff::constant(Duration::from_millis(1));

/// Runs a test over each transport, one after the other, on an engine that nobody else uses.
fn over_each<F: Future<Output = ()>>(test: impl Fn(Wilco) -> F) {
    let broker = shared();
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("store");
    let embedded = format!("embedded:{}", store.to_str().expect("a path in UTF-8"));
    for url in [broker.uri(), "memory:".to_owned(), embedded] {
        block(async {
            let wilco = Wilco::connect(&url).await.expect("it is there");
            test(wilco.clone()).await;
            wilco.close().await;
        });
    }
}

async fn connect(broker: &Broker) -> Wilco {
    Wilco::connect(&broker.uri()).await.expect("the broker is there")
}

/// Runs a test's future; a test that hangs fails.
fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(Duration::from_secs(60), future).await.expect("it does not hang")
    })
}
