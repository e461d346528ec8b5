//! Processes that end at once, and a broker that is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use end_to_end::{Broker, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use wilco::{Failure, Outbox, OutboxState, Queue, Wilco};

use super::super::{connect, shared};
use super::{Counts, Heard, Place, Working, block, counting, heard, processed, send_all, unique};

/// The shortest there is.
const LEASE: Duration = Duration::from_secs(1);

#[test]
fn what_became_of_a_message_is_told_after_its_producer_has_crashed() {
    of_a_producer(&Place::file());
}

#[test]
fn another_relay_takes_over_from_one_that_has_crashed() {
    of_a_relay(&Place::file());
}

#[test]
fn relays_that_crash_again_and_again_lose_nothing() {
    again_and_again(&Place::file());
}

/// A process with a relay, as others see it: it ends at once, without any last word.
struct Process {
    runtime: Runtime,
    heard: Heard,
    outbox: Outbox,
}

impl Process {
    async fn start(place: &Place, broker: &Broker) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (outbox, uri) = (place.opened_by(&runtime).await, broker.uri());
        let wilco = runtime.spawn(async move { Wilco::connect(&uri).await });
        let wilco = wilco.await.expect("no panic").expect("the broker is there");
        let (relay, heard) = heard(outbox.relay(&wilco).lease(LEASE));
        runtime.spawn(relay.run());
        Self { runtime, heard, outbox }
    }

    async fn crash(self) {
        self.runtime.shutdown_background();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Place {
    async fn opened_by(&self, runtime: &Runtime) -> Outbox {
        let opened = match self {
            Self::File(_) => {
                let path = self.path();
                runtime.spawn(async { Outbox::open(path).await })
            }
            Self::Postgres(url) => {
                let url = url.clone();
                runtime.spawn(async move {
                    let pool = sqlx::PgPool::connect(&url).await.expect("it connects");
                    Outbox::postgres(pool).await
                })
            }
        };
        opened.await.expect("no panic").expect("it opens")
    }
}

pub(super) fn of_a_producer(place: &Place) {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String, u32> = Queue::named(unique("producer"));
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let counts = Counts::default();
        let handler = {
            let (begun, go_on, counts) = (Arc::clone(&begun), Arc::clone(&go_on), counts.clone());
            move |id: String| {
                let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
                counts.add(&id);
                async move {
                    begun.notify_one();
                    go_on.notified().await;
                    Ok::<_, Failure>(7)
                }
            }
        };
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        let first = Process::start(place, &broker).await;
        let body = "a".to_owned();
        let (outbox, to) = (first.outbox.clone(), queue.clone());
        let send = first.runtime.spawn(async move { outbox.send(to, &body).id("a").await });
        send.await.expect("no panic").expect("it is in the outbox");
        begun.notified().await;
        let outbox = place.open().await;
        first.crash().await;
        // Its outcome goes to nobody.
        go_on.notify_one();
        tokio::time::sleep(Duration::from_millis(200)).await;

        let state = outbox.state(queue.clone(), "a").await.expect("asked");
        assert!(matches!(state, OutboxState::Sent | OutboxState::Waiting), "{state:?}");
        let (relay, mut heard) = heard(outbox.relay(&wilco).lease(LEASE));
        let relay = Working::start(relay);
        let told = heard.next().await;
        let outcome = told.outcome.expect("it was sent").processed().expect("it was processed");
        assert_eq!((&*told.id, outcome.decode::<u32>().expect("a number")), ("a", 7));
        assert_eq!(counts.of("a"), 1, "it is not processed again");
        let report = relay.stop().await;
        assert_eq!((report.settled, report.told), (1, 1));
        // What was told is not told to the next.
        let (relay, mut heard) = super::heard(outbox.relay(&wilco).lease(LEASE));
        let relay = Working::start(relay);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(heard.is_empty());
        relay.stop().await;
        worker.abort();
    });
}

