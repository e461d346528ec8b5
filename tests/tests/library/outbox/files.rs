//! Files that cannot be used: one clear error each, and nothing changed.

use std::path::Path;

use sqlx::Executor as _;
use wilco::{ErrorKind, Outbox, Queue};

use super::{Place, block, send_all};

async fn refused(path: &Path, kind: ErrorKind, says: &str) {
    let before = std::fs::read(path).expect("a file");
    let error = Outbox::open(path).await.expect_err("it cannot be used");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.to_string().contains("orders.outbox"), "{error}");
    assert!(before == std::fs::read(path).expect("a file"), "it is untouched");
}

#[test]
fn a_damaged_file_is_not_touched() {
    let place = Place::file();
    let path = place.path();
    block(async {
        std::fs::write(&path, "no database at all".repeat(1000)).expect("written");
        refused(&path, ErrorKind::OutboxDamaged, "is damaged").await;
        std::fs::remove_file(&path).expect("removed");

        let queue: Queue<String> = Queue::new("stock");
        let pool = place.sqlite().await;
        let outbox = Outbox::sqlite(pool.clone()).await.expect("it opens");
        send_all(&outbox, &queue, "x", 200).await;
        pool.close().await;
        let whole = std::fs::read(&path).expect("a file");
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
        refused(&path, ErrorKind::OutboxDamaged, "is damaged").await;
        let mut torn = whole.clone();
        let middle = torn.len() / 2;
        torn[middle..middle + 4096].fill(0xA5);
        std::fs::write(&path, &torn).expect("written");
        refused(&path, ErrorKind::OutboxDamaged, "is damaged").await;
        std::fs::write(&path, &whole).expect("written");
        let outbox = Outbox::open(&path).await.expect("it opens");
        assert_eq!(outbox.pending().await.expect("asked").len(), 200, "nothing is lost");
    });
}

#[test]
fn a_file_that_is_locked_or_newer_or_nowhere_says_so() {
    let place = Place::file();
    let path = place.path();
    block(async {
        let queue: Queue<String> = Queue::new("stock");
        let pool = place.sqlite().await;
        let outbox = Outbox::sqlite(pool.clone()).await.expect("it opens");
        send_all(&outbox, &queue, "x", 1).await;
        let other = place.sqlite().await;
        let mut holder = other.acquire().await.expect("a connection");
        holder.execute("BEGIN EXCLUSIVE").await.expect("a lock");
        let error = outbox.send(queue.clone(), &"y".to_owned()).await.expect_err("it is locked");
        assert_eq!(error.kind(), ErrorKind::OutboxInUse, "{error}");
        assert!(error.is_temporary() && error.to_string().contains("is in use"), "{error}");
        holder.execute("COMMIT").await.expect("free again");
        outbox.send(queue.clone(), &"y".to_owned()).await.expect("there is room");
        assert_eq!(outbox.pending().await.expect("asked").len(), 2);

        pool.execute("UPDATE wilco_outbox_relay SET version = 2").await.expect("newer");
        pool.close().await;
        drop(holder);
        other.close().await;
        let error = Outbox::open(&path).await.expect_err("newer than this library");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let nowhere = path.parent().expect("a directory").join("nowhere").join("orders.outbox");
        let error = Outbox::open(nowhere).await.expect_err("there is no directory");
        assert_eq!(error.kind(), ErrorKind::Outbox, "{error}");
    });
}

#[test]
fn many_may_open_a_new_file_at_the_same_time() {
    block(async {
        for _ in 0..10 {
            let place = Place::file();
            let opening = (0..8).map(|_| tokio::spawn(Outbox::open(place.path())));
            let opening: Vec<_> = opening.collect();
            let queue: Queue<String> = Queue::new("stock");
            for (number, opened) in opening.into_iter().enumerate() {
                let outbox = opened.await.expect("no panic").expect("it opens");
                send_all(&outbox, &queue, &number.to_string(), 1).await;
            }
            let pending = place.open().await.pending().await.expect("asked");
            assert_eq!(pending.len(), 8);
        }
    });
}
