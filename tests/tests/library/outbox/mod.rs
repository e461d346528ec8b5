//! The outbox: in a file and in PostgreSQL, over the server and in process.

mod crashes;
mod files;
mod places;
mod relaying;
mod telling;
mod transactions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use end_to_end::Server;
use wilco::{Failure, Outbox, Outcome, Queue, Relay, RelayReport, Told, Wilco};

use self::places::Place;
use super::{block, unique};

/// The same in PostgreSQL, one after the other, each in a database of its own.
#[test]
fn postgresql_keeps_what_a_file_keeps() {
    let test = "postgresql_keeps_what_a_file_keeps";
    let Some(server) = Server::start(test, "postgresql") else { return };
    let place = || Place::postgres(&server);
    transactions::sent_once_committed(&place());
    transactions::several_at_a_time(&place());
    crashes::of_a_producer(&place());
    crashes::of_a_relay(&place());
    crashes::again_and_again(&place());
    relaying::one_at_a_time(&place());
    relaying::lease_lost(&place());
    relaying::in_order(&place());
    relaying::lanes(&place());
    telling::again(&place());
    telling::sent_again(&place());
    transactions::left_open(&place());
    telling::looked_at(&place());
    telling::refused(&place());
}

/// How often each id was processed.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<String, u32>>>);

impl Counts {
    fn add(&self, id: &str) {
        *self.0.lock().expect("no panic").entry(id.to_owned()).or_default() += 1;
    }

    fn of(&self, id: &str) -> u32 {
        self.0.lock().expect("no panic").get(id).copied().unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// Whether each was once.
    fn are_one(&self) -> bool {
        self.0.lock().expect("no panic").values().all(|count| *count == 1)
    }
}

/// What a relay tells, as it comes.
struct Heard(tokio::sync::mpsc::UnboundedReceiver<Told>);

impl Heard {
    async fn next(&mut self) -> Told {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.recv()).await;
        next.expect("it is told in time").expect("the relay works")
    }

    /// So many different ids, with what became of them.
    async fn ids(&mut self, count: usize) -> HashMap<String, Told> {
        let mut all = HashMap::new();
        while all.len() < count {
            let told = self.next().await;
            all.insert(told.id.clone(), told);
        }
        all
    }

    fn is_empty(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// Has a relay say what it tells.
fn heard(relay: Relay) -> (Relay, Heard) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let relay = relay.on_outcome(move |told| {
        // Nobody may listen any more.
        let _ = sender.send(told);
        async { Ok(()) }
    });
    (relay, Heard(receiver))
}

/// A relay at work.
struct Working {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<RelayReport, wilco::Error>>,
}

impl Working {
    fn start(relay: Relay) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(relay.until(async { drop(stopped.await) }));
        Self { stop, task }
    }

    async fn stop(self) -> RelayReport {
        self.stop.send(()).expect("it works");
        self.task.await.expect("no panic").expect("no error")
    }
}

fn processed(told: &Told) -> bool {
    matches!(&told.outcome, Ok(Outcome::Processed(_)))
}

async fn memory() -> Wilco {
    Wilco::connect("memory:").await.expect("an engine")
}

/// Counts ids, and says nothing.
fn counting(counts: &Counts) -> impl Fn(String) -> Ready + Clone + Send + Sync + 'static {
    let counts = counts.clone();
    move |id: String| {
        counts.add(&id);
        std::future::ready(Ok(()))
    }
}

type Ready = std::future::Ready<Result<(), Failure>>;

async fn send_all(outbox: &Outbox, queue: &Queue<String>, stem: &str, count: usize) {
    for number in 0..count {
        let id = format!("{stem}-{number}");
        outbox.send(queue.clone(), &id).id(&id).await.expect("it is in the outbox");
    }
}