pub(super) fn of_a_relay(place: &Place) {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("takeover"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let mut first = Process::start(place, &broker).await;
        let outbox = place.open().await;
        send_all(&outbox, &queue, "before", 1).await;
        first.heard.next().await;
        let (relay, mut heard) = heard(outbox.relay(&wilco).lease(LEASE));
        let relay = Working::start(relay);
        // Some are told by the first, some are under way, some are put in after its end.
        let sending = send_all(&outbox, &queue, "during", 150);
        let crash = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let mut told = Vec::new();
            while let Ok(it) = first.heard.0.try_recv() {
                told.push(it.id);
            }
            first.crash().await;
            told
        };
        let ((), by_first) = tokio::join!(sending, crash);
        send_all(&outbox, &queue, "after", 50).await;
        let mut told = heard.ids(200 - by_first.len()).await;
        assert!(told.values().all(processed), "{told:?}");
        // The first may have been told of what it could not note any more: at least once.
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        let all = |told: &std::collections::HashMap<_, _>| {
            (0..150).all(|number| {
                let id = format!("during-{number}");
                by_first.contains(&id) || told.contains_key(&id)
            })
        };
        while !all(&told) && tokio::time::Instant::now() < end {
            let it = heard.next().await;
            told.insert(it.id.clone(), it);
        }
        assert!(all(&told));
        assert_eq!(counts.len(), 201);
        assert!(counts.are_one(), "none is processed twice: {:?}", counts.0);
        relay.stop().await;
        assert!(outbox.pending().await.expect("asked").is_empty());
        worker.abort();
    });
}

pub(super) fn again_and_again(place: &Place) {
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("again"));
        let counts = Counts::default();
        let worker = wilco.worker().handle(queue.clone(), counting(&counts)).concurrency(4);
        let worker = tokio::spawn(worker.run());
        let outbox = place.open().await;
        let mut told = HashSet::new();
        for round in 0..5 {
            let mut process = Process::start(place, &broker).await;
            // It takes over when the lease of the last one has run out.
            let first = format!("first-{round}");
            outbox.send(queue.clone(), &first).id(&first).await.expect("put in");
            while !told.contains(&first) {
                told.insert(process.heard.next().await.id);
            }
            let stem = format!("round-{round}");
            let sending = send_all(&outbox, &queue, &stem, 60);
            let crash = tokio::time::sleep(Duration::from_millis(7 * round));
            tokio::join!(sending, crash);
            while let Ok(it) = process.heard.0.try_recv() {
                told.insert(it.id);
            }
            process.crash().await;
        }
        let (relay, mut heard) = heard(outbox.relay(&wilco).lease(LEASE));
        let relay = Working::start(relay);
        while told.len() < 5 * 61 {
            told.insert(heard.next().await.id);
        }
        relay.stop().await;
        assert!(counts.are_one() && counts.len() == 5 * 61, "{:?}", counts.0);
        assert!(outbox.pending().await.expect("asked").is_empty());
        worker.abort();
    });
}

#[test]
fn a_database_that_is_killed_is_waited_for() {
    let test = "a_database_that_is_killed_is_waited_for";
    let Some(mut server) = Server::start(test, "postgresql") else { return };
    let place = Place::postgres(&server);
    let broker = shared();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("killed"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let outbox = place.open().await;
        let (relay, mut heard) = heard(outbox.relay(&wilco).lease(LEASE));
        let relay = Working::start(relay);
        send_all(&outbox, &queue, "before", 300).await;
        tokio::task::block_in_place(|| server.kill_and_restart());
        let begun = tokio::time::Instant::now();
        while let Err(error) = outbox.send(queue.clone(), &"x".to_owned()).id("after").await {
            assert!(error.is_temporary(), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = heard.ids(301).await;
        assert!(told.values().all(processed), "{told:?}");
        assert!(counts.are_one() && counts.len() == 301, "{:?}", counts.0);
        relay.stop().await;
        assert!(outbox.pending().await.expect("asked").is_empty());
        worker.abort();
    });
}

#[test]
fn what_is_sent_while_the_broker_is_away_is_processed_once_it_is_back() {
    let test = "what_is_sent_while_the_broker_is_away_is_processed_once_it_is_back";
    let Some(mut broker) = Broker::own(test) else { return };
    let place = Place::file();
    block(async {
        let wilco = connect(&broker).await;
        let queue: Queue<String> = Queue::named(unique("away"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let outbox = place.open().await;
        let (relay, mut heard) = heard(outbox.relay(&wilco).window(20));
        let relay = Working::start(relay);
        send_all(&outbox, &queue, "before", 20).await;
        heard.ids(20).await;

        broker.kill_nine();
        send_all(&outbox, &queue, "away", 100).await;
        let pending = outbox.pending().await.expect("asked");
        assert_eq!(pending.len(), 100);
        assert!(pending.iter().all(|it| it.target == queue.name() && !it.is_sent));
        tokio::time::sleep(Duration::from_millis(300)).await;
        broker.start();
        let told = heard.ids(100).await;
        assert!(told.values().all(processed), "{told:?}");
        assert_eq!(counts.len(), 120);
        assert!(counts.are_one(), "each is processed once: {:?}", counts.0);
        let report = relay.stop().await;
        assert_eq!((report.handed_over, report.told), (120, 120));
        worker.abort();
    });
}
