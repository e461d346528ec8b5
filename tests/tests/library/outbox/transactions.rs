//! Messages within transactions of the user's own.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::Notify;
use wilco::{ErrorKind, Outbox, OutboxState, Queue, Topic};

use super::{Counts, Place, Working, block, counting, heard, memory, processed, unique};

#[test]
fn a_message_is_sent_if_its_transaction_is_committed() {
    sent_once_committed(&Place::file());
}

#[test]
fn transactions_that_are_open_at_a_time_do_not_hide_each_others_messages() {
    several_at_a_time(&Place::file());
}

/// The same for both kinds of transactions.
macro_rules! in_a_transaction {
    ($outbox:expr, $pool:expr) => {{
        let (outbox, pool) = ($outbox, $pool);
        let queue: Queue<String> = Queue::named("stock");
        sqlx::query("CREATE TABLE orders (id TEXT)").execute(&pool).await.expect("a table");
        for (id, is_committed) in [("no", false), ("yes", true), ("dropped", false)] {
            let mut tx = pool.begin().await.expect("a transaction");
            let insert = AssertSqlSafe(format!("INSERT INTO orders VALUES ('{id}')"));
            sqlx::query(insert).execute(&mut *tx).await.expect("a row");
            let body = id.to_owned();
            let within = outbox.within(&mut tx).send(queue.clone(), &body).id(id);
            assert_eq!(within.await.expect("it is part of it"), id);
            match id {
                "dropped" => drop(tx),
                _ if is_committed => tx.commit().await.expect("committed"),
                _ => tx.rollback().await.expect("rolled back"),
            }
        }
        // One more in the same transaction as another, to another place.
        let placed: Topic<String> = Topic::named("placed");
        let mut tx = pool.begin().await.expect("a transaction");
        let body = "both".to_owned();
        outbox.within(&mut tx).send(queue, &body).id("both").await.expect("part of it");
        let told = outbox.within(&mut tx).send(placed, &body).key("k").header("a", "b");
        let id = told.await.expect("part of it");
        assert_eq!(id.len(), 36, "a UUID: {id}");
        tx.commit().await.expect("committed");
        let rows = sqlx::query("SELECT id FROM orders").fetch_all(&pool).await.expect("rows");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get::<String, _>(0), "yes");
        id
    }};
}

pub(super) fn sent_once_committed(place: &Place) {
    block(async {
        let (outbox, id) = match place {
            Place::File(_) => {
                let pool = place.sqlite().await;
                let outbox = Outbox::sqlite(pool.clone()).await.expect("an outbox");
                (outbox.clone(), in_a_transaction!(outbox, pool))
            }
            Place::Postgres(_) => {
                let pool = place.pg().await;
                let outbox = Outbox::postgres(pool.clone()).await.expect("an outbox");
                (outbox.clone(), in_a_transaction!(outbox, pool))
            }
        };
        let wilco = memory().await;
        let (stock, placed): (Queue<String>, Topic<String>) =
            (Queue::named("stock"), Topic::named("placed"));
        let counts = Counts::default();
        let mail: Queue<String> = placed.queue("mail");
        // Subscribed before anything is sent.
        let worker = wilco.worker().handle(mail, counting(&Counts::default()));
        let worker = worker.handle(stock.clone(), counting(&counts));
        let worker = tokio::spawn(worker.run());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (relay, mut heard) = heard(outbox.relay(&wilco));
        let relay = Working::start(relay);
        let told = heard.ids(3).await;
        assert!(told.values().all(processed), "{told:?}");
        let topic = &told[&id];
        assert_eq!((&*topic.target, topic.key.as_deref()), ("placed", Some("k")));
        let report = relay.stop().await;
        assert_eq!((report.handed_over, report.settled, report.told), (3, 3, 3));
        assert_eq!((counts.of("yes"), counts.of("both"), counts.len()), (1, 1, 2));
        for (id, is_known) in [("yes", true), ("no", false), ("dropped", false)] {
            let state = outbox.state(stock.clone(), id).await.expect("asked");
            match state {
                OutboxState::Settled(outcome) => assert!(is_known && outcome.is_processed()),
                OutboxState::Unknown => assert!(!is_known),
                state => panic!("{state:?}"),
            }
        }
        worker.abort();
    });
}

/// A transaction that has changed a message and stays open holds up nobody: only SQLite has one writer.
pub(super) fn left_open(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String> = Queue::named(unique("left-open"));
        let worker = wilco.worker().handle(queue.clone(), counting(&Counts::default()));
        let worker = tokio::spawn(worker.run());
        let outbox = place.open().await;
        let (hold, held) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let relay = outbox.relay(&wilco).lease(Duration::from_secs(1)).on_outcome({
            let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
            move |told| {
                let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
                async move {
                    if told.id == "a" {
                        hold.notify_one();
                        held.notified().await;
                    }
                    Ok(())
                }
            }
        });
        let relay = Working::start(relay);
        let body = "x".to_owned();
        outbox.send(queue.clone(), &body).id("a").await.expect("put in");
        hold.notified().await;
        let pool = place.pg().await;
        let mut tx = pool.begin().await.expect("a transaction");
        outbox.within(&mut tx).send(queue.clone(), &body).id("a").await.expect("part of it");
        // Now it is to be noted that it was told.
        held.notify_one();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        outbox.send(queue.clone(), &body).id("b").await.expect("put in");
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let state = outbox.state(queue.clone(), "b").await.expect("asked");
            if let OutboxState::Settled(_) = state {
                break;
            }
        }
        let state = outbox.state(queue, "b").await.expect("asked");
        assert!(matches!(state, OutboxState::Settled(_)), "{state:?}");
        tx.rollback().await.expect("rolled back");
        // It was told again, maybe more than once.
        for _ in 0..3 {
            held.notify_one();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        relay.stop().await;
        worker.abort();
    });
}

pub(super) fn several_at_a_time(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String> = Queue::named(unique("open"));
        let counts = Counts::default();
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), counting(&counts)).run());
        let outbox = place.open().await;
        let (relay, mut heard) = heard(outbox.relay(&wilco));
        let relay = Working::start(relay);
        if let Place::Postgres(_) = place {
            // The first has the smaller number, and is committed last; both have the same key.
            let pool = place.pg().await;
            let mut first = pool.begin().await.expect("a transaction");
            let body = "first".to_owned();
            let send = outbox.within(&mut first).send(queue.clone(), &body).id("first").key("k");
            send.await.expect("part of it");
            let mut second = pool.begin().await.expect("a transaction");
            let body = "second".to_owned();
            let send = outbox.within(&mut second).send(queue.clone(), &body).id("second");
            send.key("k").await.expect("part of it");
            second.commit().await.expect("committed");
            assert_eq!(heard.next().await.id, "second");
            first.commit().await.expect("committed");
            assert_eq!(heard.next().await.id, "first");

            let elsewhere = Place::file();
            let other = elsewhere.sqlite().await;
            let mut tx = other.begin().await.expect("a transaction");
            let error = outbox.within(&mut tx).send(queue.clone(), &body).await;
            let error = error.expect_err("another kind of database");
            assert_eq!(error.kind(), ErrorKind::Outbox, "{error}");
        } else {
            let elsewhere = Place::file();
            let other = elsewhere.sqlite().await;
            let mut tx = other.begin().await.expect("a transaction");
            let error = outbox.within(&mut tx).send(queue.clone(), &"x".to_owned()).await;
            let error = error.expect_err("there is no outbox");
            assert!(error.to_string().contains("no outbox where this transaction is"), "{error}");
        }
        relay.stop().await;
        worker.abort();
    });
}
